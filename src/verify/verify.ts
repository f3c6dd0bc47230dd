import PQueue from 'p-queue'
import { callOver, objectIn } from './gateway-call.ts'
import { reportOf } from './report.ts'
import { testWorker, type WorkerTest } from './worker-test.ts'

const RUN_TIMEOUT_MS = 60_000
const AT_ONCE = 8

/**
 * Tests every worker of the gateway at `url` and writes a table. Answers whether all is well: there is a worker, and no
 * check failed.
 */
export async function verifyFleet(
  url: string,
  { write, runTimeoutMs = RUN_TIMEOUT_MS }: { write: (text: string) => void; runTimeoutMs?: number },
): Promise<boolean> {
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
    write(`${url} is not the address of a gateway, such as http://127.0.0.1:8000\n`)
    return false
  }
  const call = callOver(url)
  let tests: WorkerTest[]
  try {
    const { workers } = objectIn(await call({ method: 'GET', path: '/api/workers' }))
    if (!Array.isArray(workers)) throw new Error('what answers there is not a gateway')
    const ids = workers.map(({ worker_id }: { worker_id: unknown }) => String(worker_id))
    const queue = new PQueue({ concurrency: AT_ONCE })
    tests = await Promise.all(ids.map((workerId) => queue.add(() => testWorker({ call, workerId, runTimeoutMs }))))
  } catch (error) {
    write(`${url} could not be verified: ${reasonOf(error)}\n`)
    return false
  }
  if (tests.length === 0) {
    write('The gateway has no workers.\n')
    return false
  }
  write(reportOf(tests))
  return tests.every(({ ok }) => ok)
}

/** `fetch` keeps what went wrong in the cause. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.cause instanceof Error && error.cause.message !== '' ? error.cause.message : error.message
}
