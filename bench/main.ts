// All that is measured, one after the other: `npm run bench`.
await import('./store.ts')
await import('./gateway.ts')
