import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { createServer } from 'node:tls'

const fixture = (name: string) => readFileSync(new URL(`../fixtures/tls/${name}`, import.meta.url), 'utf8')

/** The authority that signed the certificate of `startTlsFront`. */
export const testCa = (): string => fixture('ca.pem')

/** TLS in front of a plain port: what nginx is for a worker. */
export async function startTlsFront(port: number): Promise<{ url: string; close(): Promise<void> }> {
  const server = createServer({ key: fixture('worker.key'), cert: fixture('worker.pem') }, (socket) => {
    const upstream = connect(port, '127.0.0.1')
    socket.pipe(upstream).pipe(socket)
    for (const each of [socket, upstream]) {
      each.on('error', () => undefined)
      each.on('close', () => (each === socket ? upstream : socket).destroy())
    }
    open.add(socket)
    socket.on('close', () => open.delete(socket))
  })
  const open = new Set<{ destroy(): void }>()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return {
    url: `https://localhost:${address.port}`,
    close: () =>
      new Promise((resolve) => {
        for (const socket of open) socket.destroy()
        server.close(() => resolve())
      }),
  }
}
