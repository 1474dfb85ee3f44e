#!/bin/sh
# levels.sh PROGRAM - run a test_reference program at every SIMD level: each must pass, and
# the digests of their results ("bits ..." on the last line of harness_close) must agree.
program=$1
wanted=
for level in highest avx2 baseline; do
    if [ "$level" = highest ]; then
        output=$(unset FPLAW_SIMD; "$program" 2>&1)
    else
        output=$(FPLAW_SIMD=$level "$program" 2>&1)
    fi || { printf '%s\nfailed at level %s\n' "$output" "$level"; exit 1; }
    bits=$(printf '%s\n' "$output" | sed -n 's/^.*bits \([0-9a-f]\{16\}\)$/\1/p')
    [ -n "$bits" ] || { echo "no digest at level $level"; exit 1; }
    echo "$level $bits"
    [ -z "$wanted" ] || [ "$bits" = "$wanted" ] || { echo "level $level gives other bits"; exit 1; }
    wanted=$bits
done
