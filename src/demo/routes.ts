import { randomUUID } from 'node:crypto'
import { isCanonicalUuid } from '../comfyui/protocol.ts'
import {
  type Answer,
  empty,
  json,
  jsonText,
  methodNotAllowed,
  notFound,
  type RouteRequest,
  serverError,
  text,
} from './answers.ts'
import { objectInfo } from './classes.ts'
import { customNodeRoute } from './custom-node.ts'
import { editorFile } from './editor.ts'
import { uploadImage, uploadMask, view } from './file-routes.ts'
import { isTruthy, type PromptError, toFloat, validateGraph } from './graph.ts'
import { historyEntry, queueTuple } from './history-json.ts'
import { jobsRoute } from './jobs-routes.ts'
import {
  dumpPyJson,
  isPyObject,
  type PyDumpable,
  PyJsonError,
  type PyObject,
  type PyValue,
  parsePyJson,
  pyInt,
  pyStr,
} from './py-json.ts'
import { toolingRoute } from './tooling-nodes.ts'
import { listUserdata, readUserdata } from './userdata-routes.ts'
import { features, is2026, systemStats, type WorkerState } from './worker-state.ts'

/** Something that ComfyUI does not catch; its answer is a plain 500. */
class UnhandledError extends Error {}

/** Answers a request as ComfyUI does. Never throws. */
export function answerRequest(state: WorkerState, request: RouteRequest): Answer {
  try {
    return route(state, request)
  } catch {
    // Whatever a handler throws is one plain 500 in ComfyUI.
    return serverError()
  }
}

function route(state: WorkerState, request: RouteRequest): Answer {
  const { method, path } = request
  if (method === 'OPTIONS') return empty()
  const custom = customNodeRoute(state, request) ?? toolingRoute(state, request) ?? editorFile(state, request)
  if (custom) return custom
  if (method === 'GET' || method === 'HEAD') return get(state, request) ?? notFound(path)
  if (method === 'POST') return post(state, request) ?? methodNotAllowed()
  return methodNotAllowed()
}

function get(state: WorkerState, request: RouteRequest): Answer | undefined {
  const { path, query } = request
  const { engine, catalogue } = state
  if (path.startsWith('/api/jobs')) return is2026(state) ? jobsRoute(state, request) : undefined
  const [, first = '', second, ...rest] = path.split('/')
  if (path === '/internal/folder_paths') return json({ checkpoints: ['/comfyui/models/checkpoints'] })
  if (path === '/v2/userdata') return listUserdata(state)
  if (rest.length > 0) return undefined
  const name = second === undefined ? undefined : decodeURIComponent(second)
  switch (name === undefined ? first : `${first}/`) {
    case 'prompt':
      return json({ exec_info: { queue_remaining: engine.queueRemaining } })
    case 'queue':
      return json({
        queue_running: engine.running ? [queueTuple(state, engine.running)] : [],
        queue_pending: engine.pending.map((item) => queueTuple(state, item)),
      })
    case 'history':
      return jsonText(historyPage(state, query))
    case 'history/': {
      const entry = engine.history.get(name ?? '')
      return json(new Map(entry ? [[entry.item.promptId, historyEntry(state, entry)]] : []))
    }
    case 'view':
      return view(state, request)
    case 'object_info': {
      const infos = [...catalogue.classes().values()].map((each): [string, PyDumpable] => [
        each.name,
        objectInfo(each, { is2026: is2026(state) }),
      ])
      return json(new Map(infos))
    }
    case 'object_info/': {
      const found = catalogue.classOf(name ?? '')
      return json(found ? { [found.name]: objectInfo(found, { is2026: is2026(state) }) } : {})
    }
    case 'system_stats':
      return json(systemStats(state))
    case 'features':
      return json(features(state.version))
    case 'embeddings':
      return json((catalogue.models('embeddings') ?? []).map((file) => file.replace(/\.[^./]+$/, '')))
    case 'models':
      return json(catalogue.modelFolders())
    case 'models/': {
      const models = catalogue.models(name ?? '')
      return models ? json([...models]) : empty(404)
    }
    case 'extensions':
      return json([
        ...EXTENSIONS.map((extension) => `/extensions/core/${extension}.js`),
        ...state.extensions.map((extension) => `/extensions/${extension}.js`),
      ])
    case 'users':
      return json({ storage: 'server', migrated: false })
    case 'settings':
      return json(state.settings)
    case 'settings/':
      return json(state.settings.get(name ?? '') ?? null)
    case 'userdata/':
      return readUserdata(state, name ?? '')
    case 'ws':
      return text(400, 'No WebSocket UPGRADE hdr: None\n Can "Upgrade" only to "WebSocket".')
    default:
      return undefined
  }
}

function post(state: WorkerState, request: RouteRequest): Answer | undefined {
  const { engine, settings } = state
  const { path } = request
  if (path.startsWith('/api/jobs')) return is2026(state) ? jobsRoute(state, request) : undefined
  const settingId = /^\/settings\/([^/]+)$/.exec(path)?.[1]
  if (settingId !== undefined) {
    settings.set(decodeURIComponent(settingId), parseBody(request))
    return empty()
  }
  switch (path) {
    case '/prompt':
      return postPrompt(state, parseBody(request))
    case '/queue': {
      const body = objectBody(request)
      if (isTruthy(body.get('clear'))) engine.clearPending()
      for (const id of deletions(body)) engine.remove(id)
      return empty()
    }
    case '/history': {
      const body = objectBody(request)
      if (isTruthy(body.get('clear'))) engine.clearHistory()
      for (const id of deletions(body)) engine.forgetHistory(id)
      return empty()
    }
    case '/interrupt':
      interrupt(state, request)
      return empty()
    case '/free': {
      const body = objectBody(request)
      if (isTruthy(body.get('free_memory'))) engine.clearCache()
      return empty()
    }
    case '/settings':
      for (const [key, value] of objectBody(request)) settings.set(key, value)
      return empty()
    case '/upload/image':
      return uploadImage(state, request)
    case '/upload/mask':
      return uploadMask(state, request)
    default:
      return undefined
  }
}

