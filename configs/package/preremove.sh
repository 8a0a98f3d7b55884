#!/bin/sh
# Before the package is removed, but not before an upgrade. The ledger stays.
set -e
case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then systemctl disable --now bouncemeter.service || true; fi
	;;
esac
