import { createSimulatedWorker, type SimulatedWorker, type SimulatedWorkerOptions } from './simulated-worker.ts'

/** Starts `count` simulated workers on free ports, each with a name and seed of its own. */
export function startSimulatedFleet(
  count: number,
  options: Omit<SimulatedWorkerOptions, 'port' | 'name' | 'seed' | 'folder'> = {},
): Promise<SimulatedWorker[]> {
  return Promise.all(
    Array.from({ length: count }, (_, index) =>
      createSimulatedWorker({ ...options, name: `Simulated GPU ${index + 1}`, seed: index + 1 }),
    ),
  )
}
