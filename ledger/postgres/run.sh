#!/usr/bin/env bash
# Runs the tests of this package against a real PostgreSQL, which they start
# themselves. Arguments go to go test. Installs the Debian package postgresql if
# it is missing; its service is not used.
set -euo pipefail
cd "$(dirname "$0")"
if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
	# No cluster of the system's own.
	mkdir -p /etc/postgresql-common/createcluster.d
	echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.d/bouncemeter-test.conf
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null
fi
E2E_SERVERS=1 go test -count=1 -timeout 10m "$@" . -rapid.checks="${CHECKS:-10}"
