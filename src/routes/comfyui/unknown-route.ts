/** Which requests that no route of the gateway answers may reach a worker, and which worker: names only, no I/O. */

export type RouteVerdict =
  /** Must come from the one worker whose front end is shown. */
  | 'ui'
  /** A custom node's: to the caller's own worker. */
  | 'custom'
  /** Installs, updates or restarts what runs on a worker. */
  | 'closed'
  /** The gateway's own path, or one that nothing is passed on for. */
  | 'nobody'

export interface RouteRules {
  /** The editor's port, where the whole front end is; else the gateway's own, which has pages of its own. */
  port: 'main' | 'editor'
  /** `PASS_THROUGH`: `all`, `off`, or beginnings of paths, lower case, without `/api`. */
  passThrough: readonly string[]
}

/** What only the gateway answers, in whatever spelling: the queue, the files and the state that are one for the fleet. */
const GATEWAY_ONLY = new Set([
  'cluster',
  'comfy',
  'free',
  'gateway',
  'health',
  'history',
  'internal',
  'interrupt',
  'jobs',
  'metrics',
  'prompt',
  'queue',
  'ready',
  'settings',
  'tags',
  'task',
  'upload',
  'userdata',
  'users',
  'view',
  'workers',
  'ws',
])
/** Under `/v2`; the rest of it is ComfyUI-Manager's. */
const GATEWAY_ONLY_V2 = new Set(['assets', 'health', 'jobs', 'userdata'])
/** Of the page on the gateway's own port. */
const PAGE_PATHS = new Set(['', 'assets', 'favicon.ico', 'favicon.svg', 'index.html', 'robots.txt'])
/** ComfyUI's own routes that belong to its front end. */
const UI_PATHS = new Set([
  'docs',
  'extensions',
  'global_subgraphs',
  'i18n',
  'node_replacements',
  'templates',
  'workflow_templates',
])
/** ComfyUI-Manager's, of all its versions. Many of its GETs change something. */
const MANAGER = new Set(['comfyui_manager', 'customnode', 'externalmodel', 'manager', 'snapshot'])
/** What clients ask to learn whether there is a Manager; exactly these, so that no spelling slips through. */
const HARMLESS =
  /^(\/api)?(\/v2)?\/(manager\/(version|is_legacy_manager_ui|queue\/status)|customnode\/(installed|getmappings))$/
const MAX_DECODINGS = 5

/** `url`: the request's target as it came. */
export function judgeRoute({ method, url }: { method: string; url: string }, rules: RouteRules): RouteVerdict {
  const isRead = method === 'GET' || method === 'HEAD'
  const raw = pathOf(url)
  const segments = segmentsOf(raw)
  if (segments === undefined) return 'nobody'
  const isApi = segments[0] === 'api'
  const route = segments.slice(segments.findIndex((segment) => segment !== 'api'))
  const bare = isApi && segments.every((segment) => segment === 'api') ? [] : route
  if (isManagers(bare)) return isRead && HARMLESS.test(raw) ? passed(bare, rules) : 'closed'
  const [head = '', next = ''] = bare
  if (GATEWAY_ONLY.has(head) || (head === 'v2' && GATEWAY_ONLY_V2.has(next))) return 'nobody'
  if (isApi && head === 'assets') return 'nobody'
  // Pictures of clients, which each owner has for itself.
  if (head === 'etn' && next === 'image') return 'nobody'
  if (rules.port === 'main' && (head === '' || (!isApi && PAGE_PATHS.has(head)))) return 'nobody'
  if (isRead && UI_PATHS.has(head)) return 'ui'
  if (isRead && rules.port === 'editor' && isFrontEndFile(bare, isApi)) return 'ui'
  return passed(bare, rules)
}

/** The path of a request's target, without query; absolute targets have a scheme and a host in front. */
export const pathOf = (url: string): string =>
  url.replace(/^[a-z][a-z0-9+.-]*:\/\/[^/?#]*/i, '').replace(/[?#].*$/s, '')

/**
 * The path as the most lenient server behind the gateway could read it: decoded until nothing is left to decode, `\` as
 * `/`, without empty parts, lower case. Undefined when it climbs, or has bytes that no path needs.
 */
function segmentsOf(path: string): string[] | undefined {
  let plain = path
  for (let round = 0; /%[0-9a-f]{2}/i.test(plain); round++) {
    if (round === MAX_DECODINGS) return undefined
    plain = plain.replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
  }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be in a path.
  if (!plain.startsWith('/') || /[\0-\x1f\x7f]/.test(plain)) return undefined
  const parts = plain
    .toLowerCase()
    .replaceAll('\\', '/')
    .split(/[/?#]/)
    .map((part) => part.replace(/;.*$/, '').trim())
    .filter((part) => part !== '')
  return parts.some((part) => part === '.' || part === '..') ? undefined : parts
}

function isManagers(bare: readonly string[]): boolean {
  const route = bare.filter((segment, index) => !(/^v\d+$/.test(segment) && index === 0))
  const [head = '', next = ''] = route
  if (MANAGER.has(head) || (head === 'model' && next === 'install')) return true
  return route.includes('reboot')
}

/** The front end's own files: at the root, and whatever else is a file by its name. */
function isFrontEndFile(bare: readonly string[], isApi: boolean): boolean {
  if (bare.length === 0) return true
  return !isApi && (bare[0] === 'assets' || /\.[a-z0-9]+$/.test(bare.at(-1) ?? ''))
}

function passed(bare: readonly string[], { passThrough }: RouteRules): RouteVerdict {
  if (passThrough.includes('all')) return 'custom'
  const path = `/${bare.join('/')}`
  return passThrough.some((start) => path === start || path.startsWith(`${start}/`)) ? 'custom' : 'nobody'
}
