/** A clock that stands still until it is moved. Milliseconds since the epoch. */
export function createClock(start = 1_700_000_000_000) {
  let time = start
  return {
    now: () => time,
    advance: async (ms: number) => {
      time += ms
    },
  }
}
