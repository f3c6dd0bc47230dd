import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { distinctInfos, listsChoice, reduceObjectInfo } from '../../src/comfyui/object-info.ts'
import { mergeClass, mergeObjectInfo } from '../../src/comfyui/object-info-merge.ts'
import { JsonSyntaxError } from '../../src/comfyui/raw-json.ts'

interface Recording {
  situations: { name: string; http: { request: { path: string }; response: { text: string } }[] }[]
}

const recording = JSON.parse(
  readFileSync(new URL('../fixtures/comfyui-0.3.64.json', import.meta.url), 'utf8'),
) as Recording
const answers = recording.situations.find(({ name }) => name === 'object_info of some classes')?.http ?? []
const recorded = `{${answers.map(({ response }) => response.text.slice(1, -1)).join(', ')}}`

const aClass = (inputs: string, more = ''): string => `{"input": {"required": {${inputs}}}, "output": ["MODEL"]${more}}`
const info = (classes: Record<string, string>) =>
  reduceObjectInfo(
    `{${Object.entries(classes)
      .map(([name, text]) => `"${name}": ${text}`)
      .join(', ')}}`,
  ) // prettier-ignore

describe('reduceObjectInfo', () => {
  const reduced = reduceObjectInfo(recorded)

  it('reads types, ranges, choices and outputs of a real ComfyUI', () => {
    const sampler = reduced.classes.get('KSampler')
    expect(sampler?.inputs.get('seed')).toMatchObject({ kind: 'required', type: 'INT', min: 0n, max: 2n ** 64n - 1n })
    expect(sampler?.inputs.get('cfg')).toMatchObject({ type: 'FLOAT', min: 0, max: 100 })
    expect(sampler?.inputs.get('scheduler')?.choices?.strings).toContain('karras')
    expect(sampler?.inputs.get('scheduler')).toMatchObject({ type: 'COMBO', isListForm: true })
    expect(sampler?.outputs).toEqual(['LATENT'])
    expect(sampler?.outputIsList).toEqual([false])
    const save = reduced.classes.get('SaveImage')
    expect(save).toMatchObject({ isOutputNode: true, isApiNode: false, pythonModule: 'nodes', outputs: [] })
    expect(save?.inputs.get('prompt')).toMatchObject({ kind: 'hidden', type: 'PROMPT' })
  })

  it('knows which combos name files', () => {
    expect(reduced.classes.get('LoadImage')?.inputs.get('image')?.isFile).toBe(true)
    expect(reduced.classes.get('LoadImageOutput')?.inputs.get('image')).toMatchObject({ type: 'COMBO', isFile: true })
    expect(reduced.classes.get('CheckpointLoaderSimple')?.inputs.get('ckpt_name')?.isFile).toBe(false)
  })

  it('reads both forms of a combo and every flag', () => {
    const { classes } = info({
      A: aClass(
        '"old": [["a", 1, true, null], {}], "new": ["COMBO", {"options": ["x"], "multiselect": true}], "odd": [[["n"]]],' +
          '"late": ["*", {"lazy": true, "forceInput": true, "rawLink": true}]',
        ', "api_node": true',
      ),
    })
    const a = classes.get('A')
    expect(a?.isApiNode).toBe(true)
    expect([...(a?.inputs.get('old')?.choices?.strings ?? [])]).toEqual(['a'])
    expect([...(a?.inputs.get('old')?.choices?.others.keys() ?? [])]).toEqual(['1', 'None'])
    expect(a?.inputs.get('new')).toMatchObject({ type: 'COMBO', isListForm: false, isMultiselect: true })
    expect(a?.inputs.get('odd')?.choices?.hasContainers).toBe(true)
    expect(a?.inputs.get('late')).toMatchObject({ isLazy: true, forceInput: true, rawLink: true })
  })

  it.each(['', '<html>', '[]', '"x"', '{"A": {}'])('refuses %j', (text) => {
    expect(() => reduceObjectInfo(text)).toThrow(JsonSyntaxError)
  })

  it.each([
    '{"A": 1}',
    '{"A": {}}',
    '{"A": {"input": [1], "output": 5, "output_is_list": {}, "python_module": null}}',
    '{"A": {"input": {"required": null, "optional": {"x": [], "y": {}, "z": [[]], "w": [5, 5], "v": ["COMBO", {"options": 3}]}}}}',
    '{"__proto__": {"input": {"required": {"__proto__": ["INT", {"min": "a"}]}}}}',
  ])('survives the shape of %s', (text) => {
    const reduced = reduceObjectInfo(text)
    expect(mergeObjectInfo([reduced, reduceObjectInfo('{}')])).toBe(text)
    expect(listsChoice(reduced, 'A', 'x', 'y')).toBeUndefined()
  })

  it('reduces several megabytes in moderate time', () => {
    const list = JSON.stringify(Array.from({ length: 2000 }, (_, index) => `folder/model-${index}.safetensors`))
    const classes = Object.fromEntries(Array.from({ length: 100 }, (_, id) => [`C${id}`, aClass(`"m": [${list}]`)]))
    const started = performance.now()
    const reduced = info(classes)
    expect(reduced.text.length).toBeGreaterThan(5_000_000)
    expect(performance.now() - started).toBeLessThan(4000)
    expect(reduced.classes.get('C99')?.inputs.get('m')?.choices?.strings.size).toBe(2000)
  })
})

