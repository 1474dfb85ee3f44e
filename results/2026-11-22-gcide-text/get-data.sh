#!/bin/sh
# The text of Debian's dict-gcide, downloaded and unpacked, never installed: gcide.txt here.
set -eu
cd "${1-.}"
[ -s gcide.txt ] && exit 0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
(cd "$tmp" && apt-get download dict-gcide >/dev/null && dpkg -x dict-gcide_*.deb x)
gzip -dc "$tmp/x/usr/share/dictd/gcide.dict.dz" >gcide.txt.part
mv gcide.txt.part gcide.txt
