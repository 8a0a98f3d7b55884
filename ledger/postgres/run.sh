#!/usr/bin/env bash
# Runs the tests of this package against a real PostgreSQL, which they start
# themselves. Arguments go to go test. Installs the Debian package postgresql if
# it is missing; its service is not used.
set -euo pipefail
cd "$(dirname "$0")"
. ../../test/debian.sh
need_postgresql
E2E_SERVERS=1 go test -count=1 -timeout 10m "$@" . -rapid.checks="${CHECKS:-10}"
