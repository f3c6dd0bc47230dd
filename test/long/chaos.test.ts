import { expect, it } from 'vitest'
import { describeChaos, runChaos, tidyChaos } from '../chaos/harness.ts'
import { planChaos } from '../chaos/plan.ts'

it('loses, repeats and mixes up nothing of 500 prompts while 8 workers are killed once and the gateway twice', async () => {
  const seed = Number(process.env.CHAOS_SEED ?? Date.now() % 1_000_000)
  const plan = planChaos(seed, { clients: 20, prompts: 500, workers: 8, gatewayKills: 2 })
  const report = await runChaos(plan, { deadlineMs: 300_000 })
  console.log(describeChaos(report))
  await tidyChaos(report)
  expect(report.violations).toEqual([])
  expect(report.figures).toMatchObject({ lost: 0, toldAll: 500, workerDeaths: 8, gatewayDeaths: 2 })
}, 600_000)
