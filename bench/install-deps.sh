#!/bin/sh
# Installs the peers that the bench measures beside: haproxy and nginx from
# Debian. Envoy comes from a Python package, which the bench fetches by itself.
set -eu

missing=""
[ -x /usr/sbin/haproxy ] || missing="$missing haproxy"
[ -x /usr/sbin/nginx ] || missing="$missing nginx-light"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "bench: install these first:$missing" >&2
	exit 1
fi

# The packages would start their servers; this keeps them from it.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
	trap 'rm -f $policy' EXIT
fi
apt-get update -qq
# shellcheck disable=SC2086 # one word for each package
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing
