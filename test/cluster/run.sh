#!/usr/bin/env bash
# Runs the tests of many instances on one ledger against a real PostgreSQL and a
# real Apache Kafka, as root on Debian. Installs postgresql, Java and Maven, as
# far as they are missing; the tests fetch Kafka and start the servers.
set -euo pipefail
cd "$(dirname "$0")"
. ../debian.sh
need_kafka
need_postgresql
E2E_SERVERS=1 go test -count=1 -timeout 10m -v "$@" .
