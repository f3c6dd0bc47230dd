import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type ObjectInfo, reduceObjectInfo } from '../../src/comfyui/object-info.ts'
import { type JsonNode, member, parseJson, toValue } from '../../src/comfyui/raw-json.ts'
import {
  NO_PROMPT_BODY,
  SERVER_ERROR_BODY,
  type ValidationRequest,
  type Verdict,
  validatePrompt,
} from '../../src/comfyui/validate.ts'

interface Exchange {
  request: { path: string; body?: string }
  response: { status: number; text: string }
}

const recording = JSON.parse(readFileSync(new URL('../fixtures/comfyui-0.3.64.json', import.meta.url), 'utf8')) as {
  situations: { name: string; http: Exchange[] }[]
}
const situation = (start: string): Exchange[] =>
  recording.situations.find(({ name }) => name.startsWith(start))?.http ?? []

// The recording asked for no object_info of this class, which one of its refused prompts uses.
const stubMask =
  '"StubMask": {"input": {"required": {"value": ["FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0}], "height": ["INT", {}], ' +
  '"width": ["INT", {}], "batch_size": ["INT", {}]}}, "output": ["MASK"], "python_module": "custom_nodes.testing-pack"}'
const recordedInfo = reduceObjectInfo(
  `{${[...situation('object_info').map(({ response }) => response.text.slice(1, -1)), stubMask].join(', ')}}`,
)

type Options = Omit<ValidationRequest, 'graph' | 'infos' | 'partialExecutionTargets'>

function check(body: string, infos: readonly ObjectInfo[] = [recordedInfo], options: Options = {}): Verdict {
  const root = parseJson(body)
  const graph = member(root, 'prompt') as JsonNode
  return validatePrompt({
    graph,
    infos,
    partialExecutionTargets: member(root, 'partial_execution_targets'),
    ...options,
  })
}

const checkGraph = (graph: unknown, infos?: readonly ObjectInfo[], options?: Options): Verdict =>
  check(JSON.stringify({ prompt: graph }), infos, options)

const bodyOf = (verdict: Verdict): string => (verdict.kind === 'refused' ? verdict.body : JSON.stringify(verdict))

/** ComfyUI walks a node's inputs in random order and names its own files in tracebacks: neither can be equal. */
function comparable(text: string): unknown {
  const body = JSON.parse(text) as { node_errors: Record<string, { errors: ErrorEntry[] }> }
  for (const { errors } of Object.values(body.node_errors)) {
    errors.sort((a, b) => a.details.localeCompare(b.details))
    for (const { extra_info } of errors) if (extra_info.traceback) extra_info.traceback = []
  }
  return body
}
interface ErrorEntry {
  type: string
  details: string
  extra_info: { traceback?: unknown }
}

/** The problems of one literal at one input of a core class, as `type: details`. */
function problemsOf(config: string, value: string, more = '"python_module": "nodes"'): string[] {
  const info = reduceObjectInfo(
    `{"Out": {"input": {"required": {"x": ${config}}}, "output": [], "output_node": true, ${more}}}`,
  )
  const verdict = check(`{"prompt": {"1": {"class_type": "Out", "inputs": {"x": ${value}}}}}`, [info])
  if (verdict.kind === 'ok') return []
  // The body repeats what it refuses, so it may hold NaN.
  const body = toValue(parseJson(verdict.body)) as { node_errors: Record<string, { errors: ErrorEntry[] }> }
  return (body.node_errors['1']?.errors ?? []).map(({ type, details }) => `${type}: ${details}`)
}

