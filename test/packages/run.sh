#!/usr/bin/env bash
# Builds the packages twice, looks into them, and installs one in a clean Debian
# beside a real Postfix; on Debian as root. Installs the Debian packages rpm,
# groff-base, systemd and debootstrap if they are missing. The clean Debian is kept
# in /var/cache for the next time.
set -euo pipefail
cd "$(dirname "$0")"
. ../debian.sh
need rpm rpm
need groff groff-base
need systemd-analyze systemd
need debootstrap debootstrap
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
