/** An argument that may be missing, as the scripts read it (`optional` in lua/part/base.lua). */
export function optional(value: string | undefined): string {
  return value === undefined ? '' : `=${value}`
}
