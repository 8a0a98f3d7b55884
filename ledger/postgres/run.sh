#!/usr/bin/env bash
# Runs the tests of this package against a real PostgreSQL, which it starts on a
# socket in a temporary folder and stops afterwards. Arguments go to go test.
# Installs the Debian package postgresql if it is missing.
set -euo pipefail
cd "$(dirname "$0")"
bin() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1; }
if [ -z "$(bin)" ]; then
	echo "installing postgresql"
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null
fi
folder=$(mktemp -d)
# The server refuses to run as root.
as=()
if [ "$(id -u)" = 0 ]; then
	chown postgres "$folder"
	as=(setpriv --reuid=postgres --regid=postgres --init-groups)
fi
stop() {
	"${as[@]}" "$(bin)/pg_ctl" -D "$folder/data" -m immediate stop >/dev/null || true
	rm -rf "$folder"
}
trap stop EXIT
"${as[@]}" "$(bin)/initdb" -D "$folder/data" -U bouncemeter -A trust -E UTF8 --locale=C >/dev/null
"${as[@]}" "$(bin)/pg_ctl" -D "$folder/data" -w -l "$folder/log" \
	-o "-c listen_addresses='' -c unix_socket_directories='$folder' -c fsync=off" start >/dev/null
chmod 755 "$folder"
BOUNCEMETER_TEST_POSTGRES="host=$folder user=bouncemeter dbname=postgres" go test -count=1 "$@" .
