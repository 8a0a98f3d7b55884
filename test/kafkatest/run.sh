#!/usr/bin/env bash
# Runs the tests against a real Apache Kafka, as root on Debian. Installs Java,
# Maven and kcat, as far as they are missing; the tests fetch Kafka themselves.
set -euo pipefail
cd "$(dirname "$0")/../.."
if ! command -v java >/dev/null || ! command -v mvn >/dev/null || ! command -v kcat >/dev/null; then
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends openjdk-17-jre-headless maven kcat >/dev/null
fi
E2E_SERVERS=1 go test -count=1 -timeout 10m -v -run 'Server' ./test/kafkatest ./sources/kafka
