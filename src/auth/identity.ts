/** Who asks. Everything that is kept or limited carries these from the first line on. */
export interface Identity {
  /** Decides who sees prompts, files, lists and sockets: the API key, or the one open owner while keys are off. */
  owner: string
  /** Limits, counts, untargeted interrupts and `clear` are the caller's own: the key, else the address. */
  caller: string
}

/** The owner of everything while no keys exist: everybody sees everything, as in ComfyUI. */
export const OPEN_OWNER = 'open'

/** The identity of an address while keys are off. */
export const openIdentity = (address: string): Identity => ({
  owner: OPEN_OWNER,
  caller: `addr:${plainAddress(address)}`,
})

/** One name for one machine: a client may post over `::1` and listen over `127.0.0.1`. */
function plainAddress(address: string): string {
  return address === '::1' || address.startsWith('127.') ? 'loopback' : address
}
