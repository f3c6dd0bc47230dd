/** Settings are wrong. Holds every mistake found, each naming its variable and none a secret. */
export class ConfigError extends Error {
  readonly problems: readonly string[]

  constructor(problems: readonly string[]) {
    super(
      `The settings have ${problems.length === 1 ? 'a mistake' : `${problems.length} mistakes`}:\n${list(problems)}`,
    )
    this.name = 'ConfigError'
    this.problems = problems
  }
}

const list = (problems: readonly string[]): string => problems.map((problem) => `  - ${problem}`).join('\n')
