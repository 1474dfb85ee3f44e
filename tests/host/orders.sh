#!/bin/sh
# A program of CUDA kernels executed on the host, in three orders of blocks, warps and lanes: its digest of
# all results must be the same.  A difference is a missing barrier.   sh orders.sh PROGRAM
set -eu
export FPLAW_TEST_BACKEND=cuda
# Of the long lists of cases every seventh: 7 has no factor in common with their loops.
export FPLAW_TEST_SHARE=${FPLAW_TEST_SHARE:-7}
want=
for order in forward reversed shuffled; do
    out=$(FPLAW_HOST_ORDER=$order "$1" 2>&1) || { echo "$out"; echo "order $order: failed"; exit 1; }
    bits=$(echo "$out" | sed -n 's/^bits //p')
    [ -n "$bits" ] || { echo "order $order: the program printed no digest"; exit 1; }
    [ -z "$want" ] && want=$bits
    [ "$bits" = "$want" ] || { echo "order $order: bits $bits, forward gave $want"; exit 1; }
done
echo "$out"
