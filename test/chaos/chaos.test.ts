import { expect, it } from 'vitest'
import { describeChaos, runChaos, tidyChaos } from './harness.ts'
import { planChaos } from './plan.ts'

it('loses, repeats and mixes up nothing while each worker and the gateway are killed once', async () => {
  const plan = planChaos(Number(process.env.CHAOS_SEED ?? 1), { clients: 6, prompts: 90, workers: 3, gatewayKills: 1 })
  const report = await runChaos(plan, { deadlineMs: 60_000 })
  expect(report.violations, describeChaos(report)).toEqual([])
  expect(report.figures).toMatchObject({ lost: 0, toldAll: 90, workerDeaths: 3, gatewayDeaths: 1 })
  await tidyChaos(report)
}, 120_000)
