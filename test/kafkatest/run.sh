#!/usr/bin/env bash
# Runs the tests against a real Apache Kafka, as root on Debian. Installs Java,
# Maven and kcat, as far as they are missing; the tests fetch Kafka themselves.
set -euo pipefail
cd "$(dirname "$0")/../.."
. test/debian.sh
need_kafka
need kcat kcat
E2E_SERVERS=1 go test -count=1 -timeout 10m -v -run 'Server' ./test/kafkatest ./sources/kafka
