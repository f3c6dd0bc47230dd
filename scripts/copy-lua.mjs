import { cpSync } from 'node:fs'

// The compiler leaves what is not TypeScript behind.
const lua = 'store/redis/lua'
cpSync(new URL(`../src/${lua}`, import.meta.url), new URL(`../dist/${lua}`, import.meta.url), { recursive: true })
