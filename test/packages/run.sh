#!/usr/bin/env bash
# Builds the packages twice, looks into them, and installs one in a clean Debian
# beside a real Postfix; on Debian as root. Installs the Debian packages rpm,
# groff-base, systemd and debootstrap if they are missing. The clean Debian is kept
# in /var/cache for the next time.
set -euo pipefail
cd "$(dirname "$0")"
missing=()
command -v rpm >/dev/null || missing+=(rpm)
command -v groff >/dev/null || missing+=(groff-base)
command -v systemd-analyze >/dev/null || missing+=(systemd)
command -v debootstrap >/dev/null || missing+=(debootstrap)
if [ ${#missing[@]} -gt 0 ]; then
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
suite=bookworm
debian=/var/cache/bouncemeter-$suite.tar
if ! [ -e "$debian" ]; then
	echo "making a clean Debian"
	debootstrap --variant=minbase --include=systemd,postfix "$suite" "$tools/root" >"$tools/log" || { cat "$tools/log"; exit 1; }
	tar -C "$tools/root" -cf "$tools/tar" .
	mv "$tools/tar" "$debian"
fi
version=$(sed -n 's/^nfpm=\(v[0-9.]*\).*/\1/p' ../../configs/package/build.sh)
GOBIN=$tools go install "github.com/goreleaser/nfpm/v2/cmd/nfpm@$version"
DEBIAN=$debian NFPM=$tools/nfpm go test -count=1 -timeout 15m -v .
