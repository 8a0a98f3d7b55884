#!/usr/bin/env bash
# Loads the queries of the dashboards and the rules into a real Prometheus that
# scrapes the demonstration, as root on Debian. Installs the Debian package
# prometheus (with promtool) if it is missing; its service is not used.
set -euo pipefail
cd "$(dirname "$0")"
. ../debian.sh
need_service promtool prometheus
promtool check config ../../configs/prometheus/scrape.yaml
promtool test rules ../../configs/prometheus/rules_test.yaml
PROMETHEUS=$(command -v prometheus) go test -count=1 -timeout 10m -v .
