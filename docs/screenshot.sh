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
"$work/bouncemeter" demo --listen 127.0.0.1:0 --for 15m >"$work/log" &
demo=$!
trap 'kill "$demo" 2>/dev/null || true; wait "$demo" || true; rm -rf "$work"' EXIT
echo "the incident needs some minutes to show"
for _ in $(seq 300); do
	if grep -q FIRING "$work/log"; then break; fi
	sleep 1
done
sleep "${WAIT:-150}"
page=$(sed -n 's/^  page *//p' "$work/log")
chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$work/chromium" \
	--window-size=1200,1433 --timeout=5000 --screenshot="$work/page.png" "$page?last=6h" 2>/dev/null
pngquant --force --quality 60-95 --speed 1 --strip --output docs/page.png "$work/page.png"
size=$(stat -c %s docs/page.png)
echo "docs/page.png: $size bytes"
[ "$size" -lt 300000 ]