describe('against a real ComfyUI', () => {
  const posts = situation('refused prompts').filter(
    ({ request }) => request.body?.includes('"prompt"') && !request.body.includes('"number"'),
  )

  it.each(posts.map((post) => [post.request.body ?? '', post] as const))(
    'judges %s as it did',
    (body, { response }) => {
      const verdict = check(body, [recordedInfo], { customNodesMayValidate: false })
      // Whether an input file exists is for the worker to say.
      if (response.status === 200 || response.text.includes('Invalid image file')) {
        expect(verdict.kind).toBe('ok')
        return
      }
      expect(verdict).toMatchObject({ kind: 'refused', status: 400 })
      const hasSeveral = (response.text.match(/"message"/g)?.length ?? 0) > 2
      if (hasSeveral || response.text.includes('traceback'))
        expect(comparable(bodyOf(verdict))).toEqual(comparable(response.text))
      else expect(bodyOf(verdict)).toBe(response.text)
    },
  )

  it('has all of them to judge', () => {
    expect(posts.length).toBeGreaterThanOrEqual(12)
    expect(NO_PROMPT_BODY).toBe(situation('refused prompts')[0]?.response.text)
    expect(situation('refused prompts').map(({ response }) => response.text)).toContain(SERVER_ERROR_BODY)
  })

  it('accepts what one good output is left of, with the errors of the other', () => {
    const { request, response } = situation('one of two outputs is valid')[0] as Exchange
    const verdict = check(request.body ?? '')
    expect(verdict).toMatchObject({ kind: 'ok', outputs: ['2'] })
    const nodeErrors = response.text.slice(response.text.indexOf('"node_errors": ') + 15, -1)
    expect(verdict.kind === 'ok' && verdict.nodeErrors).toBe(nodeErrors)
  })

  it('accepts big integers and floats', () => {
    expect(check(situation('big integers')[0]?.request.body ?? '')).toMatchObject({ outputs: ['2'], nodeErrors: '{}' })
  })
})

describe('literals', () => {
  it.each([
    ['["INT", {"min": 1, "max": 5}]', '3', []],
    ['["INT", {"min": 1, "max": 5}]', '" 3 "', []],
    ['["INT", {"min": 1, "max": 5}]', '"1_0"', ['value_bigger_than_max: x']],
    ['["INT", {"min": 1, "max": 5}]', '5.9', []],
    ['["INT", {"min": 1, "max": 5}]', 'false', ['value_smaller_than_min: x']],
    ['["INT", {"min": 0, "max": 18446744073709551615}]', '18446744073709551615', []],
    ['["INT", {"min": 0, "max": 18446744073709551615}]', '18446744073709551616', ['value_bigger_than_max: x']],
    ['["INT"]', '"1.5"', ["invalid_input_type: x, 1.5, invalid literal for int() with base 10: '1.5'"]],
    ['["INT"]', '"\u0663"', []],
    ['["INT"]', 'NaN', ['invalid_input_type: x, nan, cannot convert float NaN to integer']],
    ['["INT"]', '-Infinity', ['invalid_input_type: x, -inf, cannot convert float infinity to integer']],
    [
      '["INT"]',
      'null',
      [
        "invalid_input_type: x, None, int() argument must be a string, a bytes-like object or a real number, not 'NoneType'",
      ],
    ], // prettier-ignore
    [
      '["INT"]',
      '{"__value__": [1, "a"]}',
      [
        "invalid_input_type: x, [1, 'a'], int() argument must be a string, a bytes-like object or a real number, not 'list'",
      ],
    ], // prettier-ignore
    ['["INT"]', '{"__value__": "7"}', []],
    ['["FLOAT", {"min": 0.5}]', '0', ['value_smaller_than_min: x']],
    ['["FLOAT", {"max": 1}]', '"1e3"', ['value_bigger_than_max: x']],
    ['["FLOAT", {"max": 1}]', '"-inf"', []],
    ['["FLOAT", {"max": 1}]', 'NaN', []],
    ['["FLOAT"]', '"1,5"', ["invalid_input_type: x, 1,5, could not convert string to float: '1,5'"]],
    [
      '["FLOAT"]',
      `1${'0'.repeat(400)}`,
      [`invalid_input_type: x, 1${'0'.repeat(400)}, int too large to convert to float`],
    ],
    ['["STRING", {"min": 5}]', '1', []],
    ['["BOOLEAN"]', '"whatever"', []],
    ['["IMAGE"]', '"1"', []],
    ['["*"]', '{"a": 1}', []],
    ['[["a", "b"]]', '"c"', ["value_not_in_list: x: 'c' not in ['a', 'b']"]],
    ['[["a", 1, null]]', 'null', []],
    ['[["a", 1]]', '1.0', []],
    ['[["a", 1]]', 'true', []],
    ['[["1"]]', '1', ["value_not_in_list: x: '1' not in ['1']"]],
    ['[["it\'s"], {}]', '"x"', ["value_not_in_list: x: 'x' not in [\"it's\"]"]],
    ['[["a/b"]]', '"a\\\\b"', []],
    ['[["a"], {"image_upload": true}]', '"c"', []],
    ['[["a"], {"image_folder": "output"}]', '"c"', []],
    ['[["a"], {"remote": {"route": "/x"}}]', '"c"', []],
    ['[["a"], {"multiselect": true}]', '"c"', []],
    ['[["a"]]', '{"__value__": ["c"]}', []],
    ['[[["a"]]]', '"c"', []],
    ['["COMBO", {"options": ["a"]}]', '"c"', []],
  ])('%s takes %s: %j', (config, value, expected) => {
    expect(problemsOf(config, value)).toEqual(expected)
  })

  it('hides a list of more than twenty choices, as ComfyUI does', () => {
    const choices = JSON.stringify(Array.from({ length: 21 }, (_, index) => `c${index}`))
    expect(problemsOf(`[${choices}]`, '"x"')).toEqual(["value_not_in_list: x: 'x' not in (list of length 21)"])
  })

  it("leaves a pack's ranges and lists to the worker, because its class may check them itself", () => {
    const pack = '"python_module": "custom_nodes.pack"'
    expect(problemsOf('["INT", {"max": 5}]', '9', pack)).toEqual([])
    expect(problemsOf('[["a"]]', '"c"', pack)).toEqual([])
    expect(problemsOf('["INT", {"max": 5}]', '"nine"', pack)).toHaveLength(1)
  })

  it('checks the newer form of a combo in the words of 2026 only', () => {
    const info = reduceObjectInfo(
      '{"Out": {"input": {"required": {"x": ["COMBO", {"options": ["a"], "d": 1}]}}, "output_node": true, "python_module": "nodes"}}',
    )
    const graph = { '1': { class_type: 'Out', inputs: { x: 'c' } } }
    expect(checkGraph(graph, [info]).kind).toBe('ok')
    const body = bodyOf(checkGraph(graph, [info], { dialect: '2026' }))
    expect(body).toContain('"input_config": ["COMBO", {"options": ["a"], "d": 1}], "received_value": "c"')
  })
})

