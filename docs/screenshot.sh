#!/usr/bin/env bash
# Makes docs/page.png, the picture in the README: the page of the demonstration
# after its incident, in headless Chromium. Installs the Debian packages chromium,
# fonts-dejavu-core and pngquant if they are missing. Takes five minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v chromium >/dev/null || ! command -v pngquant >/dev/null; then
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core pngquant >/dev/null
fi
work=$(mktemp -d)
go build -o "$work/bouncemeter" ./cmd/bouncemeter
address=127.0.0.1:9731
"$work/bouncemeter" demo --listen "$address" --for 10m >"$work/log" &
demo=$!
trap 'kill "$demo" 2>/dev/null || true; wait "$demo" || true; rm -rf "$work"' EXIT
echo "the incident needs some minutes to show"
sleep "${WAIT:-300}"
chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$work/chromium" \
	--window-size=1200,1460 --timeout=5000 --screenshot="$work/page.png" "http://$address/?last=6h" 2>/dev/null
pngquant --force --quality 60-95 --speed 1 --strip --output docs/page.png "$work/page.png"
size=$(stat -c %s docs/page.png)
echo "docs/page.png: $size bytes"
[ "$size" -lt 300000 ]
