#!/usr/bin/env bash
# Installs, builds and starts ComfyFleet; the first two only when something changed.
#   ./run.sh                the gateway
#   ./run.sh demo           the gateway with three simulated workers
#   ./run.sh verify <url>   uses every worker of a running gateway once and says what it found
#   ./run.sh test           the tests; fetches Chromium, MariaDB and Redis for them where it may
set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

needed='ComfyFleet needs Node 20.19 or newer (https://nodejs.org)'
if ! command -v node >/dev/null 2>&1; then
  echo "$needed; no Node was found." >&2
  exit 1
fi
if ! node -e 'var v = process.versions.node.split("."); process.exit(+v[0] > 20 || (+v[0] === 20 && +v[1] >= 19) ? 0 : 1)'; then
  echo "$needed; this is $(node --version)." >&2
  exit 1
fi

node scripts/prepare.mjs

case "${1-}" in
  test)
    shift
    npx --no-install tsx scripts/test-packages.ts
    exec npm test -- "$@"
    ;;
  demo | verify)
    exec node dist/cli.js "$@"
    ;;
  *)
    exec node dist/main.js "$@"
    ;;
esac
