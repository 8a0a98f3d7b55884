#!/usr/bin/env bash
# Runs the end-to-end tests against real servers, as root on Debian.
# Installs: postfix (Debian package), without configuring or starting it.
set -euo pipefail
cd "$(dirname "$0")"
if ! command -v postfix >/dev/null; then
	echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postfix >/dev/null
fi
BOUNCEMETER_E2E=1 go test -count=1 -timeout 10m -v .
