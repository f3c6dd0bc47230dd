import { encodePng } from '../../src/demo/png.ts'

/** A PNG of one colour. */
export const png = (colour: number): Buffer => encodePng({ width: 8, height: 8, colour })

/** A form as clients send it: fields first, then the file. */
export function uploadForm(
  filename: string,
  bytes: Buffer,
  fields: Readonly<Record<string, string>> = {},
): { headers: Record<string, string>; body: Buffer } {
  const mark = 'a-boundary'
  const parts = Object.entries(fields).map(
    ([name, value]) => `--${mark}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`,
  )
  const image = `--${mark}\r\nContent-Disposition: form-data; name="image"; filename="${filename}"\r\nContent-Type: image/png\r\n\r\n`
  return {
    headers: { 'content-type': `multipart/form-data; boundary=${mark}` },
    body: Buffer.concat([Buffer.from(parts.join('') + image), bytes, Buffer.from(`\r\n--${mark}--\r\n`)]),
  }
}

export interface Uploaded {
  name: string
  subfolder: string
  type: string
}

/** Uploads and gives the answer; throws when it is no 200. */
export async function upload(
  url: string,
  filename: string,
  bytes: Buffer,
  fields: Readonly<Record<string, string>> = {},
  options: { route?: string; headers?: Readonly<Record<string, string>> } = {},
): Promise<Uploaded> {
  const form = uploadForm(filename, bytes, fields)
  const response = await fetch(`${url}${options.route ?? '/upload/image'}`, {
    method: 'POST',
    headers: { ...form.headers, ...options.headers },
    body: form.body,
  })
  if (response.status !== 200) throw new Error(`upload answered ${response.status}: ${await response.text()}`)
  return (await response.json()) as Uploaded
}

/** An upload, loaded and saved again. */
export const loadGraph = (image: string, prefix = 'loaded') => ({
  '1': { class_type: 'LoadImage', inputs: { image } },
  '2': { class_type: 'SaveImage', inputs: { images: ['1', 0], filename_prefix: prefix } },
})
