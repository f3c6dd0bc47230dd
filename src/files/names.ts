import { quotePython } from '../comfyui/python-json.ts'
import { type JsonNode, type JsonObject, member, stringValue } from '../comfyui/raw-json.ts'
import type { Splicer } from '../comfyui/raw-json-edit.ts'
import type { OutputFile } from '../store/store.ts'

/**
 * The one namespace of files. Every worker writes `ComfyUI_00001_.png`, and `/view` does not say whose is meant; so
 * clients see outputs below a folder that stands for the worker's disk: `subfolder` = `<token>[/<its subfolder>]`.
 */

/** A file as its worker names it. */
export type WorkerFile = Pick<OutputFile, 'type' | 'subfolder' | 'filename'>

/** A file record in a worker's JSON. */
export interface FileRecord {
  file: WorkerFile
  node: JsonObject
}

/** `token` or `token/sub`. */
export const clientSubfolder = (token: string, subfolder: string): string =>
  subfolder === '' ? token : `${token}/${subfolder}`

/** Splits a client's subfolder at the first slash; whether the first part is a token is for the caller to know. */
export function splitSubfolder(subfolder: string): { head: string; rest: string } {
  const at = subfolder.indexOf('/')
  return at < 0 ? { head: subfolder, rest: '' } : { head: subfolder.slice(0, at), rest: subfolder.slice(at + 1) }
}

/** Where a client gets a file, from the gateway's root. */
function viewPath(file: WorkerFile, token: string): string {
  const query = new URLSearchParams({
    filename: file.filename,
    subfolder: clientSubfolder(token, file.subfolder),
    type: file.type,
  })
  return `/api/view?${query}`
}

/** A name that the worker could have on its disk and that no check has to be made for again. */
export function isPlainPath(path: string): boolean {
  return !path.startsWith('/') && !path.includes('\0') && !/(^|\/)\.\.(\/|$)/.test(path) && !/^[A-Za-z]:/.test(path)
}

/** All records `{filename, subfolder?, type: output|temp}` below a node, in order of the text. */
export function* fileRecordsIn(node: JsonNode | undefined): Generator<FileRecord> {
  const open: JsonNode[] = node ? [node] : []
  for (let current = open.pop(); current; current = open.pop()) {
    if (current.kind === 'object') {
      const file = fileOf(current)
      if (file) yield { file, node: current }
      for (let index = current.members.length - 1; index >= 0; index--) {
        const child = current.members[index]?.value
        if (child?.kind === 'object' || child?.kind === 'array') open.push(child)
      }
    } else if (current.kind === 'array') {
      for (let index = current.items.length - 1; index >= 0; index--) {
        const child = current.items[index]
        if (child?.kind === 'object' || child?.kind === 'array') open.push(child)
      }
    }
  }
}

function fileOf(node: JsonObject): WorkerFile | undefined {
  const filename = stringValue(member(node, 'filename'))
  const type = stringValue(member(node, 'type'))
  if (filename === undefined || filename === '' || (type !== 'output' && type !== 'temp')) return undefined
  // A Windows worker separates with backslashes, which no client and no URL should have to know.
  const subfolder = (stringValue(member(node, 'subfolder')) ?? '').replaceAll('\\', '/').replace(/^\/+|\/+$/g, '')
  return isPlainPath(subfolder) && isPlainPath(filename) ? { type, subfolder, filename } : undefined
}

/** Endings of what nodes write; plain strings with one of them are taken for file names. */
const FILE_ENDING =
  /\.(png|jpe?g|webp|gif|avif|svg|mp4|webm|mov|mkv|wav|mp3|flac|ogg|opus|glb|gltf|obj|ply|stl|fbx|splat|json|txt|safetensors|latent|exr)$/i

/** Files that a node names as a plain path instead of a record (3D and some video nodes). */
export function* plainPathsIn(node: JsonNode | undefined): Generator<WorkerFile> {
  const open: JsonNode[] = node ? [node] : []
  for (let current = open.pop(); current; current = open.pop()) {
    if (current.kind === 'object') {
      if (!fileOf(current)) for (const { value } of current.members) open.push(value)
    } else if (current.kind === 'array') {
      for (const item of current.items) open.push(item)
    } else if (current.kind === 'string') {
      const path = stringValue(current)?.replaceAll('\\', '/') ?? ''
      if (path.length > 500 || !FILE_ENDING.test(path) || !isPlainPath(path)) continue
      const at = path.lastIndexOf('/')
      yield { type: 'output', subfolder: at < 0 ? '' : path.slice(0, at), filename: path.slice(at + 1) }
    }
  }
}

/** Puts a file record into the clients' form; with `url` it also says where the bytes are. */
export function renameRecord(splicer: Splicer, record: FileRecord, token: string, options: { url: boolean }): void {
  splicer.setMember(record.node, 'subfolder', quotePython(clientSubfolder(token, record.file.subfolder)))
  if (options.url) splicer.setMember(record.node, 'url', quotePython(viewPath(record.file, token)))
}

const ANNOTATION = / \[(output|temp|input)\]$/

/**
 * A literal that names a file in the clients' form, such as `token/sub/a.png [output]`: its token and the name that the
 * worker itself knows it by. Undefined when it does not begin with something that could be a token.
 */
export function readFileLiteral(literal: string): { token: string; ownName: string } | undefined {
  const bare = literal.replace(ANNOTATION, '')
  const at = bare.indexOf('/')
  if (at <= 0 || at === bare.length - 1) return undefined
  return { token: bare.slice(0, at), ownName: literal.slice(at + 1) }
}
