/**
 * Releases of 2026 answer a few routes in another form than those before, and a front end goes with its server: our own
 * answers have the form of the UI worker. Its `comfyui_version` decides; what is not known counts as recent.
 */
export function isRecentRelease(version: string | undefined): boolean {
  const [, major, minor] = /^v?(\d+)\.(\d+)/.exec(version ?? '') ?? []
  return major === undefined || Number(major) > 0 || Number(minor) > LAST_OLD_MINOR
}

/** 0.3.x was released until the end of 2025. */
const LAST_OLD_MINOR = 3