describe('links', () => {
  const info = reduceObjectInfo(
    `{${[
      '"Src": {"input": {"required": {"n": ["INT", {"max": 5}]}}, "output": ["IMAGE", "MASK"], "python_module": "nodes"}',
      '"Any": {"input": {}, "output": ["*"], "python_module": "nodes"}',
      '"Mid": {"input": {"required": {"i": ["IMAGE", {}]}}, "output": ["IMAGE"], "python_module": "nodes"}',
      '"Out": {"input": {"required": {"i": ["IMAGE,LATENT", {}]}, "optional": {"c": [["a"]]}}, "output": [], "output_node": true, "python_module": "nodes"}',
    ].join(', ')}}`,
  )
  const graphOf = (link: unknown, more: object = {}) => ({
    out: { class_type: 'Out', inputs: { i: link } },
    src: { class_type: 'Src', inputs: { n: 1 } },
    any: { class_type: 'Any', inputs: {} },
    mid: { class_type: 'Mid', inputs: { i: ['src', 0] } },
    ...more,
  })
  const errorsOf = (graph: unknown): string[] => {
    const verdict = checkGraph(graph, [info])
    if (verdict.kind === 'ok') return []
    const { node_errors } = JSON.parse(verdict.body) as { node_errors: Record<string, { errors: ErrorEntry[] }> }
    return Object.entries(node_errors).flatMap(([id, { errors }]) => errors.map((e) => `${id} ${e.type}: ${e.details}`))
  }

  it.each([
    [['src', 0], []],
    [['any', 0], []],
    [['mid', 0], []],
    [['src', -2], []],
    [['src', 1], ['out return_type_mismatch: i, received_type(MASK) mismatch input_type(IMAGE,LATENT)']],
    [['src', 2], ['out exception_during_validation: tuple index out of range']],
    [['src', '0'], ['out exception_during_validation: tuple indices must be integers or slices, not str']],
    [['nope', 0], ["out exception_during_validation: 'nope'"]],
    [[7, 0], ['out exception_during_validation: 7']],
    [[['src'], 0], ["out exception_during_validation: unhashable type: 'list'"]],
    [['src'], ['out bad_linked_input: i']],
    [[], ['out bad_linked_input: i']],
  ])('%j is judged %j', (link, expected) => {
    expect(errorsOf(graphOf(link))).toEqual(expected)
  })

  it('reports a fault behind a link at the node that has it', () => {
    const graph = graphOf(['mid', 0], { mid: { class_type: 'Mid', inputs: { i: ['gone', 0] } } })
    expect(errorsOf(graph)).toEqual(["mid exception_during_inner_validation: 'gone'"])
    expect(errorsOf(graphOf(['mid', 0], { mid: { class_type: 'Mid' } }))).toEqual([
      "mid exception_during_inner_validation: 'inputs'",
    ])
  })

  it('names the outputs that depend on a bad node, and only errors of its own', () => {
    const graph = graphOf(['mid', 0], { src: { class_type: 'Src', inputs: { n: 9 } } })
    const body = JSON.parse(bodyOf(checkGraph(graph, [info]))) as {
      node_errors: Record<string, unknown>
      error: object
    }
    expect(Object.keys(body.node_errors)).toEqual(['src'])
    expect(body.node_errors.src).toMatchObject({ dependent_outputs: ['out'], class_type: 'Src' })
    expect(body.error).toMatchObject({ details: '' })
  })

  it('accepts a cycle, which each release judges in its own way', () => {
    expect(errorsOf(graphOf(['mid', 0], { mid: { class_type: 'Mid', inputs: { i: ['mid', 0] } } }))).toEqual([])
  })

  it('ignores nodes that no output needs', () => {
    expect(errorsOf(graphOf(['src', 0], { mid: { class_type: 'Mid', inputs: { i: ['gone', 0] } } }))).toEqual([])
  })

  it('walks a chain of 100,000 nodes', () => {
    const graph: Record<string, unknown> = { out: { class_type: 'Out', inputs: { i: ['0', 0] } } }
    for (let id = 0; id < 100_000; id++) graph[id] = { class_type: 'Mid', inputs: { i: [`${id + 1}`, 0] } }
    graph['100000'] = { class_type: 'Src', inputs: { n: 9 } }
    expect(errorsOf(graph)).toEqual(['100000 value_bigger_than_max: n'])
  })

  it('bounds the report of a graph that is all mistakes', () => {
    const graph: Record<string, unknown> = {}
    for (let id = 0; id < 20_000; id++) graph[`o${id}`] = { class_type: 'Out', inputs: {} }
    const started = performance.now()
    const verdict = checkGraph(graph, [info])
    expect(verdict.kind).toBe('refused')
    expect(bodyOf(verdict).length).toBeLessThan(20_000_000)
    expect(performance.now() - started).toBeLessThan(5000)
  })
})

