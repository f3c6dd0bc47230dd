import type {} from '@fastify/swagger'
import type { WebsocketPluginOptions } from '@fastify/websocket'
import type { FastifyPluginAsync, FastifyRequest } from 'fastify'
import type { Identity } from '../../auth/identity.ts'
import type { Relay } from '../../relay/relay.ts'

export interface ComfySocketRoutesOptions {
  relay: Relay
  /** Who asks, from what the request proves. */
  identify: (request: FastifyRequest) => Identity
}

// A variable, because the types of ws do not know `closeTimeout` yet: how long a reader that was closed for not reading
// may still keep what it did not read.
const serverOptions = {
  maxPayload: 1024 * 1024,
  maxFragments: 64,
  maxBufferedChunks: 1024,
  perMessageDeflate: false,
  closeTimeout: 10_000,
}

/**
 * For `app.register(websocket, comfySocketServerOptions)`, before the routes. Clients send nothing but a few flags, so
 * their messages are small; compression would cost memory for each socket, and pictures do not shrink. Many tiny
 * fragments would each pin a buffer.
 */
export const comfySocketServerOptions: WebsocketPluginOptions = {
  options: serverOptions,
  errorHandler(error, socket, request) {
    // A broken client is its own trouble. When the socket is at fault it is closing already, with the right code.
    request.log.debug({ err: error }, 'client socket failed')
    socket.close(1011, 'internal error')
  },
  preClose(done) {
    // Whoever serves sockets closes them, with a code and behind what was queued; from here on none is accepted.
    this.websocketServer.close()
    done()
  },
}

/** `/ws` and `/api/ws`. The relay is closed when the app begins to close. */
export function comfySocketRoutes({ relay, identify }: ComfySocketRoutesOptions): FastifyPluginAsync {
  return async (app) => {
    for (const url of ['/ws', '/api/ws']) {
      app.route<{ Querystring: Record<string, string | string[] | undefined> }>({
        method: 'GET',
        url,
        schema: { hide: true },
        handler: async (request, reply) => {
          const upgrade = request.headers.upgrade ?? 'None'
          reply.code(400).type('text/plain; charset=utf-8')
          return `No WebSocket UPGRADE hdr: ${upgrade}\n Can "Upgrade" only to "WebSocket".`
        },
        wsHandler: (socket, request) => {
          const { clientId } = request.query
          relay.attach(socket, {
            ...identify(request),
            clientId: (Array.isArray(clientId) ? clientId[0] : clientId) || undefined,
          })
        },
      })
    }
    app.addHook('preClose', () => relay.close())
  }
}
