/** The highest fence seen, shared by leases and claims. */
export interface FenceMark {
  highest: number
}