describe('several workers', () => {
  const worker = (choices: string, more = '') =>
    reduceObjectInfo(
      `{"Out": {"input": {"required": {"m": [${choices}, {}]${more}}}, "output_node": true, "python_module": "nodes"}}`,
    )
  const prompt = (m: string) => ({ '1': { class_type: 'Out', inputs: { m } } })

  it('takes a choice that any of them lists, and shows the lists of all when none does', () => {
    const infos = [worker('["a"]'), worker('["b"]'), worker('["a"]')]
    expect(checkGraph(prompt('b'), infos).kind).toBe('ok')
    const verdict = checkGraph(prompt('c'), infos)
    expect(bodyOf(verdict)).toContain(`m: 'c' not in ['a', 'b']`)
    expect(bodyOf(verdict)).toContain('"input_config": [["a", "b"], {}]')
    expect(verdict).toMatchObject({ unlisted: [{ classType: 'Out', input: 'm', value: 'c' }] })
  })

  it('demands an input only when all of them do', () => {
    expect(checkGraph(prompt('a'), [worker('["a"]', ', "n": ["INT"]'), worker('["a"]')]).kind).toBe('ok')
    expect(checkGraph(prompt('a'), [worker('["a"]', ', "n": ["INT"]')]).kind).toBe('refused')
  })

  it('refuses a class only when none of them has it', () => {
    expect(checkGraph(prompt('a'), [recordedInfo, worker('["a"]')]).kind).toBe('ok')
    expect(checkGraph(prompt('a'), [recordedInfo])).toMatchObject({ kind: 'refused', unknownClass: 'Out' })
  })

  it('says nothing without any worker, but for what is wrong everywhere', () => {
    const verdict = checkGraph({ '1': { class_type: 'X', inputs: { a: 'b', c: 1 } } }, [])
    expect(verdict).toEqual({
      kind: 'ok',
      outputs: [],
      nodeErrors: '{}',
      traits: { classTypes: ['X'], combos: [{ classType: 'X', input: 'a', value: 'b' }], hasPaidNodes: false },
      unlisted: [],
    })
    expect(checkGraph({}, []).kind).toBe('refused')
    expect(checkGraph({ '1': {} }, []).kind).toBe('refused')
  })

  it('takes a class that a worker replaces as it is', () => {
    const options = { replacedClasses: new Set(['Old']) }
    expect(checkGraph({ '1': { class_type: 'Old', inputs: {} } }, [recordedInfo], options)).toMatchObject({
      kind: 'ok',
      outputs: [],
    })
  })
})

