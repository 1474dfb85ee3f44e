#!/bin/sh
# fplaw in one command, on a fresh Debian or Ubuntu machine (root or sudo):
#   sh sim/quickstart.sh [DIRECTORY]
# installs what is missing, builds, runs the demo study (sim/demo.yaml, no input file needed),
# fits four laws, writes the report and prints its path.  Run again, it does only what is
# missing.  DIRECTORY (default: demo) keeps the study.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
out=${1-$here/demo}
sh "$here/sim/packages.sh"
build=$here/build-quickstart
echo "Building fplaw in $build"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { cmake -S "$here" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DFPLAW_TESTS=OFF -DFPLAW_CUDA=OFF &&
    cmake --build "$build" --parallel "$(nproc 2>/dev/null || echo 2)"; } >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    exit 1
fi
fplaw=$build/fplaw
"$fplaw" --version
"$fplaw" study "$here/sim/demo.yaml" --out "$out"
"$fplaw" study "$out" --export "$out/runs.csv"
"$fplaw" fit --law chinchilla,capybara,steplaw,joint "$out" --bootstrap 1000 --out "$out/fit.json" || [ $? -eq 1 ]
"$fplaw" predict "$out/fit.json" N=1e6 D=2e7 format=e4m3 block=32
"$fplaw" report "$out" --out "$out/report.html"
echo "Report: $out/report.html"
