import { describe, expect, it } from 'vitest'
import { planChaos, SPARE_COLOURS } from './plan.ts'

const scale = { clients: 20, prompts: 500, workers: 8, gatewayKills: 2 }

describe('the plan of a chaos run', () => {
  it('is decided by its seed', () => {
    expect(planChaos(5, scale)).toEqual(planChaos(5, scale))
    expect(planChaos(5, scale)).not.toEqual(planChaos(6, scale))
  })

  it('kills each worker once and the gateway as often as wanted, while there is work left', () => {
    for (let seed = 0; seed < 50; seed++) {
      const { faults } = planChaos(seed, scale)
      const workers = faults.flatMap(({ target }) => (target.kind === 'worker' ? [target.index] : []))
      expect(workers.toSorted()).toEqual([0, 1, 2, 3, 4, 5, 6, 7])
      expect(faults.length - workers.length).toBe(2)
      expect(faults.map(({ afterEnded }) => afterEnded)).toEqual(
        faults.map(({ afterEnded }) => afterEnded).toSorted((a, b) => a - b),
      )
      expect(Math.max(...faults.map(({ afterEnded }) => afterEnded))).toBeLessThan(scale.prompts * 0.85)
    }
  })

  it('spreads the prompts over the clients and gives each its own colour, and one to spare', () => {
    const { work } = planChaos(1, { ...scale, prompts: 505 })
    expect(work.map((each) => each.length)).toEqual([...Array(5).fill(26), ...Array(15).fill(25)])
    const colours = work.flat().flatMap(({ colour }) => [colour, colour ^ SPARE_COLOURS])
    expect(new Set(colours).size).toBe(1_010)
  })
})
