#!/bin/sh
# A host_* program on the real device, twice: it must pass, and both runs must give the same digest of all results
# ("bits ..."), where it prints one.  77 without a device.   sh run.sh PROBE PROGRAM
set -u
"$1" || exit $?
export FPLAW_TEST_BACKEND=cuda
first=$("$2" 2>&1) || { echo "$first"; exit 1; }
second=$("$2" 2>&1) || { echo "$second"; echo 'the second run failed'; exit 1; }
echo "$first"
bits() { printf '%s\n' "$1" | sed -n 's/^bits //p'; }
[ "$(bits "$first")" = "$(bits "$second")" ] || { echo "the second run gives other bits: $(bits "$second")"; exit 1; }
