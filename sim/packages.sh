#!/bin/sh
# Installs what is missing on Debian or Ubuntu (root or sudo).  Usage: sh sim/packages.sh [test]
# "test" adds what only the tests need.  Does nothing, and needs no network, once all is there.
set -eu
packages="gcc libc6-dev cmake ninja-build pkg-config git ca-certificates libgomp1
  libopenblas-serial-dev librandom123-dev libsqlite3-dev libyaml-dev libjansson-dev
  libxxhash-dev gnuplot-nox"
[ "${1-}" = test ] && packages="$packages g++ libcmocka-dev libmpfr-dev python3 python3-venv"
missing=
for p in $packages; do
    case $(dpkg-query -W -f='${Status}' "$p" 2>/dev/null || true) in
    "install ok installed") ;;
    *) missing="$missing $p" ;;
    esac
done
[ -z "$missing" ] && exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "packages.sh: needs Debian or Ubuntu (apt-get); install the counterparts of:$missing" >&2
    exit 1
fi
sudo=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || { echo "packages.sh: needs root or sudo to install:$missing" >&2; exit 1; }
    sudo=sudo
fi
echo "Installing:$missing" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { $sudo apt-get update && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "packages.sh: apt-get failed to install:$missing" >&2
    exit 1
fi
