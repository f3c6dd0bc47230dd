import type { PromptStatus } from '../store.ts'

/** A boolean as every SQL back end can keep it. */
export type Flag = 0 | 1

/**
 * One row a prompt. Only what lists and decisions need: texts that can be large are in tables of their own, so that
 * reading many prompts never touches them.
 */
export interface PromptsTable {
  sequence: number
  prompt_id: string
  upstream_id: string
  gateway_job_id: string
  owner: string
  caller: string
  client_id: string | null
  number: number
  number_given: Flag
  priority: number
  status: PromptStatus
  admitted: Flag
  listed: Flag
  attempt: number
  sent_attempts: number
  worker_deaths: number
  worker_id: string | null
  body_hash: string
  /** JSON text. */
  traits: string
  workflow_id: string | null
  created_at: number
  started_at: number | null
  finished_at: number | null
  /** Milliseconds from start to end, 0 until then: an index can sort by it. */
  duration: number
  /** Order of finishing, null until then. */
  finish_order: number | null
  reason: string | null
  summary: string | null
  told: Flag
}

export interface PromptBodiesTable {
  prompt_sequence: number
  sealed: string | null
  text: string
}

/** Owner, caller and visibility are repeated here so that pages of a history are found by index alone. */
export interface PromptHistoryTable {
  prompt_sequence: number
  prompt_id: string
  owner: string
  caller: string
  /** Follows `prompts.admitted`. */
  visible: Flag
  finish_order: number
  text: string
}

export interface PromptLogsTable {
  prompt_sequence: number
  /** Counts from 1 within its prompt. */
  line: number
  at: number
  text: string
}

export interface PromptFilesTable {
  sequence: number
  prompt_id: string
  owner: string
  worker_id: string
  token: string
  type: 'output' | 'temp'
  subfolder: string
  filename: string
  /** What stands for the name in indexes: see `SqlDialect.keyOf`. */
  filename_key: string
}

export interface RecordsTable {
  collection: string
  id: string
  version: number
  /** JSON text. */
  value: string
  index_key: string | null
  due_at: number | null
}

export interface LeasesTable {
  name: string
  holder: string
  fence: number
  expires_at: number
}

/** Numbers that only grow, one row each. See `counters.ts`. */
export interface CountersTable {
  name: string
  value: number
}

export interface SchemaVersionsTable {
  version: number
  name: string
  applied_at: number
}

export interface Schema {
  prompts: PromptsTable
  prompt_bodies: PromptBodiesTable
  prompt_history: PromptHistoryTable
  prompt_logs: PromptLogsTable
  prompt_files: PromptFilesTable
  records: RecordsTable
  leases: LeasesTable
  counters: CountersTable
  schema_versions: SchemaVersionsTable
}
