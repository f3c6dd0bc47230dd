import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ConfigError } from '../../src/config/config-error.ts'
import { loadSecretKey } from '../../src/config/secret-key.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'key-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

describe('secret key', () => {
  it('is made once, readable by its owner only, and found again', () => {
    const dataDir = join(folder, 'new', 'data')
    const first = loadSecretKey({ dataDir })
    expect(first).toHaveLength(32)
    expect(loadSecretKey({ dataDir })).toEqual(first)
    expect(readdirSync(dataDir)).toEqual(['secret.key'])
    if (process.platform !== 'win32') expect(statSync(join(dataDir, 'secret.key')).mode & 0o777).toBe(0o600)
  })

  it('differs from folder to folder', () => {
    const keys = ['a', 'b'].map((name) => loadSecretKey({ dataDir: join(folder, name) }).toString('hex'))
    expect(new Set(keys).size).toBe(2)
  })

  it('comes from SECRET_KEY without touching the folder', () => {
    const configured = 'x'.repeat(32)
    const key = loadSecretKey({ configured, dataDir: folder })
    expect(key).toEqual(loadSecretKey({ configured, dataDir: '/nowhere' }))
    expect(key).not.toEqual(loadSecretKey({ configured: 'y'.repeat(32), dataDir: folder }))
    expect(readdirSync(folder)).toEqual([])
  })

  it.each(['', 'abc', 'z'.repeat(64)])('is not replaced when the file holds %j', (text) => {
    const path = join(folder, 'secret.key')
    writeFileSync(path, text)
    expect(() => loadSecretKey({ dataDir: folder })).toThrow(ConfigError)
    expect(readFileSync(path, 'utf8')).toBe(text)
  })

  it('says which folder cannot be used', () => {
    writeFileSync(join(folder, 'file'), '')
    expect(() => loadSecretKey({ dataDir: join(folder, 'file') })).toThrow(
      /DATA_DIR: .*secret\.key .*\(ENOTDIR|EEXIST\)/,
    )
  })
})
