#!/usr/bin/env bash
# Builds the binaries and packages of a version, with a list of what is in them:
#
#   configs/package/build.sh 1.2.3 dist          needs Go, git and gzip
#   ARCHS=amd64 configs/package/build.sh 1.2.3 dist
#
# The same commit and Go version give the same bytes. Checksums are in SHA256SUMS.
set -euo pipefail
cd "$(dirname "$0")/../.."
nfpm=v2.43.4 # later ones need modules that not every proxy has
VERSION=${1:?which version, such as 1.2.3}
out=$(realpath -m "${2:-dist}")
archs=${ARCHS:-amd64 arm64}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export VERSION SOURCE_DATE_EPOCH CGO_ENABLED=0
umask 022 # modes of files are part of the bytes

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
NFPM=${NFPM:-}
if [ -z "$NFPM" ]; then
	GOBIN=$work/bin go install "github.com/goreleaser/nfpm/v2/cmd/nfpm@$nfpm"
	NFPM=$work/bin/nfpm
fi
# What runs here makes the pages and lists for all.
go build -trimpath -buildvcs=false -o "$work/host" ./cmd/bouncemeter
go build -trimpath -buildvcs=false -o "$work/sbom" ./internal/sbom

for ARCH in $archs; do
	export ARCH STAGE=$work/$ARCH
	mkdir -p "$STAGE"
	GOARCH=$ARCH go build -trimpath -pgo=cmd/bouncemeter/release.pgo -buildvcs=false -ldflags="-s -w -buildid= -X main.version=$VERSION" -o "$STAGE/bouncemeter" ./cmd/bouncemeter
	"$work/sbom" "$VERSION" "$STAGE/bouncemeter" >"$STAGE/bouncemeter.cdx.json"
	"$work/host" man | gzip -9n >"$STAGE/bouncemeter.1.gz"
	for shell in bash zsh fish; do "$work/host" completion $shell >"$STAGE/bouncemeter.$shell"; done
	# Copies of what is in the tree have the time of the commit, too.
	find "$STAGE" -type f -exec touch -d "@$SOURCE_DATE_EPOCH" {} +
	for format in deb rpm; do "$NFPM" package -f configs/package/nfpm.yaml -p $format -t "$out" >&2; done
	tar -C "$STAGE" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -c bouncemeter bouncemeter.1.gz |
		gzip -9n >"$out/bouncemeter_${VERSION}_linux_$ARCH.tar.gz"
	cp "$STAGE/bouncemeter.cdx.json" "$out/bouncemeter_${VERSION}_linux_$ARCH.cdx.json"
done
cd "$out"
sha256sum -- *.deb *.rpm *.tar.gz *.cdx.json >SHA256SUMS
cat SHA256SUMS