describe('listsChoice', () => {
  const windows = info({ L: aClass('"name": [["sd\\\\xl.safetensors", "a/b\\\\c"]]') })
  const linux = info({ L: aClass('"name": [["sd/xl.safetensors"]]') })

  it("gives the worker's own spelling, whichever slash the client used", () => {
    expect(listsChoice(windows, 'L', 'name', 'sd/xl.safetensors')).toBe('sd\\xl.safetensors')
    expect(listsChoice(windows, 'L', 'name', 'sd\\xl.safetensors')).toBe('sd\\xl.safetensors')
    expect(listsChoice(windows, 'L', 'name', 'a\\b/c')).toBe('a/b\\c')
    expect(listsChoice(linux, 'L', 'name', 'sd\\xl.safetensors')).toBe('sd/xl.safetensors')
  })

  it('is undefined for what is not listed', () => {
    expect(listsChoice(linux, 'L', 'name', 'other')).toBeUndefined()
    expect(listsChoice(linux, 'L', 'no', 'sd/xl.safetensors')).toBeUndefined()
    expect(listsChoice(linux, 'N', 'name', 'sd/xl.safetensors')).toBeUndefined()
  })
})

describe('merging', () => {
  it('gives the text unchanged when all workers are alike', () => {
    const odd = ` {"A" :{"x":1.0, "n": NaN}}\n`
    expect(mergeObjectInfo([reduceObjectInfo(odd), reduceObjectInfo(odd)])).toBe(odd)
    expect(mergeObjectInfo([])).toBe('{}')
  })

  it('unites classes and choices and keeps all else of the first worker', () => {
    const first = reduceObjectInfo(
      '{"A": {"input": {"required": {"m": [["b" , "a\\\\x"], {"d": 1.0}]}}, "v": 1}, "B":{"v":2}}',
    )
    const second = reduceObjectInfo(
      '{"C": {"v": 3}, "A": {"input": {"required": {"m": [["a/x", "c", 7, "b"]]}}, "v": 9}}',
    )
    const third = reduceObjectInfo('{"A": {"input": {"required": {"m": ["COMBO", {"options": ["\u00e9", "c"]}]}}}}')
    expect(mergeObjectInfo([first, second, third])).toBe(
      '{"A": {"input": {"required": {"m": [["b" , "a\\\\x", "c", 7, "\\u00e9"], {"d": 1.0}]}}, "v": 1}, "B":{"v":2}, "C": {"v": 3}}',
    )
  })

  it('fills an empty list, and merges a class that the first worker does not have', () => {
    const none = reduceObjectInfo('{}')
    const empty = info({ A: '{"input": {"required": {"m": [[], {}]}}}' })
    const full = info({ A: '{"input": {"required": {"m": [["x"], {}]}}}' })
    expect(mergeObjectInfo([none, empty, full])).toBe('{"A": {"input": {"required": {"m": [["x"], {}]}}}}')
    expect(mergeObjectInfo([full, none])).toBe(full.text)
  })

  it('answers for one class as ComfyUI does', () => {
    const worker = reduceObjectInfo(recorded)
    for (const { request, response } of answers) {
      expect(mergeClass([worker, worker], request.path.replace('/object_info/', ''))).toBe(response.text)
    }
    expect(mergeClass([worker], 'Nope')).toBe('{}')
    expect(mergeClass([], 'KSampler')).toBe('{}')
  })

  it('looks at 300 workers of two contents as at two', () => {
    const one = reduceObjectInfo(recorded)
    const other = info({ Extra: aClass('"m": [["x"]]') })
    const fleet = Array.from({ length: 300 }, (_, index) => (index % 3 === 0 ? other : one))
    expect(distinctInfos(fleet)).toEqual([other, one])
    const started = performance.now()
    expect(Object.keys(JSON.parse(mergeObjectInfo(fleet)) as object)).toHaveLength(answers.length + 1)
    expect(performance.now() - started).toBeLessThan(500)
  })
})
