#!/usr/bin/env bash
# Builds the packages twice and looks into them, on Debian as root. Installs the
# Debian packages rpm, groff-base and systemd if they are missing.
set -euo pipefail
cd "$(dirname "$0")"
missing=()
command -v rpm >/dev/null || missing+=(rpm)
command -v groff >/dev/null || missing+=(groff-base)
command -v systemd-analyze >/dev/null || missing+=(systemd)
if [ ${#missing[@]} -gt 0 ]; then
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
version=$(sed -n 's/^nfpm=\(v[0-9.]*\).*/\1/p' ../../configs/package/build.sh)
GOBIN=$tools go install "github.com/goreleaser/nfpm/v2/cmd/nfpm@$version"
NFPM=$tools/nfpm go test -count=1 -timeout 15m -v .
