/** Which part of a history, ordered by finishing, a query asks for. */
export type HistoryWindow =
  /** The newest `count`; all when undefined. */
  | { kind: 'newest'; count: number | undefined }
  /** From the `skip`-th oldest on, at most `count`; all that follow when undefined. */
  | { kind: 'from'; skip: number; count: number | undefined }

/**
 * Reads `max_items` and `offset` as ComfyUI does: a negative offset is none, and with an offset at least one entry is
 * given, because ComfyUI looks at `max_items` only after it has taken an entry.
 */
export function historyWindow(query: { maxItems: number | undefined; offset: number | undefined }): HistoryWindow {
  if (query.offset === undefined || query.offset < 0) {
    return { kind: 'newest', count: query.maxItems === undefined ? undefined : Math.max(0, query.maxItems) }
  }
  return {
    kind: 'from',
    skip: query.offset,
    count: query.maxItems === undefined ? undefined : Math.max(1, query.maxItems),
  }
}
