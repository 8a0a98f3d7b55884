#!/usr/bin/env bash
# Runs the tests of many instances on one ledger against a real PostgreSQL and a
# real Apache Kafka, as root on Debian. Installs postgresql, Java and Maven, as
# far as they are missing; the tests fetch Kafka and start the servers.
set -euo pipefail
cd "$(dirname "$0")"
if ! command -v java >/dev/null || ! command -v mvn >/dev/null; then
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends openjdk-17-jre-headless maven >/dev/null
fi
if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
	# No cluster of the system's own.
	mkdir -p /etc/postgresql-common/createcluster.d
	echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.d/bouncemeter-test.conf
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null
fi
E2E_SERVERS=1 go test -count=1 -timeout 10m -v "$@" .
