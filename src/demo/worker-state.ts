import type { Catalogue } from './catalogue.ts'
import type { Engine } from './engine.ts'
import type { FileStore } from './files.ts'
import { type PyDumpable, type PyObject, pyInt } from './py-json.ts'
import type { ImageCache } from './tooling-nodes.ts'

/** Releases the simulation imitates: one of October 2025, and one of autumn 2026. */
export type WorkerVersion = '0.3.64' | '2026'

/** A file of the front end, as its user left it. */
export interface UserFile {
  bytes: Buffer
  /** Seconds since the epoch. */
  modifiedS: number
}

/** What routes read and change. `engine` is replaced when the worker loses its memory. */
export interface WorkerState {
  version: WorkerVersion
  name: string
  vramBytes: number
  engine: Engine
  catalogue: Catalogue
  files: FileStore
  /** Pictures in its memory. */
  images: ImageCache
  settings: PyObject
  /** Files of its user, by path. */
  userdata: Map<string, UserFile>
  /** Extensions of the demo's own editor, as `<pack>/<file without .js>`. */
  extensions: readonly string[]
}

/** ComfyUI's default limit of a body, in bytes. */
export const MAX_BODY_BYTES = 104_857_600

export const is2026 = ({ version }: Pick<WorkerState, 'version'>): boolean => version === '2026'

/** `/features`, and the answer to a client's feature flags. */
export function features(version: WorkerVersion): PyDumpable {
  if (version === '0.3.64') return { supports_preview_metadata: true, max_upload_size: MAX_BODY_BYTES }
  return {
    supports_preview_metadata: true,
    supports_model_type_tags: true,
    max_upload_size: MAX_BODY_BYTES,
    extension: { manager: { supports_v4: true } },
    node_replacements: true,
    assets: false,
  }
}

/** `/system_stats`. */
export function systemStats(state: WorkerState): PyDumpable {
  const is2026Release = is2026(state)
  const ram = 25_276_510_208
  const device = {
    name: `cuda:0 ${state.name}`,
    type: 'cuda',
    index: 0,
    vram_total: pyInt(state.vramBytes),
    vram_free: pyInt(state.vramBytes),
    torch_vram_total: pyInt(state.vramBytes),
    torch_vram_free: pyInt(state.vramBytes),
  }
  return {
    system: {
      os: is2026Release ? 'linux' : 'posix',
      ram_total: ram,
      ram_free: ram,
      comfyui_version: is2026Release ? '0.38.0' : '0.3.64',
      required_frontend_version: is2026Release ? '1.40.0' : '1.27.10',
      installed_templates_version: null,
      required_templates_version: is2026Release ? '0.9.0' : '0.1.95',
      python_version: '3.11.7 (main)',
      pytorch_version: '2.13.0+simulated',
      embedded_python: false,
      argv: ['main.py'],
      ...(is2026Release ? { comfy_package_versions: {}, deploy_environment: 'local' } : {}),
    },
    devices: [device],
  }
}
