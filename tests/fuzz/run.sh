# Runs every fuzzer for some seconds, two at a time.  sh tests/fuzz/run.sh BUILD [SECONDS [WHERE]]
# New inputs and findings (crash-*, leak-*, timeout-*) go to WHERE (/tmp/fplaw-fuzz); the last
# lines of each log tell the number of executions.  Exit status 1 when something was found.
set -u
build=$1
seconds=${2-600}
where=${3-/tmp/fplaw-fuzz}
seeds=$(cd "$(dirname "$0")/seeds" && pwd)
mkdir -p "$where"
cd "$where" || exit 1
running=0
for fuzzer in "$build"/tests/fuzz_*; do
    [ -x "$fuzzer" ] && [ -f "$fuzzer" ] || continue
    name=$(basename "$fuzzer")
    case $name in *_replay) continue ;; esac
    mkdir -p "$name"
    nice -n 15 "$fuzzer" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=${MOST:-4096} -print_final_stats=1 \
        -artifact_prefix="$where/$name-" "$name" "$seeds/${name#fuzz_}" >"$name.log" 2>&1 &
    running=$((running + 1))
    [ $((running % 2)) = 0 ] && wait
done
wait
for log in fuzz_*.log; do
    echo "$log: $(grep -h 'stat::number_of_executed_units' "$log") $(grep -h 'ERROR\|SUMMARY' "$log" | head -1)"
done
for finding in "$where"/fuzz_*-crash-* "$where"/fuzz_*-leak-* "$where"/fuzz_*-timeout-* "$where"/fuzz_*-oom-*; do
    [ -e "$finding" ] && { echo "found: $finding"; exit 1; }
done
exit 0
