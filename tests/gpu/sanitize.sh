#!/bin/sh
# A program under each tool of compute-sanitizer: accesses outside buffers, reads of memory that nothing wrote, races
# in shared memory, barriers that not all threads reach.  77 without a device or the tools.
#   sh sanitize.sh PROBE PROGRAM
set -u
"$1" || exit $?
tool=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null) || {
    echo 'skipped: no compute-sanitizer'
    exit 77
}
export FPLAW_TEST_BACKEND=cuda FPLAW_TEST_SHARE=${FPLAW_TEST_SHARE:-25}
for check in memcheck initcheck racecheck synccheck; do
    out=$("$tool" --tool "$check" --error-exitcode 9 "$2" 2>&1) || {
        echo "$out"
        echo "$check: failed"
        exit 1
    }
    echo "$check: nothing found"
done
