#!/bin/sh
# Installs what is missing, builds fplaw twice (release with warnings as errors; address and
# undefined-behaviour sanitizers) and runs the tests of both through CTest.
#   sh tests/run.sh            both builds (what CI runs)
#   sh tests/run.sh release    the first only
#   sh tests/run.sh sanitize   the second only
set -eu
cd "$(dirname "$0")/.."
sh sim/packages.sh test
which=${1-both}
jobs=$(nproc 2>/dev/null || echo 2)
run() {
    preset=$1
    shift
    cmake --preset "$preset" -Wno-dev >"/tmp/fplaw-configure-$$.log" 2>&1 || { cat "/tmp/fplaw-configure-$$.log"; exit 1; }
    rm -f "/tmp/fplaw-configure-$$.log"
    cmake --build --preset "$preset" --parallel "$jobs"
    ctest --test-dir "$(build_of "$preset")" --output-on-failure --parallel "$jobs" "$@"
}
build_of() { [ "$1" = ci ] && echo build || echo build-sanitize; }
export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1
case $which in
both | sanitize) run sanitize -LE "slow|gpu|network" ;;
release) ;;
*) echo "run.sh: '$which' is not understood; accepted: both, release, sanitize" >&2; exit 2 ;;
esac
case $which in
both | release) run ci -LE "slow|gpu|network" ;;
esac
