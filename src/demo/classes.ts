import { isPyObject, type PyDumpable, type PyObject, type PyValue, parsePyJson } from './py-json.ts'
import { LOAD_IMAGE, SAVE_IMAGE } from './tooling-nodes.ts'

/** One node class as `/object_info` describes it. */
export interface NodeClass {
  name: string
  displayName: string
  category: string
  pythonModule: string
  /** `{required, optional?, hidden?}`, each name -> `[type, options?]`, as the wire has it. */
  input: PyObject
  output: readonly string[]
  outputName: readonly string[]
  outputNode: boolean
  /** Calls a paid service. */
  apiNode?: boolean
}

/** A class that a test or a demo adds; when it runs it makes a picture of its inputs, or passes its first link on. */
export interface ExtraClass {
  name: string
  /** JSON text or object: `{required: {...}, optional?: {...}}`. Default: one optional input `value` of any type. */
  input?: string | object
  output?: readonly string[]
  outputNode?: boolean
  apiNode?: boolean
  /** What it shows in `executed` and history, such as `{gifs: [...]}`. */
  ui?: PyDumpable
}

const SAMPLERS =
  'euler euler_cfg_pp euler_ancestral euler_ancestral_cfg_pp heun heunpp2 dpm_2 dpm_2_ancestral lms dpm_fast dpm_adaptive dpmpp_2s_ancestral dpmpp_2s_ancestral_cfg_pp dpmpp_sde dpmpp_sde_gpu dpmpp_2m dpmpp_2m_cfg_pp dpmpp_2m_sde dpmpp_2m_sde_gpu dpmpp_2m_sde_heun dpmpp_2m_sde_heun_gpu dpmpp_3m_sde dpmpp_3m_sde_gpu ddpm lcm ipndm ipndm_v deis res_multistep res_multistep_cfg_pp res_multistep_ancestral res_multistep_ancestral_cfg_pp gradient_estimation gradient_estimation_cfg_pp er_sde seeds_2 seeds_3 sa_solver sa_solver_pece ddim uni_pc uni_pc_bh2'.split(
    ' ',
  )
const SCHEDULERS = 'simple sgm_uniform karras exponential ddim_uniform beta normal linear_quadratic kl_optimal'.split(
  ' ',
)

const SIDE = '"INT", {"default": 512, "min": 1, "max": 16384, "step": 1}'
const LATENT_SIDE = '"INT", {"default": 512, "min": 16, "max": 16384, "step": 8}'
const HIDDEN_PROMPT = '"hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}'
const STRENGTH = '["FLOAT", {"default": 1.0, "min": -100.0, "max": 100.0, "step": 0.01}]'
const STUB_SIZE = `"height": ["INT", {"default": 512, "min": 1, "max": 1073741824, "step": 1}],
  "width": ["INT", {"default": 512, "min": 1, "max": 68719476736, "step": 1}],
  "batch_size": ["INT", {"default": 1, "min": 1, "max": 1073741824, "step": 1}]`

/** The lists that differ between workers; read anew for each answer, since uploads and tests change them. */
export interface ClassLists {
  models(folder: string): readonly string[]
  inputFiles(): readonly string[]
}

const TOOLING = 'custom_nodes.comfyui-tooling-nodes'
const TESTING = 'custom_nodes.testing-pack'

