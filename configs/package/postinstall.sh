#!/bin/sh
# After the package is installed or upgraded: the user, and systemd's knowledge
# of the unit. The service is not started at first, since it needs the log's path.
set -e
if command -v systemd-sysusers >/dev/null; then
	systemd-sysusers bouncemeter.conf
elif ! getent passwd bouncemeter >/dev/null; then
	useradd --system --home-dir /var/lib/bouncemeter --no-create-home --shell /usr/sbin/nologin --user-group bouncemeter
	if getent group adm >/dev/null; then usermod --append --groups adm bouncemeter; fi
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	# Of an older version, go on with this one.
	systemctl try-restart bouncemeter.service || true
	if ! systemctl is-enabled --quiet bouncemeter.service; then
		echo "bouncemeter: set the log's path in /etc/bouncemeter/bouncemeter.yaml, then: systemctl enable --now bouncemeter"
	fi
fi