describe('the shape of the graph', () => {
  it.each(['null', '5', '"abc"', '[1]', '{"1": 5}', '{"1": null}', '{"1": {"class_type": ["x"]}}'])(
    'falls over %s as ComfyUI does',
    (graph) => {
      expect(check(`{"prompt": ${graph}}`)).toMatchObject({ kind: 'refused', status: 500, body: SERVER_ERROR_BODY })
    },
  )

  it('says what 2026 says about an unknown class', () => {
    const options = { dialect: '2026' } as const
    const graph = { '7': { class_type: 'Nope', inputs: {}, _meta: { title: 'My node' } } }
    expect(bodyOf(checkGraph(graph, undefined, options))).toBe(
      '{"error": {"type": "missing_node_type", "message": "Node \'My node\' not found. The custom node may not be installed.", ' +
        '"details": "Node ID \'#7\'", "extra_info": {"node_id": "7", "class_type": "Nope", "node_title": "My node"}}, "node_errors": {}}',
    )
    expect(bodyOf(checkGraph({ '7': { inputs: {} } }, undefined, options))).toContain(
      '"extra_info": {"node_id": "7", "class_type": null, "node_title": null}',
    )
  })

  it('runs only the targets of a partial execution', () => {
    const save = { class_type: 'SaveImage', inputs: { images: ['1', 0], filename_prefix: 'x' } }
    const image = { class_type: 'EmptyImage', inputs: { width: 1, height: 1, batch_size: 1, color: 0 } }
    const run = (targets: unknown): Verdict =>
      check(JSON.stringify({ prompt: { '1': image, '2': save, '3': save }, partial_execution_targets: targets }))
    expect(run(['3'])).toMatchObject({ kind: 'ok', outputs: ['3'] })
    expect(run(null)).toMatchObject({ kind: 'ok', outputs: ['2', '3'] })
    expect(run(['1', 'nope'])).toMatchObject({ kind: 'refused', status: 400 })
    expect(run({ '2': 0 })).toMatchObject({ kind: 'ok', outputs: ['2'] })
    expect(run('x3y')).toMatchObject({ kind: 'ok', outputs: ['3'] })
    expect(run(5)).toMatchObject({ kind: 'refused', status: 500 })
  })

  it('never throws, whatever the graph', () => {
    const key = fc.constantFrom(
      'class_type',
      'inputs',
      '_meta',
      'title',
      '1',
      '2',
      'images',
      'image',
      '__value__',
      '__proto__',
    )
    const leaf = fc.oneof(
      fc.constantFrom('SaveImage', 'EmptyImage', 'LoadImage', '1', '2'),
      fc.jsonValue({ maxDepth: 1 }),
    )
    const { tree } = fc.letrec((tie) => ({
      tree: fc.oneof(
        { maxDepth: 5, withCrossShrink: true },
        leaf,
        fc.array(tie('tree'), { maxLength: 3 }),
        fc.dictionary(key, tie('tree'), { maxKeys: 4 }),
      ),
    }))
    const node = fc.record({ class_type: fc.constantFrom('SaveImage', 'EmptyImage', 'LoadImage'), inputs: tree })
    fc.assert(
      fc.property(fc.oneof(tree, fc.dictionary(fc.constantFrom('1', '2', '3'), node)), (graph) => {
        const verdict = checkGraph(graph)
        if (verdict.kind === 'ok') JSON.parse(verdict.nodeErrors)
        else if (verdict.status === 400) JSON.parse(verdict.body)
      }),
      { numRuns: 1000 },
    )
  })
})

describe('traits', () => {
  const info = reduceObjectInfo(
    `{${[
      '"Load": {"input": {"required": {"name": [["a"]], "note": ["STRING"]}}, "output": ["M"]}',
      '"Paid": {"input": {"required": {"m": ["M"]}}, "output": [], "output_node": true, "api_node": true}',
    ].join(', ')}}`,
  )
  const graph = {
    l: { class_type: 'Load', inputs: { name: 'b', note: 'long text', extra: 'x' } },
    unused: { class_type: 'Load', inputs: { name: 'z', note: '' } },
    p: { class_type: 'Paid', inputs: { m: ['l', 0] } },
  }

  it('lists the combos of what will run, all classes, and whether one is paid', () => {
    const verdict = checkGraph(graph, [info])
    expect(verdict.kind === 'ok' && verdict.traits).toEqual({
      classTypes: ['Load', 'Paid'],
      combos: [{ classType: 'Load', input: 'name', value: 'b' }],
      hasPaidNodes: true,
    })
  })
})
