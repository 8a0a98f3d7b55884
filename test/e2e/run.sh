#!/usr/bin/env bash
# Runs the end-to-end tests against real servers, as root on Debian.
# Installs the Debian packages postfix (not configured, not started),
# rsyslog with TLS, and what writes a journal of systemd, as far as they
# are missing. Exim, Sendmail and OpenSMTPD exclude each other as packages: their
# files are unpacked into a folder, and only the libraries that they need are
# installed.
set -euo pipefail
cd "$(dirname "$0")"
. ../debian.sh
if ! command -v postfix >/dev/null; then
	echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
	install_packages postfix
fi
dpkg -s rsyslog rsyslog-openssl >/dev/null 2>&1 || install_packages rsyslog rsyslog-openssl
[ -x /lib/systemd/systemd-journal-remote ] || install_packages systemd systemd-journal-remote procps
mtas=/var/cache/bouncemeter-e2e
if ! [ -e "$mtas/complete" ]; then
	packages="exim4-daemon-light opensmtpd sendmail-bin sendmail-cf"
	apt-get update -qq
	# shellcheck disable=SC2046,SC2086 # lists of words
	install_packages m4 util-linux $(apt-cache depends $packages | awk '$1 == "Depends:" && $2 ~ /^lib/ {print $2}' | sort -u)
	rm -rf "$mtas"
	mkdir -p "$mtas"
	for package in $packages; do
		(cd "$mtas" && apt-get download -qq "$package")
		dpkg-deb -x "$mtas/${package}"_*.deb "$mtas/$package"
	done
	touch "$mtas/complete"
fi
E2E_MTAS=$mtas E2E_SERVERS=1 go test -count=1 -timeout 30m -v .
