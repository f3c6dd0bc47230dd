import react from '@vitejs/plugin-react'
import { defineConfig } from 'vite'

// The dev server owns the page; everything else goes to the gateway. Bare paths as well: ComfyUI's routes have no
// common prefix, so what is not one of Vite's own modules is passed on.
const gateway = 'http://127.0.0.1:8000'
const ownPaths = ['/(?:$|\\?)', '/cluster', '/src/', '/@', '/node_modules/', '/index\\.html']

export default defineConfig({
  plugins: [react()],
  server: {
    proxy: {
      [`^(?!${ownPaths.join('|')})`]: { target: gateway },
      '^(/api)?/ws($|\\?)': { target: gateway, ws: true },
    },
  },
})
