import { posix, win32 } from 'node:path'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { pathInside, pathOfName } from '../../src/userdata/user-path.ts'

it('reads names as clients send them', () => {
  for (const [name, path] of [
    ['a.json', 'a.json'],
    ['./w//b/../a.json', 'w/a.json'],
    ['w\\a.json', 'w/a.json'],
    ['w%2Fa%20b.json', 'w/a b.json'],
    ['100%.json', '100%.json'],
    ['%ff.json', '\ufffd.json'],
    ['..a/...', '..a/...'],
    ['', ''],
    ['.', ''],
    ['../default/a.json', undefined],
    ['w/../../a', undefined],
    ['%2e%2e/a', undefined],
    ['/a', undefined],
    ['\\\\host\\share', undefined],
    ['C:a', undefined],
  ] as const) {
    expect([name, pathOfName(name)]).toEqual([name, path])
  }
})

it('never leaves the folder, on any system', () => {
  const part = fc.constantFrom('..', '.', '', 'a', '...', '%2e', '%2f', '%5c', 'C:', '\0', '~')
  const name = fc.array(fc.tuple(part, fc.constantFrom('/', '\\', ''))).map((parts) => parts.flat().join(''))
  fc.assert(
    fc.property(name, (text) => {
      for (const path of [pathInside(text), pathOfName(text)]) {
        if (path === undefined) continue
        expect(path.split(/[/\\]/)).not.toContain('..')
        expect(posix.resolve('/root', path)).toMatch(/^\/root(\/|$)/)
        expect(win32.resolve('D:\\root', path)).toMatch(/^D:\\root(\\|$)/)
      }
    }),
  )
})
