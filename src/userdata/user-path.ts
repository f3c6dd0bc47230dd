/** Names of user files as clients send them, and the paths that they stand for. */

/** Python's `unquote`: what is no escape stays as it is, bytes that are no UTF-8 become U+FFFD. */
const unquote = (text: string): string =>
  text.replace(/(?:%[0-9a-f]{2})+/gi, (escapes) => Buffer.from(escapes.replaceAll('%', ''), 'hex').toString('utf8'))

/**
 * The path below the owner's folder that a plain name stands for, `/`-separated and without `.` and `..`; the folder
 * itself is the empty path. Undefined when the name leads outside, if only on its way: it is nobody's then.
 */
export function pathInside(name: string): string | undefined {
  // A client that was written against Windows separates with backslashes, and `..\` must not mean anything else here.
  const parts = name.replaceAll('\\', '/')
  if (parts.startsWith('/')) return undefined
  const path: string[] = []
  for (const part of parts.split('/')) {
    if (part === '' || part === '.') continue
    if (part !== '..') path.push(part)
    else if (path.pop() === undefined) return undefined
  }
  return isDrive(path[0]) ? undefined : path.join('/')
}

/** The same for a name out of a URL. ComfyUI decodes once more what still has escapes, so clients may encode twice. */
export const pathOfName = (name: string): string | undefined => pathInside(unquote(name))

/** `C:` and `C:x` are places of their own on Windows. */
const isDrive = (part: string | undefined): boolean => part !== undefined && /^[a-z]:/i.test(part)
