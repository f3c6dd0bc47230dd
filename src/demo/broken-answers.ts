import { randomUUID } from 'node:crypto'
import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http'
import { type Answer, json, withBody } from './answers.ts'
import type { Fault } from './faults.ts'

const HTML = '<!DOCTYPE html><html><head><title>Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>'
const GARBAGE = '{"prompt_id": "cut of'
const HUGE_CHUNK = Buffer.alloc(64 * 1024, ' ')
const DEFAULT_MS_PER_BYTE = 1_000

/** Sends a whole answer. */
export function sendAnswer(response: ServerResponse, { status, headers, body, isChunked }: Answer): void {
  if (response.destroyed || response.headersSent) return
  // Node leaves the body of an answer to HEAD away by itself.
  response.writeHead(status, isChunked ? { ...headers, 'transfer-encoding': 'chunked' } : headers)
  response.end(body)
}

/** Plays a fault. `work` is what the route would do and answer; it runs only for faults that come after it. */
export async function playFault(
  fault: Fault,
  request: IncomingMessage,
  response: ServerResponse,
  work: () => Promise<Answer>,
): Promise<void> {
  const { socket } = request
  switch (fault.kind) {
    case 'status':
      return sendAnswer(
        response,
        withBody(
          fault.status,
          fault.contentType ?? 'text/plain; charset=utf-8',
          Buffer.from(fault.body ?? `${fault.status}`),
        ),
      )
    case 'html':
      return sendAnswer(response, withBody(fault.status ?? 200, 'text/html; charset=utf-8', Buffer.from(HTML)))
    case 'garbage':
      return sendAnswer(response, withBody(200, 'application/json; charset=utf-8', Buffer.from(GARBAGE)))
    case 'empty':
      return sendAnswer(response, withBody(200, 'application/json; charset=utf-8', Buffer.alloc(0)))
    case 'empty-object':
      return sendAnswer(response, json({}))
    case 'not-http':
      socket.end('SSH-2.0-OpenSSH_9.2\r\n')
      return
    case 'two-lengths':
      socket.end(
        'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\ncontent-length: 20\r\n\r\n{}',
      )
      return
    case 'truncated':
      socket.end('HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{"prompt_id": ')
      return
    case 'hang':
      return
    case 'hang-after':
      await work()
      return
    case 'reset-before':
      socket.resetAndDestroy()
      return
    case 'reset-after':
      await work()
      socket.resetAndDestroy()
      return
    case 'delay':
      await new Promise((resolve) => setTimeout(resolve, fault.ms).unref())
      return sendAnswer(response, await work())
    case 'slow':
      return trickle(socket, await work(), fault.msPerByte ?? DEFAULT_MS_PER_BYTE)
    case 'huge':
      return flood(response, fault.bytes ?? Number.POSITIVE_INFINITY)
    case 'wrong-id':
      return sendAnswer(response, otherId(await work(), request.url ?? '', fault.promptId ?? randomUUID()))
    default:
      return fault satisfies never
  }
}

function trickle(socket: IncomingMessage['socket'], answer: Answer, msPerByte: number): void {
  const head = Object.entries(answer.headers).map(([name, value]) => `${name}: ${value}\r\n`)
  const bytes = Buffer.concat([
    Buffer.from(`HTTP/1.1 ${answer.status} ${STATUS_CODES[answer.status] ?? ''}\r\n${head.join('')}\r\n`),
    answer.body,
  ])
  let at = 0
  const timer = setInterval(() => {
    socket.write(bytes.subarray(at, at + 1))
    at += 1
    if (at >= bytes.length) clearInterval(timer)
  }, msPerByte)
  socket.once('close', () => clearInterval(timer))
}

function flood(response: ServerResponse, bytes: number): void {
  const prefix = '{"error": "'
  response.writeHead(200, { 'content-type': 'application/json; charset=utf-8' })
  response.write(prefix)
  let left = bytes - prefix.length - 2
  const more = (): void => {
    while (left > 0 && !response.destroyed) {
      const chunk = left < HUGE_CHUNK.length ? HUGE_CHUNK.subarray(0, left) : HUGE_CHUNK
      left -= chunk.length
      if (!response.write(chunk)) {
        response.once('drain', more)
        return
      }
    }
    response.end('"}')
  }
  more()
}

/** Puts another id where the prompt's own stands: in the answer to a POST, or in a history entry. */
function otherId(answer: Answer, url: string, promptId: string): Answer {
  const body = answer.body.toString('utf8')
  const asked = /\/history\/([^?]+)/.exec(url)?.[1]
  const own = asked === undefined ? /"prompt_id": "([^"]*)"/.exec(body)?.[1] : decodeURIComponent(asked)
  if (!own) return answer
  return withBody(
    answer.status,
    answer.headers['content-type'] ?? '',
    Buffer.from(body.replaceAll(`"${own}"`, `"${promptId}"`)),
  )
}
