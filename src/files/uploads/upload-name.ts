import { posix } from 'node:path'
import { isPlainPath } from '../names.ts'

/** The areas that ComfyUI takes uploads into. */
export type UploadArea = 'input' | 'temp' | 'output'

/** A file by its place: `subfolder` `/`-separated and in its shortest form, `filename` without folders. */
export interface UploadName {
  type: UploadArea
  subfolder: string
  filename: string
}

export const isUploadArea = (text: string): text is UploadArea =>
  text === 'input' || text === 'temp' || text === 'output'

/** Longest name of a file or folder, and longest path, on the disks that workers have; bytes. */
const MAX_NAME_BYTES = 255
const MAX_PATH_BYTES = 4_000

/**
 * The place that an upload's fields name. `escapes`: it leads out of its area. `unwritable`: no system could write a file
 * of that name.
 */
export function placeOf(
  type: UploadArea,
  subfolder: string,
  filename: string,
): UploadName | { problem: 'escapes' | 'unwritable' } {
  const given = [subfolder, filename].map((part) => part.replaceAll('\\', '/'))
  if (given.some((part) => part.includes('\0'))) return { problem: 'unwritable' }
  if (given.some((part) => part.startsWith('/') || /^[A-Za-z]:/.test(part))) return { problem: 'escapes' }
  const path = posix.normalize(posix.join(...given))
  if (!isPlainPath(path)) return { problem: 'escapes' }
  const isTooLong = path.split('/').some((part) => Buffer.byteLength(part) > MAX_NAME_BYTES)
  if (path === '.' || path.endsWith('/') || isTooLong || Buffer.byteLength(path) > MAX_PATH_BYTES) {
    return { problem: 'unwritable' }
  }
  const folder = posix.dirname(path)
  return { type, subfolder: folder === '.' ? '' : folder, filename: posix.basename(path) }
}

/** The name with which ComfyUI goes on when a name is taken: `u.png`, `u (1).png`, `u (2).png`, ... */
export function numberedName(filename: string, number: number): string {
  if (number === 0) return filename
  const extension = posix.extname(filename)
  return `${filename.slice(0, filename.length - extension.length)} (${number})${extension}`
}

const ANNOTATION = / \[(input|temp|output)\]$/

/** A literal that could name an uploaded file, such as `sub/u.png [temp]`; without annotation it means the inputs. */
export function readUploadLiteral(literal: string): (UploadName & { annotation: string }) | undefined {
  const found = ANNOTATION.exec(literal)
  const annotation = found?.[0] ?? ''
  const area = found?.[1] ?? 'input'
  const path = literal.slice(0, literal.length - annotation.length)
  if (path === '' || !isUploadArea(area)) return undefined
  const place = placeOf(area, '', path)
  return 'problem' in place ? undefined : { ...place, annotation }
}
