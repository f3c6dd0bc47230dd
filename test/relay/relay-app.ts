import { mkdtemp, rm } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import websocket from '@fastify/websocket'
import Fastify from 'fastify'
import { onTestFinished } from 'vitest'
import type { WebSocket } from 'ws'
import { openIdentity } from '../../src/auth/identity.ts'
import { createPromptEvents, type PromptEvent, type PromptEvents, type PromptRef } from '../../src/queue/events.ts'
import { createRelay, type Relay, type RelayOptions } from '../../src/relay/relay.ts'
import { comfySocketRoutes, comfySocketServerOptions } from '../../src/routes/comfyui/ws.ts'
import { SocketClient } from './socket-client.ts'

export const silentLog = { error() {}, warn() {}, debug() {} }

export interface RelayApp {
  relay: Relay
  events: PromptEvents
  /** Prompts whose end was told, in order. */
  told: string[]
  port: number
  /** The gateway's side of all sockets, closing ones included. */
  sockets(): WebSocket[]
  close(): Promise<void>
  connect(query: string, options?: { autoPong?: boolean; features?: object }): Promise<SocketClient>
}

/** The relay behind its routes on a port of its own; a client's caller is what it puts into `?caller=`. */
export async function startRelay(overrides: Partial<RelayOptions> = {}): Promise<RelayApp> {
  const spoolDir = await mkdtemp(join(tmpdir(), 'relay-'))
  const events = createPromptEvents()
  const told: string[] = []
  const relay = createRelay({
    events,
    delivery: 'ordered',
    statusCount: 'client',
    fleetCount: () => 0,
    holdBytes: 1_000_000,
    bufferBytes: 1_000_000,
    replayMs: 60_000,
    spoolDir,
    features: () => ({ supports_preview_metadata: true, max_upload_size: 104857600 }),
    onTold: (ids) => told.push(...ids),
    log: silentLog,
    ...overrides,
  })
  const app = Fastify()
  await app.register(websocket, comfySocketServerOptions)
  await app.register(
    comfySocketRoutes({
      relay,
      identify: (request) => openIdentity((request.query as { caller?: string }).caller ?? 'a'),
    }),
  )
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  const clients: SocketClient[] = []
  onTestFinished(async () => {
    for (const client of clients) client.terminate()
    await app.close()
    await rm(spoolDir, { recursive: true, force: true })
  })
  return {
    relay,
    events,
    told,
    port,
    sockets: () => [...app.websocketServer.clients],
    close: () => app.close(),
    async connect(query, options) {
      const client = await SocketClient.connect(`ws://127.0.0.1:${port}/ws?${query}`, options)
      clients.push(client)
      return client
    },
  }
}

export const aPrompt = (promptId: string, clientId: string | undefined = 'c', caller = 'a'): PromptRef => ({
  promptId,
  clientId,
  ...openIdentity(caller),
})

/** Shorthand for the events of one prompt, with frames in ComfyUI's form. */
export function promptEvents(events: PromptEvents, prompt: PromptRef) {
  const { promptId } = prompt
  const message = (type: string, data: object): void =>
    events.publish({ kind: 'message', prompt, type, text: frame(type, data) })
  const publish = (event: PromptEvent): void => events.publish(event)
  return {
    admitted: () => publish({ kind: 'admitted', prompt }),
    message,
    start: (timestamp = 1) => message('execution_start', { prompt_id: promptId, timestamp }),
    executing: (node: string) => message('executing', { node, display_node: node, prompt_id: promptId }),
    progress: (value: number) => message('progress', { value, max: 100, prompt_id: promptId, node: '1' }),
    progressState: (value: number) => message('progress_state', { prompt_id: promptId, nodes: { 1: { value } } }),
    executed: (node: string) => message('executed', { node, display_node: node, output: {}, prompt_id: promptId }),
    frame: (bytes: Uint8Array, isResult: boolean) => publish({ kind: 'frame', prompt, bytes, isResult }),
    requeued: () => publish({ kind: 'requeued', prompt }),
    removed: () => publish({ kind: 'removed', prompt }),
    finished: () => publish({ kind: 'finished', prompt, messages: [success(promptId)] }),
  }
}

export const frame = (type: string, data: object): string => JSON.stringify({ type, data })
export const success = (promptId: string): string => frame('execution_success', { prompt_id: promptId, timestamp: 9 })
