#!/usr/bin/env bash
# Runs the end-to-end tests against real servers, as root on Debian.
# Installs the Debian packages postfix (not configured, not started), logrotate
# and xz-utils, as far as they are missing.
set -euo pipefail
cd "$(dirname "$0")"
if ! command -v postfix >/dev/null || ! command -v logrotate >/dev/null || ! command -v xz >/dev/null; then
	echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postfix logrotate xz-utils >/dev/null
fi
E2E_SERVERS=1 go test -count=1 -timeout 10m -v .
