import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { synthesise } from '../../src/relay/synthesise.ts'

interface Situation {
  name: string
  http: { request: { path: string }; response: { text?: string } }[]
  ws: { text?: string }[]
}

/** The history entry and the frames of a recorded run. */
async function recorded(name: string): Promise<{ promptId: string; entry: string; frames: string[] }> {
  const fixture = new URL('../fixtures/comfyui-0.3.64.json', import.meta.url)
  const { situations } = JSON.parse(await readFile(fixture, 'utf8')) as { situations: Situation[] }
  const situation = situations.find((one) => one.name === name)
  const answer = situation?.http.find(
    ({ request, response }) => /^\/history\/./.test(request.path) && response.text !== '{}',
  )
  const text = answer?.response.text ?? ''
  const promptId = Object.keys(JSON.parse(text) as object)[0] ?? ''
  const entry = text.slice(`{"${promptId}": `.length, -1)
  return { promptId, entry, frames: situation?.ws.flatMap((one) => one.text ?? []) ?? [] }
}

describe('a finished prompt told again', () => {
  it.each(['a run, with its own socket', 'a node fails'])(
    'has the frames that were told the first time (%s)',
    async (name) => {
      const { promptId, entry, frames } = await recorded(name)
      const told = synthesise(promptId, entry, 5) ?? []
      expect(told.length).toBeGreaterThanOrEqual(2)
      for (const frame of told) expect(frames).toContain(frame)
      const types = told.map((frame) => (JSON.parse(frame) as { type: string }).type)
      expect(types[0]).toBe('execution_start')
      expect(types.at(-1)).toBe(name === 'a node fails' ? 'execution_error' : 'execution_success')
    },
  )

  it('keeps outputs byte for byte, in their order, with the node that shows them', () => {
    const entry =
      '{"prompt": [0], "outputs": {"9": {"seed": 18446744073709551615, "scale": 1.0, "bad": NaN}, "12:5": null},' +
      ' "status": {"status_str": "success", "completed": true, "messages": [["execution_success", {"prompt_id": "p", "timestamp": 7}]]},' +
      ' "meta": {"12:5": {"node_id": "12:5", "display_node": "12"}}}'
    expect(synthesise('p', entry, 5)).toEqual([
      '{"type": "execution_start", "data": {"prompt_id": "p", "timestamp": 5}}',
      '{"type": "executed", "data": {"node": "9", "display_node": "9", "output": {"seed": 18446744073709551615, "scale": 1.0, "bad": NaN}, "prompt_id": "p"}}',
      '{"type": "executed", "data": {"node": "12:5", "display_node": "12", "output": null, "prompt_id": "p"}}',
      '{"type": "execution_success", "data": {"prompt_id": "p", "timestamp": 7}}',
    ])
  })

  it.each([
    ['{}', 'execution_success'],
    ['{"status": null, "outputs": null, "meta": null}', 'execution_success'],
    ['{"status": {"status_str": "error", "messages": [["execution_start"], 7, ["x", "y"]]}}', 'execution_error'],
  ])('has an end when its entry names none: %s', (entry, type) => {
    const told = synthesise('p', entry, 5) ?? []
    expect(told.map((frame) => (JSON.parse(frame) as { type: string }).type)).toEqual(['execution_start', type])
  })

  it.each(['', 'not JSON', '[]', '"text"', '{"outputs": '])('is nothing when the text is no entry: %j', (entry) => {
    expect(synthesise('p', entry, 5)).toBeUndefined()
  })
})