/** Every class the simulation knows, in the order of `/object_info`. */
export function describeClasses(lists: ClassLists): NodeClass[] {
  const files = JSON.stringify(lists.inputFiles())
  return [
    node(
      'EmptyImage',
      'image',
      `{"required": {"width": [${SIDE}], "height": [${SIDE}],
      "batch_size": ["INT", {"default": 1, "min": 1, "max": 4096}],
      "color": ["INT", {"default": 0, "min": 0, "max": 16777215, "step": 1, "display": "color"}]}}`,
      ['IMAGE'],
    ),
    node(
      'ImageScale',
      'image/upscaling',
      `{"required": {"image": ["IMAGE"],
      "upscale_method": [["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]],
      "width": ["INT", {"default": 512, "min": 0, "max": 16384, "step": 1}],
      "height": ["INT", {"default": 512, "min": 0, "max": 16384, "step": 1}],
      "crop": [["disabled", "center"]]}}`,
      ['IMAGE'],
      { displayName: 'Upscale Image' },
    ),
    node(
      'SaveImage',
      'image',
      `{"required": {"images": ["IMAGE", {}], "filename_prefix": ["STRING", {"default": "ComfyUI"}]}, ${HIDDEN_PROMPT}}`,
      [],
      { displayName: 'Save Image', outputNode: true },
    ),
    node('PreviewImage', 'image', `{"required": {"images": ["IMAGE"]}, ${HIDDEN_PROMPT}}`, [], {
      displayName: 'Preview Image',
      outputNode: true,
    }),
    node('SaveImageWebsocket', 'api/image', '{"required": {"images": ["IMAGE"]}}', [], {
      outputNode: true,
      pythonModule: 'custom_nodes.websocket_image_save',
    }),
    node('LoadImage', 'image', `{"required": {"image": [${files}, {"image_upload": true}]}}`, ['IMAGE', 'MASK'], {
      displayName: 'Load Image',
    }),
    node(
      'LoadImageMask',
      'mask',
      `{"required": {"image": [${files}, {"image_upload": true}],
      "channel": [["alpha", "red", "green", "blue"]]}}`,
      ['MASK'],
      { displayName: 'Load Image (as Mask)' },
    ),
    node(
      'CheckpointLoaderSimple',
      'loaders',
      `{"required": {"ckpt_name": [${JSON.stringify(lists.models('checkpoints'))}, {}]}}`,
      ['MODEL', 'CLIP', 'VAE'],
      { displayName: 'Load Checkpoint' },
    ),
    node(
      'LoraLoader',
      'loaders',
      `{"required": {"model": ["MODEL", {}], "clip": ["CLIP", {}],
      "lora_name": [${JSON.stringify(lists.models('loras'))}, {}], "strength_model": ${STRENGTH}, "strength_clip": ${STRENGTH}}}`,
      ['MODEL', 'CLIP'],
      { displayName: 'Load LoRA' },
    ),
    node(
      'CLIPTextEncode',
      'conditioning',
      '{"required": {"text": ["STRING", {"multiline": true, "dynamicPrompts": true}], "clip": ["CLIP", {}]}}',
      ['CONDITIONING'],
      { displayName: 'CLIP Text Encode (Prompt)' },
    ),
    node(
      'EmptyLatentImage',
      'latent',
      `{"required": {"width": [${LATENT_SIDE}], "height": [${LATENT_SIDE}],
      "batch_size": ["INT", {"default": 1, "min": 1, "max": 4096}]}}`,
      ['LATENT'],
      { displayName: 'Empty Latent Image' },
    ),
    node(
      'KSampler',
      'sampling',
      `{"required": {"model": ["MODEL", {}],
      "seed": ["INT", {"default": 0, "min": 0, "max": 18446744073709551615, "control_after_generate": true}],
      "steps": ["INT", {"default": 20, "min": 1, "max": 10000}],
      "cfg": ["FLOAT", {"default": 8.0, "min": 0.0, "max": 100.0, "step": 0.1, "round": 0.01}],
      "sampler_name": [${JSON.stringify(SAMPLERS)}, {}], "scheduler": [${JSON.stringify(SCHEDULERS)}, {}],
      "positive": ["CONDITIONING", {}], "negative": ["CONDITIONING", {}], "latent_image": ["LATENT", {}],
      "denoise": ["FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01}]}}`,
      ['LATENT'],
    ),
    node('VAEDecode', 'latent', '{"required": {"samples": ["LATENT", {}], "vae": ["VAE", {}]}}', ['IMAGE'], {
      displayName: 'VAE Decode',
    }),
    node(
      'StubImage',
      'Testing/Stub Nodes',
      `{"required": {"content": [["WHITE", "BLACK", "NOISE"]], ${STUB_SIZE}}}`,
      ['IMAGE'],
      { displayName: 'Stub Image', pythonModule: TESTING },
    ),
    node(
      'StubMask',
      'Testing/Stub Nodes',
      `{"required": {"value": ["FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0, "step": 0.01}], ${STUB_SIZE}}}`,
      ['MASK'],
      { displayName: 'Stub Mask', pythonModule: TESTING },
    ),
    node(
      'TestLazyMixImages',
      'Testing/Nodes',
      '{"required": {"image1": ["IMAGE", {"lazy": true}], "image2": ["IMAGE", {"lazy": true}], "mask": ["MASK"]}}',
      ['IMAGE'],
      { displayName: 'Lazy Mix Images', pythonModule: TESTING },
    ),
    node(
      'TestSleep',
      '_for_testing',
      `{"required": {"value": ["*", {}],
      "seconds": ["FLOAT", {"default": 1.0, "min": 0.0, "max": 9999.0, "step": 0.01}]}, "hidden": {"unique_id": "UNIQUE_ID"}}`,
      ['*'],
      { displayName: 'Test Sleep', pythonModule: TESTING },
    ),
    node(LOAD_IMAGE, 'external_tooling', '{"required": {"id": ["STRING", {"multiline": false}]}}', ['IMAGE', 'MASK'], {
      displayName: 'Load Image from Cache',
      pythonModule: TOOLING,
    }),
    node(
      SAVE_IMAGE,
      'external_tooling',
      '{"required": {"images": ["IMAGE", {}], "format": [["PNG", "JPEG"], {"default": "PNG"}]}}',
      [],
      { displayName: 'Save Image to Cache', outputNode: true, pythonModule: TOOLING },
    ),
  ]
}

