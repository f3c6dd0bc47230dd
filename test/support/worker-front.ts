import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import type { SimulatedWorker } from '../../src/demo/simulated-worker.ts'

/** Stands in front of a worker and changes what it answers on one route, such as `GET /queue`. */
export async function startWorkerFront(
  worker: SimulatedWorker,
  route: string,
  change: (answer: string) => string,
): Promise<{ url: string; close(): Promise<void> }> {
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const method = request.method ?? 'GET'
    const hasBody = method !== 'GET' && method !== 'HEAD'
    const answer = await fetch(`${worker.url}${request.url}`, {
      method,
      ...(hasBody ? { body: Buffer.concat(chunks) } : {}),
    })
    const bytes = Buffer.from(await answer.arrayBuffer())
    response.writeHead(answer.status, { 'content-type': answer.headers.get('content-type') ?? 'application/json' })
    response.end(`${method} ${request.url}` === route ? change(bytes.toString('utf8')) : bytes)
  })
  server.on('upgrade', (request, socket) => {
    const other = connect(Number(new URL(worker.url).port), '127.0.0.1', () => {
      const head = Object.entries(request.headers).map(([name, value]) => `${name}: ${value}`)
      other.write(`GET ${request.url} HTTP/1.1\r\n${head.join('\r\n')}\r\n\r\n`)
      other.pipe(socket).pipe(other)
    })
    for (const each of [other, socket]) {
      each.on('error', () => each.destroy())
      each.on('close', () => (each === socket ? other : socket).destroy())
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.closeAllConnections()
      server.close()
    },
  }
}
