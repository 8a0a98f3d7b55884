# Sourced by scripts that install what their tests need on Debian.

install_packages() {
	echo "installing $*"
	local sudo=()
	if [ "$(id -u)" != 0 ]; then sudo=(sudo); fi
	"${sudo[@]}" apt-get update -qq
	"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# need COMMAND PACKAGE... installs packages if a command is missing.
need() {
	command -v "$1" >/dev/null || install_packages "${@:2}"
}

# need_service COMMAND PACKAGE installs a package whose service is not used.
need_service() {
	if command -v "$1" >/dev/null; then return; fi
	install_packages "$2"
	if [ -d /run/systemd/system ]; then systemctl disable --now "$2"; fi
}

# need_postgresql installs the server without a cluster of the system's own.
need_postgresql() {
	if ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then return; fi
	mkdir -p /etc/postgresql-common/createcluster.d
	echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.d/bouncemeter-test.conf
	install_packages postgresql
}

# need_kafka installs what test/kafkatest fetches and runs Kafka with.
need_kafka() {
	need java openjdk-17-jre-headless
	need mvn maven
}
