import { type JsonNode, member, parseJson, stringValue } from '../../comfyui/raw-json.ts'
import type { PromptEvents } from '../../queue/events.ts'
import type { PromptId, PromptStore } from '../../store/store.ts'
import type { WorkerRegistry } from '../../workers/registry.ts'
import type { Worker } from '../../workers/worker.ts'
import { MAX_ID_LENGTH } from './image-ids.ts'

export interface ResultImagesOptions {
  events: Pick<PromptEvents, 'subscribe'>
  store: Pick<PromptStore, 'get'>
  registry: Pick<WorkerRegistry, 'get'>
  maxRemembered?: number
}

const MAX_REMEMBERED = 10_000

/**
 * Which prompt has announced which picture that stays in its worker's memory: `executed` names an id instead of a file.
 * Workers forget these pictures after some minutes, so the gateway remembers the newest only, in memory.
 */
export class ResultImages {
  readonly #options: ResultImagesOptions
  readonly #maxRemembered: number
  /** Prompt by owner and id, oldest first. */
  readonly #prompts = new Map<string, PromptId>()
  readonly #unsubscribe: () => void

  constructor(options: ResultImagesOptions) {
    this.#options = options
    this.#maxRemembered = options.maxRemembered ?? MAX_REMEMBERED
    this.#unsubscribe = options.events.subscribe((event) => {
      if (event.kind === 'message') {
        if (event.type === 'executed') this.#read(event.prompt, event.text)
      } else if (event.kind === 'finished') {
        for (const text of event.messages) this.#read(event.prompt, text)
      }
    })
  }

  /** The worker that ran the prompt of this owner which has announced the id. */
  async workerOf(owner: string, id: string): Promise<Worker | undefined> {
    const promptId = this.#prompts.get(keyOf(owner, id))
    const record = promptId === undefined ? undefined : await this.#options.store.get(promptId)
    return record?.owner === owner && record.workerId !== undefined
      ? this.#options.registry.get(record.workerId)
      : undefined
  }

  close(): void {
    this.#unsubscribe()
  }

  #read({ owner, promptId }: { owner: string; promptId: PromptId }, text: string): void {
    // Nearly all messages are of files or of nothing.
    if (!text.includes('"executed"') || !text.includes('"source"')) return
    for (const id of announcedIn(text)) {
      const key = keyOf(owner, id)
      this.#prompts.delete(key)
      this.#prompts.set(key, promptId)
    }
    for (const key of this.#prompts.keys()) {
      if (this.#prompts.size <= this.#maxRemembered) return
      this.#prompts.delete(key)
    }
  }
}

const keyOf = (owner: string, id: string): string => JSON.stringify([owner, id])

function announcedIn(text: string): string[] {
  let message: JsonNode
  try {
    message = parseJson(text)
  } catch {
    return []
  }
  if (stringValue(member(message, 'type')) !== 'executed') return []
  const output = member(member(message, 'data'), 'output')
  if (output?.kind !== 'object') return []
  return output.members.flatMap(({ value }) => (value.kind === 'array' ? value.items.flatMap(idOf) : []))
}

function idOf(item: JsonNode): string[] {
  const id = stringValue(member(item, 'source')) === 'http' ? stringValue(member(item, 'id')) : undefined
  return id !== undefined && id !== '' && id.length <= MAX_ID_LENGTH ? [id] : []
}
