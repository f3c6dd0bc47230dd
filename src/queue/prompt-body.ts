import type { Sealer } from '../auth/sealer.ts'
import { listsChoice, type ObjectInfo } from '../comfyui/object-info.ts'
import { quotePython } from '../comfyui/python-json.ts'
import { type JsonNode, type JsonObject, member, numberSource, parseJson, stringValue } from '../comfyui/raw-json.ts'
import { Splicer } from '../comfyui/raw-json-edit.ts'
import type { PromptBody } from '../store/store.ts'

/**
 * The text of a prompt on its way: what is taken out before it is kept, what is put in before it leaves. The graph's
 * bytes stay as they came, but for literals that name a file or a choice in the gateway's or another worker's spelling.
 */

/** Credentials of partner nodes that clients send in `extra_data`; never kept in the open, never shown. */
const PARTNER_KEYS = ['api_key_comfy_org', 'auth_token_comfy_org']

/** Members of the body that are for the gateway alone. */
const OWN_MEMBERS = ['priority', 'number', 'front']

/** Splits a body into what may rest in the open and the sealed keys. */
export function bodyToKeep(text: string, root: JsonObject, sealer: Sealer): PromptBody {
  const extra = member(root, 'extra_data')
  if (extra?.kind !== 'object') return { text, sealed: undefined }
  const keys = PARTNER_KEYS.flatMap((key) => {
    const node = member(extra, key)
    return node ? [[key, text.slice(node.start, node.end)] as const] : []
  })
  if (keys.length === 0) return { text, sealed: undefined }
  const splicer = new Splicer(text)
  for (const [key] of keys) splicer.removeMember(extra, key)
  return { text: splicer.apply(), sealed: sealer.seal(JSON.stringify(keys)) }
}

export interface UpstreamForm {
  upstreamId: string
  /** The client id of the worker's socket. */
  upstreamClientId: string
  info: ObjectInfo | undefined
  /** The worker's own name for a literal that names a file the gateway gave out; undefined when it is none. */
  ownName(literal: string, classType: string): string | undefined
  sealer: Sealer
}

/** The body as it goes to one worker. */
export function bodyForWorker(body: PromptBody, form: UpstreamForm): string {
  const root = parseJson(body.text)
  if (root.kind !== 'object') throw new TypeError('a kept body is not an object')
  const splicer = new Splicer(body.text)
  splicer.setMember(root, 'prompt_id', quotePython(form.upstreamId))
  splicer.setMember(root, 'client_id', quotePython(form.upstreamClientId))
  for (const key of OWN_MEMBERS) splicer.removeMember(root, key)
  const keys = openKeys(body.sealed, form.sealer)
  const extra = member(root, 'extra_data')
  if (extra?.kind === 'object') {
    splicer.removeMember(extra, 'client_id')
    for (const [key, json] of keys) splicer.setMember(extra, key, json)
  }
  spliceLiterals(splicer, member(root, 'prompt'), form)
  return splicer.apply()
}

function openKeys(sealed: string | undefined, sealer: Sealer): [string, string][] {
  const text = sealed === undefined ? undefined : sealer.open(sealed)
  return text === undefined ? [] : (JSON.parse(text) as [string, string][]) // Written by `bodyToKeep`, authenticated.
}

function spliceLiterals(splicer: Splicer, graph: JsonNode | undefined, form: UpstreamForm): void {
  for (const { classType, input, value, node } of literalsOf(graph)) {
    const own = form.ownName(value, classType)
    const name = own ?? value
    const spelled = form.info ? listsChoice(form.info, classType, input, name) : undefined
    const final = spelled ?? own
    if (final !== undefined && final !== value) splicer.replace(node, quotePython(final))
  }
}

export interface Literal {
  classType: string
  input: string
  value: string
  node: JsonNode
}

/** Every string that a node of the graph has directly as an input. */
export function* literalsOf(graph: JsonNode | undefined): Generator<Literal> {
  if (graph?.kind !== 'object') return
  for (const { value: node } of graph.members) {
    const inputs = member(node, 'inputs')
    const classType = stringValue(member(node, 'class_type'))
    if (inputs?.kind !== 'object' || classType === undefined) continue
    for (const { key, value } of inputs.members) {
      const text = stringValue(value)
      if (text !== undefined) yield { classType, input: key, value: text, node: value }
    }
  }
}

/** Inputs that decide how much memory a run takes. */
const SIZE_INPUTS = new Set([
  'width',
  'height',
  'batch_size',
  'length',
  'frames',
  'num_frames',
  'megapixels',
  'scale_by',
  'upscale_by',
])
const MAX_SIZES = 100

/** The graph's numbers that say how large its pictures are, in its order. */
export function sizesOf(graph: JsonNode): number[] {
  if (graph.kind !== 'object') return []
  const sizes: number[] = []
  for (const { value: node } of graph.members) {
    const inputs = member(node, 'inputs')
    if (inputs?.kind !== 'object') continue
    for (const { key, value } of inputs.members) {
      if (value.kind === 'number' && SIZE_INPUTS.has(key) && sizes.length < MAX_SIZES)
        sizes.push(Number(numberSource(value)))
    }
  }
  return sizes
}

/** Texts of the graph and of `extra_data` as clients see them in queue and history: with their client id, without keys. */
export function shownParts(
  text: string,
  clientId: string | undefined,
  createdAt: number,
): { graph: string; extraData: string } {
  const root = parseJson(text)
  const graph = member(root, 'prompt')
  return {
    graph: graph ? text.slice(graph.start, graph.end) : '{}',
    extraData: shownExtraData(text, member(root, 'extra_data'), clientId, createdAt),
  }
}

/** `extra_data` as clients see it. `create_time` is ours: workers stamp the moment of dispatch. */
export function shownExtraData(
  text: string,
  extra: JsonNode | undefined,
  clientId: string | undefined,
  createdAt: number,
): string {
  const source = extra?.kind === 'object' ? text.slice(extra.start, extra.end) : '{}'
  const object = parseJson(source)
  if (object.kind !== 'object') return '{}'
  const splicer = new Splicer(source)
  for (const key of PARTNER_KEYS) splicer.removeMember(object, key)
  splicer.setMember(object, 'create_time', String(createdAt))
  if (clientId === undefined) splicer.removeMember(object, 'client_id')
  else splicer.setMember(object, 'client_id', quotePython(clientId))
  return splicer.apply()
}
