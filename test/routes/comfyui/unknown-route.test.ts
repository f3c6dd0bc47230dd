import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { judgeRoute, type RouteRules } from '../../../src/routes/comfyui/unknown-route.ts'

const on = (port: RouteRules['port'], passThrough: readonly string[] = ['all']): RouteRules => ({ port, passThrough })
const judge = (target: string, rules = on('main')) => {
  const [method = '', url = ''] = target.split(' ')
  return judgeRoute({ method, url }, rules)
}

const dangerous = [
  '/manager/reboot',
  '/manager/queue/install',
  '/manager/queue/start',
  '/manager/queue/update_all',
  '/manager/queue/install_model',
  '/manager/preview_method',
  '/customnode/install',
  '/customnode/install/git_url',
  '/customnode/install/pip',
  '/customnode/update',
  '/snapshot/restore',
  '/comfyui_manager/comfyui_switch_version',
  '/model/install',
  '/v2/manager/queue/start',
  '/v2/manager/queue/task',
  '/v2/manager/reboot',
  '/v2/customnode/install/pip',
  '/v2/snapshot/restore',
  '/v2/comfyui_manager/comfyui_switch_version',
  '/somepack/reboot',
]

/** Spellings of a path that some server, or something in front of it, reads as the same. */
const spellings = (path: string): string[] => {
  const encoded = path.replace(/[a-z]/, (letter) => `%${letter.charCodeAt(0).toString(16)}`)
  return [
    path,
    `/api${path}`,
    `/api/api${path}`,
    `${path}/`,
    `${path}//`,
    `/${path}`,
    `/api/${path}`,
    path.toUpperCase(),
    path.replaceAll('/', '//'),
    path.replaceAll('/', '%2f').replace('%2f', '/'),
    path.replaceAll('/', '\\').replace('\\', '/'),
    encoded,
    encoded.replaceAll('%', '%25'),
    encoded.replaceAll('%', '%2525'),
    `/.${path}`,
    `/%2e${path}`,
    `/x/..${path}`,
    `/x/%2e%2e${path}`,
    `/x/%252e%252e${path}`,
    `${path}?a=1`,
    `${path}#x`,
    `${path};x=1`,
    `${path}%20`,
    `${path}%3Fx`,
    `${path}%00`,
    `http://other${path}`,
    `/manager/version/..${path}`,
  ]
}

describe('what installs, updates or restarts', () => {
  it.each(dangerous)('is closed in every spelling: %s', (path) => {
    for (const url of spellings(path)) {
      for (const method of ['GET', 'POST', 'PUT', 'DELETE', 'HEAD']) {
        for (const port of ['main', 'editor'] as const) {
          const verdict = judgeRoute({ method, url }, on(port))
          expect([url, method, port, verdict === 'closed' || verdict === 'nobody']).toEqual([url, method, port, true])
        }
      }
    }
  })

  it('is closed although the allow-list names it', () => {
    expect(judge('POST /manager/reboot', on('main', ['/manager']))).toBe('closed')
  })

  it.each(['/manager/version', '/v2/manager/version', '/api/v2/manager/queue/status', '/customnode/installed'])(
    'does not keep clients from asking GET %s',
    (path) => {
      expect(judge(`GET ${path}`)).toBe('custom')
      expect(judge(`POST ${path}`)).toBe('closed')
      expect(judge(`GET ${path}/`)).toBe('closed')
    },
  )
})

describe('what only the gateway answers', () => {
  it.each([
    'POST //prompt',
    'POST /%70rompt/',
    'POST /PROMPT',
    'POST /api//api/prompt',
    'POST /x/../prompt',
    'POST /queue/',
    'GET /history/a/b',
    'GET /api/v2/jobs/a',
    'GET /api/workers/x/y',
    'GET /api/gateway/none',
    'GET /api/assets/a',
    'GET /userdata/a/b',
    'PUT /upload/image',
    'GET /internal/none',
    'GET /metrics/x',
    'GET /ws/x',
    'GET /view/',
    'GET /view%2f',
  ])('reaches no worker: %s', (target) => {
    expect(judge(target)).toBe('nobody')
    expect(judge(target, on('editor'))).toBe('nobody')
  })

  it.each(['GET /', 'GET /cluster/x', 'GET /assets/none.js', 'GET /favicon.ico', 'GET /index.html', 'GET /api/'])(
    "is not taken for a worker's on the page's own port: %s",
    (target) => expect(judge(target)).toBe('nobody'),
  )
})

describe('the front end', () => {
  it.each(['/extensions', '/api/extensions', '/extensions/a/b.js', '/i18n', '/api/i18n', '/workflow_templates'])(
    'comes from one worker on both ports, whatever is passed on: GET %s',
    (path) => {
      for (const port of ['main', 'editor'] as const) expect(judge(`GET ${path}`, on(port, ['off']))).toBe('ui')
    },
  )

  it.each(['/', '/index.html', '/assets/a-1.js', '/scripts/app.js', '/user.css', '/fonts/a.woff2', '/api/'])(
    "is at the root of the editor's port: GET %s",
    (path) => expect(judge(`GET ${path}`, on('editor', ['off']))).toBe('ui'),
  )
})

describe('what is unknown', () => {
  it.each([
    'GET /vhs/queryvideo',
    'POST /api/etn/workflow/publish',
    'POST /easyuse/x',
    'GET /view_metadata/a',
    'DELETE /pack/x',
  ])('is passed on by default: %s', (target) => expect(judge(target)).toBe('custom'))

  it.each(['PUT /api/etn/image/1', 'GET /api//ETN/%69mage/1', 'GET /etn/image/1'])(
    'is not passed on where clients would share pictures: %s',
    (target) => expect(judge(target)).toBe('nobody'),
  )

  it('is passed on for listed paths only, or not at all', () => {
    const listed = on('main', ['/vhs', '/easy/use'])
    expect(judge('GET /api/vhs/queryvideo', listed)).toBe('custom')
    expect(judge('GET /VHS', listed)).toBe('custom')
    expect(judge('GET /easy/use/x', listed)).toBe('custom')
    for (const other of ['GET /vhsx', 'GET /easy', 'GET /x/vhs']) expect(judge(other, listed)).toBe('nobody')
    expect(judge('GET /vhs', on('main', ['off']))).toBe('nobody')
  })

  it.each([
    'GET /a/../b',
    'GET /a/%2e%2e/b',
    'GET /a/%252e%252e%252fb',
    'GET /a%00',
    'GET /a%0d%0ab',
    'GET a',
    'GET *',
  ])('is not passed on with a path that climbs or is none: %s', (target) => expect(judge(target)).toBe('nobody'))

  it('gets a verdict whatever the path is', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(['ui', 'custom', 'closed', 'nobody']).toContain(judgeRoute({ method: 'GET', url: text }, on('main')))
      }),
    )
  })
})