function postPrompt(state: WorkerState, body: PyValue): Answer {
  const { engine, catalogue } = state
  if (!isPyObject(body) && !Array.isArray(body) && typeof body !== 'string') throw new UnhandledError()
  const fields: PyObject = isPyObject(body) ? body : new Map()
  const wanted = fields.get('number')
  // In this order: a number that is none fails before the counter moves.
  const ownNumber = wanted === undefined ? engine.takeNumber() : 0
  const number =
    wanted === undefined ? pyInt(isTruthy(fields.get('front')) ? -ownNumber || 0 : ownNumber) : toFloat(wanted)
  const prompt = fields.get('prompt')
  if (prompt === undefined) return refusal(simpleError('no_prompt', 'No prompt provided'))
  const promptId = promptIdOf(state, fields)
  if (promptId === undefined) return refusal(simpleError('invalid_prompt_id', 'prompt_id must be a valid UUID'))
  const targets = fields.get('partial_execution_targets') ?? null
  const verdict = validateGraph(
    prompt,
    catalogue,
    Array.isArray(targets) ? new Set(targets.map((target) => pyStr(target))) : undefined,
  )
  const extraData = extraDataOf(state, fields)
  if (verdict.kind === 'refused') return refusal(verdict.error, verdict.nodeErrors)
  if (!isPyObject(prompt)) throw new UnhandledError()
  engine.put({ number, promptId, prompt, extraData, outputs: verdict.outputs })
  return json({ prompt_id: promptId, number, node_errors: verdict.nodeErrors })
}

function promptIdOf(state: WorkerState, fields: PyObject): string | undefined {
  const given = fields.get('prompt_id')
  if (is2026(state)) {
    if (given === undefined || given === null) return randomUUID()
    return typeof given === 'string' && isCanonicalUuid(given) ? given : undefined
  }
  return given === undefined ? randomUUID() : pyStr(given)
}

function extraDataOf(state: WorkerState, fields: PyObject): PyObject {
  const given = fields.get('extra_data')
  const clientId = fields.get('client_id')
  if (given !== undefined && !isPyObject(given)) throw new UnhandledError()
  const extraData: PyObject = given ?? new Map()
  if (clientId !== undefined) extraData.set('client_id', clientId)
  if (is2026(state)) extraData.set('create_time', pyInt(Date.now()))
  return extraData
}

const simpleError = (type: string, message: string): PromptError => ({ type, message, details: message, extraInfo: {} })

function refusal({ type, message, details, extraInfo }: PromptError, nodeErrors: PyDumpable = {}): Answer {
  return json({ error: { type, message, details, extra_info: extraInfo }, node_errors: nodeErrors }, 400)
}

function interrupt({ engine }: WorkerState, request: RouteRequest): void {
  let body: PyValue = new Map()
  try {
    body = parsePyJson(request.body.toString('utf8'))
  } catch (error) {
    // An empty or broken body means "whatever runs".
    if (!(error instanceof PyJsonError)) throw error
  }
  if (!isPyObject(body)) throw new UnhandledError()
  const promptId = body.get('prompt_id')
  if (!isTruthy(promptId)) engine.interrupt()
  else if (engine.running?.promptId === promptId) engine.interrupt()
}

function deletions(body: PyObject): string[] {
  const ids = body.get('delete')
  if (ids === undefined) return []
  if (!Array.isArray(ids)) throw new UnhandledError()
  return ids.flatMap((id) => (typeof id === 'string' ? [id] : []))
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** The body as JSON. Throws when it is none: ComfyUI answers 500 then, not 400. */
const parseBody = (request: RouteRequest): PyValue => parsePyJson(utf8.decode(request.body))

function objectBody(request: RouteRequest): PyObject {
  const body = parseBody(request)
  if (!isPyObject(body)) throw new UnhandledError()
  return body
}

function historyPage(state: WorkerState, query: URLSearchParams): string {
  const maxItems = intParam(query, 'max_items')
  let offset = intParam(query, 'offset') ?? -1
  const { history } = state.engine
  if (offset < 0 && maxItems !== undefined) offset = history.size - maxItems
  const entries: string[] = []
  let index = 0
  for (const entry of history.values()) {
    if (index >= offset) {
      entries.push(`${dumpPyJson(entry.item.promptId)}: ${dumpPyJson(historyEntry(state, entry))}`)
      if (maxItems !== undefined && entries.length >= maxItems) break
    }
    index += 1
  }
  return `{${entries.join(', ')}}`
}

function intParam(query: URLSearchParams, name: string): number | undefined {
  const value = query.get(name)
  if (value === null) return undefined
  if (!/^\s*[+-]?\d+\s*$/.test(value)) throw new UnhandledError()
  return Number(value)
}

const EXTENSIONS =
  'maskeditor rerouteNode uploadImage groupNode webcamCapture slotDefaults groupOptions noteNode invertMenuScrolling tooltips clipspace uploadAudio colorPalette editAttention saveImageExtraOutput dynamicPrompts simpleTouchSupport widgetInputs linkRenderMode nodeTemplates groupNodeManage snapToGrid contextMenuFilter keybinds'.split(
    ' ',
  )
