import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Fastify, { type FastifyInstance, type InjectOptions } from 'fastify'
import { pino } from 'pino'
import { onTestFinished } from 'vitest'
import { createComfyClient } from '../../../src/comfyui/client.ts'
import { createEndpoint } from '../../../src/comfyui/endpoint.ts'
import { createSimulatedWorker, type SimulatedWorkerOptions } from '../../../src/demo/simulated-worker.ts'
import { settingsRoutes } from '../../../src/routes/comfyui/settings.ts'
import { userdataRoutes } from '../../../src/routes/comfyui/userdata.ts'
import { userRoutes } from '../../../src/routes/comfyui/users.ts'
import { answerErrors } from '../../../src/routes/error-handler.ts'
import { createMemoryStore } from '../../../src/store/memory/memory.ts'
import type { RecordStore } from '../../../src/store/store.ts'
import { createUserData, type UserDataOptions } from '../../../src/userdata/user-data.ts'

export interface UserdataAppOptions {
  worker?: SimulatedWorkerOptions
  /** False: no UI worker is up. */
  isUp?: boolean
  limits?: UserDataOptions['limits']
  writeAll?: UserDataOptions['writeAll']
  /** Stands between the routes and the store. */
  records?: (store: RecordStore) => RecordStore
}

/** The routes of user data over a simulated UI worker; `x-owner` says who asks. */
export async function startUserdata(options: UserdataAppOptions = {}) {
  const worker = await createSimulatedWorker(options.worker)
  const client = createComfyClient({
    endpoint: createEndpoint(worker.url),
    connectTimeoutMs: 1_000,
    requestTimeoutMs: 2_000,
  })
  const store = createMemoryStore()
  const dir = await mkdtemp(join(tmpdir(), 'userdata-'))
  const records = options.records?.(store.records) ?? store.records
  const state = { isUp: options.isUp ?? true, nowMs: 1_000_000, version: versionOf(options.worker) }
  const make = () =>
    createUserData({
      dir: join(dir, 'userdata'),
      records,
      // The import looks at nothing else of a worker.
      uiWorker: {
        current: async () => (state.isUp ? { config: { id: 'w1', url: worker.url } as never, client } : undefined),
      },
      now: () => state.nowMs,
      log: pino({ level: 'silent' }),
      ...(options.limits ? { limits: options.limits } : {}),
      ...(options.writeAll ? { writeAll: options.writeAll } : {}),
    })
  const apps: FastifyInstance[] = []
  async function start() {
    const userData = make()
    const app = Fastify({ exposeHeadRoutes: true, routerOptions: { maxParamLength: 2_000 } })
    app.decorateRequest('identity')
    app.addHook('onRequest', async (request) => {
      request.identity = { owner: String(request.headers['x-owner'] ?? 'open'), caller: 'a' }
    })
    answerErrors(app, { maxBodyBytes: 1_000_000 })
    app.removeAllContentTypeParsers()
    app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
    const comfyVersion = async () => state.version
    for (const prefix of ['', '/api']) {
      await app.register(userRoutes({ userData, records, comfyVersion }), { prefix })
      await app.register(settingsRoutes({ userData }), { prefix })
      await app.register(userdataRoutes({ userData, comfyVersion }), { prefix })
    }
    apps.push(app)
    return app
  }
  let app = await start()
  onTestFinished(async () => {
    for (const each of apps) await each.close()
    await client.close()
    await worker.close()
    await rm(dir, { recursive: true, force: true })
  })

  const ask = (method: string, url: string, body?: string | Buffer, headers: Record<string, string> = {}) => {
    const request: InjectOptions = {
      method: method as NonNullable<InjectOptions['method']>,
      url,
      headers: { ...(body === undefined ? {} : { 'content-type': 'text/plain;charset=UTF-8' }), ...headers },
    }
    return app.inject(body === undefined ? request : { ...request, payload: body })
  }
  return {
    worker,
    state,
    dir,
    ask,
    get: (url: string, headers?: Record<string, string>) => ask('GET', url, undefined, headers),
    post: (url: string, body: string | Buffer, headers?: Record<string, string>) => ask('POST', url, body, headers),
    /** The same store and disk under a new process. */
    async restart() {
      app = await start()
    },
    /** Every file below the folder, by path, without what stands for the owner. */
    async onDisk(): Promise<string[]> {
      const found = await readdir(dir, { recursive: true, withFileTypes: true })
      return found.filter((each) => each.isFile()).map((each) => join(each.parentPath, each.name))
    },
    read: (path: string) => readFile(path, 'utf8'),
  }
}

const versionOf = (options: SimulatedWorkerOptions | undefined): string =>
  options?.version === '2026' ? '0.38.0' : '0.3.64'
