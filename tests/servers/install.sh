#!/bin/sh
# Installs the servers that the tests start, from Debian or Ubuntu: run as root, or with sudo.
# None of them starts by itself: the tests start their own, on 127.0.0.1, and end them.
set -eu

packages="prometheus haproxy victoria-metrics postgresql influxdb prometheus-pushgateway graphite-web python3-whisper tmux git"

missing=""
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "missing:$missing; run this with sudo" >&2
    exit 1
fi

# What is asked before a service is started; 101 forbids it. Afterwards it is as it was.
policy=/usr/sbin/policy-rc.d
kept=""
restore() {
    rm -f "$policy"
    [ -z "$kept" ] || mv "$kept" "$policy"
}
if [ -e "$policy" ] || [ -L "$policy" ]; then
    kept=$policy.andon-kept
    mv "$policy" "$kept"
fi
trap restore EXIT
trap 'exit 1' HUP INT TERM
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod 755 "$policy"

export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
# shellcheck disable=SC2086
apt-get -qq install -y --no-install-recommends $missing >/dev/null
