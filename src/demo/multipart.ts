/** One part of a form. `filename` is undefined for a plain field. */
export interface FormPart {
  name: string
  filename: string | undefined
  body: Buffer
}

/** A form needs few parts. */
const MAX_PARTS = 100

/** Reads a whole multipart form from memory. Throws when it is none. */
export function parseMultipart(contentType: string, body: Buffer): FormPart[] {
  const boundary = /boundary=(?:"([^"]+)"|([^;\s]+))/i.exec(contentType)
  const mark = boundary?.[1] ?? boundary?.[2]
  if (!/^multipart\/form-data/i.test(contentType) || !mark) throw new Error('Not a multipart form')
  const delimiter = Buffer.from(`\r\n--${mark}`)
  // The first delimiter has no line break before it.
  const bytes = Buffer.concat([Buffer.from('\r\n'), body])
  const parts: FormPart[] = []
  let at = bytes.indexOf(delimiter)
  while (at >= 0 && parts.length < MAX_PARTS) {
    const start = at + delimiter.length
    const next = bytes.indexOf(delimiter, start)
    if (next < 0) break
    const headEnd = bytes.indexOf('\r\n\r\n', start)
    if (headEnd >= 0 && headEnd <= next) {
      const head = bytes.toString('utf8', start, headEnd)
      const name = /;\s*name="([^"]*)"/i.exec(head)?.[1]
      if (name !== undefined) {
        const filename = /;\s*filename="((?:[^"\\]|\\.)*)"/i.exec(head)?.[1]
        parts.push({ name, filename, body: bytes.subarray(Math.min(headEnd + 4, next), next) })
      }
    }
    at = next
  }
  return parts
}
