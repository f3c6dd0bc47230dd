import { until } from './app.ts'

/** An answer of `POST /prompt`. */
export interface Submitted {
  status: number
  promptId: string
  text: string
  elapsedMs: number
}

/** A picture of one colour, written to disk. */
export function pictureGraph(
  options: { width?: number; height?: number; colour?: number; prefix?: string; sleepS?: number } = {},
) {
  const image = ['1', 0]
  return {
    '1': {
      class_type: 'EmptyImage',
      inputs: { width: options.width ?? 8, height: options.height ?? 8, batch_size: 1, color: options.colour ?? 0 },
    },
    ...(options.sleepS === undefined
      ? {}
      : { '3': { class_type: 'TestSleep', inputs: { value: image, seconds: options.sleepS } } }),
    '2': {
      class_type: 'SaveImage',
      inputs: { images: options.sleepS === undefined ? image : ['3', 0], filename_prefix: options.prefix ?? 'ComfyUI' },
    },
  }
}

export async function submit(url: string, body: object | string): Promise<Submitted> {
  const startedAt = performance.now()
  const response = await fetch(`${url}/prompt`, {
    method: 'POST',
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })
  const text = await response.text()
  const value: unknown = response.headers.get('content-type')?.includes('json') ? JSON.parse(text) : {}
  const promptId = (value as { prompt_id?: string }).prompt_id ?? ''
  return { status: response.status, promptId, text, elapsedMs: performance.now() - startedAt }
}

export interface HistoryEntry {
  prompt: [number, string, Record<string, unknown>, Record<string, unknown>, string[]]
  outputs: Record<string, { images?: { filename: string; subfolder: string; type: string; url: string }[] }>
  status: { status_str: string; completed: boolean; messages: [string, Record<string, unknown>][] }
}

export async function historyOf(url: string, promptId: string): Promise<HistoryEntry | undefined> {
  const response = await fetch(`${url}/history/${encodeURIComponent(promptId)}`)
  return ((await response.json()) as Record<string, HistoryEntry>)[promptId]
}

/** Waits until the prompt is in history. */
export const finished = (url: string, promptId: string, deadlineMs = 15_000): Promise<HistoryEntry> =>
  until(() => historyOf(url, promptId), { deadlineMs, what: `the end of ${promptId}` })

export interface RemoteQueue {
  queue_running: [number, string, object, object, string[]][]
  queue_pending: [number, string, object, object, string[]][]
}

export const queueOf = async (url: string): Promise<RemoteQueue> =>
  (await (await fetch(`${url}/queue`)).json()) as RemoteQueue
