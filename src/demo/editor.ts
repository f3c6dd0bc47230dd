import { createHash } from 'node:crypto'
import { type Answer, empty, type RouteRequest, withBody } from './answers.ts'
import type { WorkerState } from './worker-state.ts'

/**
 * The front end of a simulated worker: a page that does what ComfyUI's editor does with its server (socket, queue,
 * progress, pictures, history, cancel), so that a gateway can be tried in a browser without the real one.
 */

const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Simulated editor</title>
<link rel="stylesheet" href="/editor.css">
</head>
<body>
<h1>Simulated editor</h1>
<p>
  <button id="queue">Queue</button>
  <button id="cancel">Cancel all</button>
  <button id="reload-history">History</button>
  remaining: <output id="remaining">?</output>, socket: <output id="socket">closed</output>
</p>
<ol id="prompts"></ol>
<h2>History</h2>
<ul id="history"></ul>
<div id="extensions"></div>
<script type="module" src="/assets/editor-0001.js"></script>
</body>
</html>
`

const STYLE = 'body { font: 16px sans-serif; margin: 2em } img { width: 48px; image-rendering: pixelated }\n'

const SCRIPT = `const by = (id) => document.getElementById(id)
let clientId = sessionStorage.getItem('clientId') ?? undefined
const shown = new Map()

function entry(id) {
  if (!shown.has(id)) {
    const item = document.createElement('li')
    item.dataset.promptId = id
    item.dataset.state = 'waiting'
    item.dataset.ticks = '0'
    item.append(id.slice(0, 8) + ' ', document.createElement('progress'), ' ', document.createElement('span'))
    by('prompts').append(item)
    shown.set(id, item)
  }
  return shown.get(id)
}
function setState(id, state) {
  const item = entry(id)
  item.dataset.state = state
  item.querySelector('span').textContent = state
}

function connect() {
  const query = clientId ? '?clientId=' + encodeURIComponent(clientId) : ''
  const socket = new WebSocket(location.origin.replace(/^http/, 'ws') + '/ws' + query)
  socket.binaryType = 'arraybuffer'
  socket.onopen = () => {
    by('socket').textContent = 'open'
    socket.send(JSON.stringify({ type: 'feature_flags', data: { supports_preview_metadata: true } }))
  }
  socket.onclose = () => {
    by('socket').textContent = 'closed'
    setTimeout(connect, 300)
  }
  socket.onmessage = ({ data }) => {
    if (typeof data === 'string') hear(JSON.parse(data))
  }
}

function hear({ type, data }) {
  if (type === 'status') {
    if (data.sid) {
      clientId = data.sid
      sessionStorage.setItem('clientId', clientId)
    }
    by('remaining').textContent = String(data.status.exec_info.queue_remaining)
  }
  if (type === 'execution_start') setState(data.prompt_id, 'running')
  if (type === 'progress') {
    const item = entry(data.prompt_id)
    const bar = item.querySelector('progress')
    bar.max = data.max
    bar.value = data.value
    item.dataset.ticks = String(Number(item.dataset.ticks) + 1)
  }
  if (type === 'execution_error' || type === 'execution_interrupted') setState(data.prompt_id, type)
  if (type === 'execution_success') setState(data.prompt_id, 'done')
  if (type === 'executed') showPictures(entry(data.prompt_id), data.output)
  if (type === 'executing' && data.node === null) entry(data.prompt_id).dataset.ended = 'yes'
  dispatchEvent(new CustomEvent('comfy', { detail: { type, data } }))
}

function showPictures(item, output) {
  for (const { filename, subfolder, type } of output?.images ?? []) {
    const picture = new Image()
    picture.src = '/api/view?' + new URLSearchParams({ filename, subfolder, type })
    picture.dataset.subfolder = subfolder
    item.append(picture)
  }
}

async function queue(seconds = 0.6) {
  const colour = Math.floor(Math.random() * 0xffffff)
  const prompt = {
    1: { class_type: 'EmptyImage', inputs: { width: 16, height: 16, batch_size: 1, color: colour } },
    3: { class_type: 'TestSleep', inputs: { value: ['1', 0], seconds } },
    2: { class_type: 'SaveImage', inputs: { images: ['3', 0], filename_prefix: 'editor' } },
  }
  const extra_data = { extra_pnginfo: { workflow: { id: 'simulated' } } }
  const response = await fetch('/api/prompt', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ client_id: clientId, prompt, extra_data }),
  })
  const { prompt_id } = await response.json()
  entry(prompt_id)
  return prompt_id
}

async function cancelAll() {
  const { queue_running, queue_pending } = await (await fetch('/api/queue')).json()
  const waiting = queue_pending.map((each) => each[1])
  await fetch('/api/queue', { method: 'POST', body: JSON.stringify({ delete: waiting }) })
  for (const each of queue_running) {
    await fetch('/api/interrupt', { method: 'POST', body: JSON.stringify({ prompt_id: each[1] }) })
  }
  for (const id of waiting) setState(id, 'deleted')
}

async function showHistory() {
  const history = await (await fetch('/api/history?max_items=20')).json()
  by('history').replaceChildren(
    ...Object.entries(history).map(([id, { status }]) => {
      const item = document.createElement('li')
      item.dataset.promptId = id
      item.textContent = id.slice(0, 8) + ' ' + status.status_str
      return item
    }),
  )
}

by('queue').onclick = () => queue()
by('cancel').onclick = () => cancelAll()
by('reload-history').onclick = () => showHistory()
window.app = { queue, cancelAll, showHistory, addEventListener, extensions: [] }
connect()
for (const path of await (await fetch('/api/extensions')).json()) {
  if (!path.startsWith('/extensions/core/')) await import(path)
}
`

const EXTENSION = `const name = new URL(import.meta.url).pathname
window.app.extensions.push(name)
const item = document.createElement('p')
item.dataset.extension = name
document.getElementById('extensions').append(item)
const answer = await (await fetch('/api/demo/echo')).json()
item.textContent = name + ' at ' + answer.worker
item.dataset.worker = answer.worker
`

/** A file of the front end; undefined for other paths. */
export function editorFile(state: WorkerState, { method, path, headers }: RouteRequest): Answer | undefined {
  if (method !== 'GET' && method !== 'HEAD') return undefined
  const file = fileAt(state, path)
  if (!file) return undefined
  const etag = `"${createHash('sha256').update(file.text).digest('hex').slice(0, 16)}"`
  const answer = headers['if-none-match'] === etag ? empty(304) : withBody(200, file.type, Buffer.from(file.text))
  answer.headers.etag = etag
  answer.headers['cache-control'] = 'no-cache'
  return answer
}

function fileAt({ extensions }: WorkerState, path: string): { type: string; text: string } | undefined {
  switch (path) {
    case '/':
    case '/index.html':
      return { type: 'text/html', text: PAGE }
    case '/editor.css':
      return { type: 'text/css', text: STYLE }
    case '/assets/editor-0001.js':
      return { type: 'text/javascript', text: SCRIPT }
    default:
      return extensions.some((extension) => path === `/extensions/${extension}.js`)
        ? { type: 'text/javascript', text: EXTENSION }
        : undefined
  }
}
