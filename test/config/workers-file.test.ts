import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { rootCertificates } from 'node:tls'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { readWorkersFile } from '../../src/config/workers-file.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'workers-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

function read(text: string, name = 'workers.yaml') {
  writeFileSync(join(folder, name), text)
  const problems: string[] = []
  const seeds = readWorkersFile(join(folder, name), problems)
  return { seeds, problems: problems.map((problem) => problem.replace('WORKERS_FILE: ', '').replaceAll(folder, '')) }
}

const pem = rootCertificates[0] ?? ''

describe('workers file', () => {
  it('reads every field of an entry', () => {
    mkdirSync(join(folder, 'certs'))
    writeFileSync(join(folder, 'certs/ca.pem'), `# my CA\n${pem}\n${rootCertificates[1]}\n`)
    const { seeds, problems } = read(`
- http://gpu1:8188/
- url: https://gpu2/comfy/
  name: big one
  weight: 2.5
  slots: 2
  tags: [flux, video]
  headers: { X-Key: "123" }
  ca: certs/ca.pem
  auth: { username: me, password: "s3cret" }
  metadata: { rack: 4, owner: { name: Ann } }
`)
    expect(problems).toEqual([])
    expect(seeds[0]).toEqual({ url: 'http://gpu1:8188', weight: 1, slots: 1, tags: [], headers: {}, metadata: {} })
    expect(seeds[1]).toEqual({
      url: 'https://gpu2/comfy',
      name: 'big one',
      weight: 2.5,
      slots: 2,
      tags: ['flux', 'video'],
      headers: { 'X-Key': '123' },
      ca: `${pem.trim()}\n${rootCertificates[1]?.trim()}`,
      auth: { username: 'me', password: 's3cret' },
      metadata: { rack: 4, owner: { name: 'Ann' } },
    })
  })

  it('reads JSON with the list under "workers", credentials in the URL and PEM text', () => {
    const entry = { url: 'http://me:pw@gpu', ca: pem }
    const { seeds, problems } = read(`\uFEFF${JSON.stringify({ workers: [entry] }, null, '\t')}`, 'w.json')
    expect(problems).toEqual([])
    expect(seeds).toEqual([expect.objectContaining({ url: 'http://gpu', auth: { username: 'me', password: 'pw' } })])
  })

  it('reports every mistake with its entry number', () => {
    const { seeds, problems } = read(`
- url: http://ok
- 7
- wieght: 2
- url: gpu:8188
  weight: 0
  slots: 1.5
  name: 12
  tags: flux
- url: http://me:pw@gpu
  auth: { username: a:b, pass: x }
  ca: absent.pem
  headers: { Host: a, "bad name": b, X-Number: 5, X-Line: "a\\nb", Authorization: z }
`)
    expect(seeds.map(({ url }) => url)).toEqual(['http://ok'])
    expect(problems).toEqual([
      'entry 2: must be a URL or an object with "url"',
      'entry 3: "wieght" is not a known field; known are url, name, weight, slots, tags, headers, ca, auth, metadata',
      'entry 3: url is missing',
      'entry 4: name must be text (put numbers and words like "yes" in quotes)',
      'entry 4: weight must be more than 0',
      'entry 4: slots must be a whole number',
      'entry 4: tags must be a list',
      'entry 4: url must start with http:// or https://',
      'entry 5: headers.X-Number must be text (put numbers and words like "yes" in quotes)',
      expect.stringMatching(/^entry 5: auth .*"password"/),
      expect.stringMatching(/^entry 5: auth .*"pass"/),
      'entry 5: auth.username must not contain a colon',
      'entry 5: auth is given twice: in "url" and in "auth"',
      'entry 5: headers.Host cannot be set',
      'entry 5: headers: "bad name" is not a header name',
      'entry 5: headers.X-Line has characters that a header cannot carry',
      'entry 5: headers.Authorization is given beside "auth"',
      'entry 5: ca: /absent.pem cannot be read (ENOENT)',
    ])
  })

  it.each([
    [
      'w.yaml',
      '- url: "http://a\n  password: hunter2: x',
      /^\/w\.yaml is not valid YAML \(\w+ at line \d+, column \d+\)$/,
    ],
    ['w.json', '[{"password": hunter2}]', /^\/w\.json is not valid JSON$/],
    ['w.yaml', '', /must hold a list of workers/],
    ['w.yaml', 'workers: none', /must hold a list of workers/],
    ['w.yaml', 'workers: []\nmore: 1', /must hold a list of workers/],
    ['w.yaml', '- *nowhere', /is not valid YAML/],
  ])('says what is wrong with %s holding %j, without its text', (name, text, problem) => {
    const { seeds, problems } = read(text, name)
    expect(seeds).toEqual([])
    expect(problems).toEqual([expect.stringMatching(problem)])
    expect(problems.join()).not.toContain('hunter2')
  })

  it('refuses a bomb of aliases instead of unfolding it', () => {
    const levels = Array.from(
      { length: 30 },
      (_, i) => `x${i}: &x${i} [${i === 0 ? '1' : `*x${i - 1}, *x${i - 1}, *x${i - 1}`}]`,
    )
    expect(read(`${levels.join('\n')}\nworkers: *x29`).problems).toEqual([expect.stringMatching(/is not valid YAML/)])
  })

  it('never repeats a secret of an entry', () => {
    const { problems } = read(`
- { url: "http://a:hunter2@b/?q=hunter2", auth: { username: "hunter2:", password: [hunter2] } }
- { url: "http://b", headers: { X-Key: [hunter2], X-B: "hunter2\\n" }, ca: "-----BEGIN hunter2" }
`)
    expect(problems.length).toBeGreaterThanOrEqual(6)
    expect(problems.join()).not.toContain('hunter2')
  })

  it('refuses a certificate that is not one', () => {
    const broken = pem.replace(/\n[^\n]+\n/, '\nAAAA\n')
    expect(read(JSON.stringify([{ url: 'https://a', ca: broken }]), 'w.json').problems).toEqual([
      'entry 1: ca does not hold PEM certificates that can be read',
    ])
  })
})