/** Turns an extra class into a full description. Throws when its `input` is not a JSON object. */
export function describeExtraClass(extra: ExtraClass): NodeClass {
  const input = extra.input ?? { optional: { value: ['*', {}] } }
  const text = typeof input === 'string' ? input : JSON.stringify(input)
  return node(extra.name, 'custom', text, extra.output ?? ['IMAGE'], {
    outputNode: extra.outputNode ?? false,
    pythonModule: 'custom_nodes.extra',
    apiNode: extra.apiNode ?? false,
  })
}

/** The inputs of one section, in their declared order. */
export function inputSection(nodeClass: NodeClass, section: 'required' | 'optional' | 'hidden'): PyObject {
  const value = nodeClass.input.get(section)
  return isPyObject(value) ? value : new Map()
}

/** The class's entry in `/object_info`. Releases of 2026 add two keys. */
export function objectInfo(nodeClass: NodeClass, { is2026 }: { is2026: boolean }): PyObject {
  const inputOrder: PyObject = new Map()
  for (const [section, inputs] of nodeClass.input) {
    if (isPyObject(inputs)) inputOrder.set(section, [...inputs.keys()])
  }
  const info: PyObject = new Map<string, PyValue>([
    ['input', nodeClass.input],
    ['input_order', inputOrder],
  ])
  if (is2026) info.set('is_input_list', false)
  info.set('output', [...nodeClass.output])
  info.set(
    'output_is_list',
    nodeClass.output.map(() => false),
  )
  info.set('output_name', [...nodeClass.outputName])
  info.set('name', nodeClass.name)
  info.set('display_name', nodeClass.displayName)
  info.set('description', '')
  info.set('python_module', nodeClass.pythonModule)
  info.set('category', nodeClass.category)
  info.set('output_node', nodeClass.outputNode)
  if (is2026) info.set('has_intermediate_output', false)
  if (nodeClass.apiNode) info.set('api_node', true)
  return info
}

function node(
  name: string,
  category: string,
  inputJson: string,
  output: readonly string[],
  more: Partial<NodeClass> = {},
): NodeClass {
  const input = parsePyJson(inputJson)
  if (!isPyObject(input)) throw new TypeError(`The inputs of ${name} are not an object`)
  return {
    name,
    displayName: name,
    category,
    pythonModule: 'nodes',
    input,
    output,
    outputName: output,
    outputNode: false,
    ...more,
  }
}
