/** The page before there is anything to show on it. */
export function App() {
  return (
    <main>
      <h1>ComfyFleet</h1>
      <p>This page will show the fleet.</p>
      <p>
        <a href="/api/gateway/docs">The gateway&apos;s API</a>
      </p>
    </main>
  )
}
