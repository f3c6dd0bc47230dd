import { freemem, totalmem } from 'node:os'
import { dumpsPython, quotePython } from '../comfyui/python-json.ts'
import { type JsonNode, type JsonObject, member, parseJson, stringValue } from '../comfyui/raw-json.ts'
import { Splicer } from '../comfyui/raw-json-edit.ts'
import type { FleetReader } from './fleet-reader.ts'
import type { WorkerRegistry } from './registry.ts'

export interface FleetStatsOptions {
  registry: Pick<WorkerRegistry, 'list'>
  reader: FleetReader
}

interface Stats {
  name: string
  text: string
  root: JsonNode
}

const MAX_AGE_MS = 2_000

/**
 * The answer of `GET /system_stats`: the `system` of the first worker without its command line, and the devices of all,
 * each under its worker's name. Workers that do not answer now are shown as they were last; without any there are no
 * devices.
 */
export function createFleetStats({ registry, reader }: FleetStatsOptions): () => Promise<string> {
  return async () => {
    const fresh = new Map<string, string>()
    for (const { worker, text } of await reader.read('/system_stats', { maxAgeMs: MAX_AGE_MS }))
      fresh.set(worker.id, text)
    const workers = registry.list()
    const up = workers.filter(({ state }) => state.kind === 'healthy')
    const shown = (up.length > 0 ? up : workers).flatMap((worker): Stats[] => {
      const text = fresh.get(worker.id) ?? worker.systemStats
      const root = text === undefined ? undefined : parseStats(text)
      return text === undefined || !root ? [] : [{ name: worker.config.name, text, root }]
    })
    return `{"system": ${systemOf(shown) ?? ownSystem()}, "devices": [${devicesOf(shown).join(', ')}]}`
  }
}

function parseStats(text: string): JsonObject | undefined {
  try {
    const root = parseJson(text)
    return root.kind === 'object' ? root : undefined
  } catch {
    return undefined
  }
}

function systemOf(shown: readonly Stats[]): string | undefined {
  for (const { text, root } of shown) {
    const system = member(root, 'system')
    if (system?.kind !== 'object') continue
    const splicer = new Splicer(text)
    // The command line tells paths and may tell secrets.
    splicer.setMember(system, 'argv', '[]')
    return cut(splicer.apply(), 'system')
  }
  return undefined
}

function devicesOf(shown: readonly Stats[]): string[] {
  const devices: string[] = []
  for (const { name, text, root } of shown) {
    const list = member(root, 'devices')
    if (list?.kind !== 'array') continue
    for (const device of list.items) {
      if (device.kind !== 'object') continue
      const source = text.slice(device.start, device.end)
      const own = parseJson(source)
      if (own.kind !== 'object') continue
      const splicer = new Splicer(source)
      const label = [name, stringValue(member(own, 'name'))].filter((part) => part !== undefined).join(' ')
      splicer.setMember(own, 'name', quotePython(label))
      splicer.setMember(own, 'index', String(devices.length))
      devices.push(splicer.apply())
    }
  }
  return devices
}

function cut(text: string, name: string): string | undefined {
  const node = member(parseJson(text), name)
  return node && text.slice(node.start, node.end)
}

const ownSystem = (): string =>
  dumpsPython({
    os: process.platform === 'win32' ? 'nt' : 'posix',
    ram_total: totalmem(),
    ram_free: freemem(),
    comfyui_version: 'unknown',
    python_version: 'unknown',
    pytorch_version: 'unknown',
    embedded_python: false,
    argv: [],
  })
