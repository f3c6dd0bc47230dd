import { createMemoryStore } from '../../src/store/memory/memory.ts'
import { storeContract } from '../contracts/store.ts'
import { createClock } from '../support/clock.ts'

storeContract('memory', async () => {
  const clock = createClock()
  return { store: createMemoryStore({ now: clock.now }), advance: clock.advance }
})
