#!/usr/bin/env bash
# Tries every fault in the short form, as root on Debian. Installs logrotate and
# the compressors, as far as they are missing. Rows that need Kafka, PostgreSQL or
# Alertmanager are skipped unless their own scripts have set what they need; see
# test/kafkatest, test/cluster, test/alertmanager.
#
#   test/faults/run.sh -full -write docs/faults.md    all of it, and the page
set -euo pipefail
cd "$(dirname "$0")/../.."
if ! command -v logrotate >/dev/null || ! command -v xz >/dev/null || ! command -v bzip2 >/dev/null || ! command -v zstd >/dev/null; then
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends logrotate xz-utils bzip2 zstd >/dev/null
fi
go run ./test/faults "$@"
