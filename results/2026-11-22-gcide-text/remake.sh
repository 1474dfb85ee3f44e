#!/bin/sh
# Remakes this folder from nothing: text, study (46 minutes on two busy cores of the machine named in
# README.md; goes on when called again), table, fits, report.
#   sh results/2026-11-22-gcide-text/remake.sh path/to/fplaw [DIRECTORY]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
fplaw=$(realpath "$1")
work=${2-$here/work}
mkdir -p "$work"
sh "$here/get-data.sh" "$work"
cd "$work"
"$fplaw" study "$here/study.yaml" --out gcide
"$fplaw" study gcide --export runs.csv
# The published recipe (three quantized operands) is another regime: it has its own fit, beside
# the high-precision runs that both share.
full=
cap='recipe = fp32'
for r in e1m1/32 e2m1/32 e1m2/32 e3m0/32 e2m1/128; do
    full="$full${full:+ and }recipe != 'capybara:$r'"
    cap="$cap or recipe = 'capybara:$r'"
done
fit() {
    "$fplaw" fit "$@" || [ $? -eq 1 ] # 1: a law that these runs cannot determine says so in the file
}
fit --law joint,capybara,chinchilla,chinchilla-nd,farseer,steplaw gcide --where "$full" --hold-out largest-D \
    --bootstrap 500 --out fit.json
fit --law joint gcide --where "$cap" --hold-out cell --bootstrap 500 --out fit-capybara.json
"$fplaw" report gcide fit.json fit-capybara.json --out report.html --figures figures
