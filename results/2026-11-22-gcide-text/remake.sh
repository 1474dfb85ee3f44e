#!/bin/sh
# Remakes this folder from nothing: text, study (46 minutes on two busy cores of the machine named in
# README.md; goes on when called again), table, fits, report.  With --fits only the fits, the table of
# held-out errors and the report, from the runs.csv that lies here (two minutes on quiet cores).
#   sh results/2026-11-22-gcide-text/remake.sh [--fits] path/to/fplaw [DIRECTORY]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
fits=
[ "$1" != --fits ] || { fits=1 && shift; }
fplaw=$(realpath "$1")
work=${2-$here/work}
mkdir -p "$work"
if [ -n "$fits" ]; then
    cp "$here/runs.csv" "$work"
    cd "$work"
else
    sh "$here/get-data.sh" "$work"
    cd "$work"
    "$fplaw" study "$here/study.yaml" --out gcide
    "$fplaw" study gcide --export runs.csv
fi
# The published recipe (three quantized operands) is another regime: it has its own fit, beside the
# high-precision runs that both share.  (Without a condition the fit leaves the rarer recipe out by itself.)
full=
cap='recipe = fp32'
for r in e1m1/32 e2m1/32 e1m2/32 e3m0/32 e2m1/128; do
    full="$full${full:+ and }recipe != 'capybara:$r'"
    cap="$cap or recipe = 'capybara:$r'"
done
fit() {
    "$fplaw" fit runs.csv "$@" || [ $? -eq 1 ] # 1: a law that these runs cannot determine says so in the file
}
fit --law joint,capybara,chinchilla,chinchilla-nd,farseer,steplaw --where "$full" --hold-out largest-D \
    --bootstrap 500 --out fit.json
fit --law joint --where "$cap" --hold-out cell --bootstrap 500 --out fit-capybara.json
"$fplaw" report runs.csv fit.json fit-capybara.json --out report.html --figures figures
rm -f figures/law-*.svg # they are in the report

# Held-out errors of every law that these runs can support: rms of log residuals in per cent (mean).
held() { # LABEL CONDITION OPTION...
    label=$1
    where=$2
    shift 2
    printf '| %s ' "$label"
    for out in cell largest-D largest-N; do
        fit --where "$where" "$@" --hold-out $out --bootstrap 0 --out held.json | awk -v out=$out '
            /runs, .* left out; rms/ && out == "cell" { printf "| %d | %.2f ", $1, 100 * substr($0, index($0, "residuals ") + 10) }
            /^  held out/ { split($0, a, "rms "); split(a[2], b, ", mean "); printf "| %.2f (%+.2f) ", 100 * b[1], 100 * b[2] }'
    done
    printf '|\n'
}
{
    echo '| law | runs | in sample, % | cells held out, % | largest D held out, % | largest N held out, % |'
    echo '| --- | --- | --- | --- | --- | --- |'
    for base in chinchilla chinchilla-nd capacity farseer; do
        held "\`joint\` on \`$base\`, all six operands" "$full" --law joint --base $base --window 0.13
    done
    for law in capybara kumar; do held "\`$law\`, best settings, all six operands" "$full" --law $law; done
    for base in chinchilla chinchilla-nd capacity farseer; do
        held "\`joint\` on \`$base\`, published recipe" "$cap" --law joint --base $base --window 0.13
    done
    held '`capybara`, best settings, published recipe' "$cap" --law capybara
    for base in chinchilla chinchilla-nd capacity farseer; do
        held "\`joint\` on \`$base\`, fp32" 'recipe = fp32' --law joint --base $base --window 0.3
    done
    for law in chinchilla chinchilla-nd capacity farseer kaplan; do
        held "\`$law\`, best settings, fp32" 'recipe = fp32' --law $law
    done
} >held-out.md
