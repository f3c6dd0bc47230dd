import { type ClassLists, describeClasses, describeExtraClass, type ExtraClass, type NodeClass } from './classes.ts'
import { type FileStore, findAnnotated } from './files.ts'
import type { GraphRules } from './graph.ts'
import type { PyValue } from './py-json.ts'

export interface CatalogueOptions {
  files: FileStore
  /** Folder -> model names. */
  models: Readonly<Record<string, readonly string[]>>
  missingClasses: readonly string[]
  extraClasses: readonly ExtraClass[]
  is2026: boolean
}

/** Folders that `/models` lists even when they are empty. */
const MODEL_FOLDERS =
  'checkpoints configs loras vae text_encoders diffusion_models clip_vision style_models embeddings diffusers vae_approx controlnet gligen upscale_models custom_nodes hypernetworks photomaker classifiers model_patches audio_encoders'.split(
    ' ',
  )

/** Which classes and models a simulated worker has; both can change while it runs. */
export class Catalogue implements GraphRules {
  readonly is2026: boolean
  readonly #files: FileStore
  readonly #missing: Set<string>
  readonly #extra = new Map<string, ExtraClass>()
  #models: Readonly<Record<string, readonly string[]>>
  #classes: Map<string, NodeClass> | undefined
  #seenInputVersion = -1

  constructor({ files, models, missingClasses, extraClasses, is2026 }: CatalogueOptions) {
    this.is2026 = is2026
    this.#files = files
    this.#models = models
    this.#missing = new Set(missingClasses)
    for (const extra of extraClasses) this.#extra.set(extra.name, extra)
  }

  /** Replaces the model lists. */
  setModels(models: Readonly<Record<string, readonly string[]>>): void {
    this.#models = models
    this.#classes = undefined
  }

  addClass(extra: ExtraClass): void {
    this.#extra.set(extra.name, extra)
    this.#missing.delete(extra.name)
    this.#classes = undefined
  }

  removeClass(name: string): void {
    this.#missing.add(name)
    this.#classes = undefined
  }

  modelFolders(): string[] {
    return [...new Set([...MODEL_FOLDERS, ...Object.keys(this.#models)])]
  }

  /** The names in a folder. Undefined when there is no such folder. */
  models(folder: string): readonly string[] | undefined {
    return this.modelFolders().includes(folder) ? (this.#models[folder] ?? []) : undefined
  }

  classes(): ReadonlyMap<string, NodeClass> {
    if (this.#classes && this.#seenInputVersion === this.#files.inputVersion) return this.#classes
    this.#seenInputVersion = this.#files.inputVersion
    const lists: ClassLists = {
      models: (folder) => this.#models[folder] ?? [],
      inputFiles: () => this.#files.topLevel('input'),
    }
    const all = [...describeClasses(lists), ...[...this.#extra.values()].map(describeExtraClass)]
    this.#classes = new Map(all.filter(({ name }) => !this.#missing.has(name)).map((each) => [each.name, each]))
    return this.#classes
  }

  classOf(name: string): NodeClass | undefined {
    return this.classes().get(name)
  }

  extraClass(name: string): ExtraClass | undefined {
    return this.#extra.get(name)
  }

  hasCustomCheck(className: string, inputName: string): boolean {
    return (className === 'LoadImage' || className === 'LoadImageMask') && inputName === 'image'
  }

  customCheck(_className: string, _inputName: string, value: PyValue): string | undefined {
    const isThere = typeof value === 'string' && findAnnotated(this.#files, value, 'input') !== undefined
    return isThere ? undefined : `Invalid image file: ${typeof value === 'string' ? value : ''}`
  }
}
