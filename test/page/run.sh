#!/usr/bin/env bash
# Looks at the daemon's pages in headless Chromium as people do: with the keyboard,
# on a phone, in the dark, with what remote servers may say; and has axe-core look
# for labels and contrast. As root on Debian; installs the Debian packages chromium
# and fonts-dejavu-core if they are missing, and takes axe-core from npm into a
# temporary folder. SCREENSHOTS=FOLDER keeps a picture of every page.
set -euo pipefail
cd "$(dirname "$0")"
axe=4.14.1
. ../debian.sh
need chromium chromium fonts-dejavu-core
need npm npm
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
(cd "$tools" && npm pack --silent "axe-core@$axe" >/dev/null && tar -xzf "axe-core-$axe.tgz" package/axe.min.js)
CHROMIUM=$(command -v chromium) AXE=$tools/package/axe.min.js go test -count=1 -timeout 10m -v .
