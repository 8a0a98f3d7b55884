#!/usr/bin/env bash
# Runs the test against real Alertmanagers, as root on Debian. Installs the
# Debian package prometheus-alertmanager if it is missing; its service is not
# used. OUTAGE is how long both members are down, 10s unless given.
set -euo pipefail
cd "$(dirname "$0")"
. ../debian.sh
need_service prometheus-alertmanager prometheus-alertmanager
ALERTMANAGER=$(command -v prometheus-alertmanager) OUTAGE=${OUTAGE:-10s} go test -count=1 -timeout 15m -v .
