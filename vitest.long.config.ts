import { defineConfig } from 'vitest/config'

// One file at a time: these runs measure and break whole fleets, and would disturb each other.
export default defineConfig({
  test: { include: ['test/long/**/*.test.ts'], fileParallelism: false, testTimeout: 1_800_000, hookTimeout: 60_000 },
})
