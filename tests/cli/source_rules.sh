# The rules of the source tree that a compiler does not check: includes point one way
# (formats <- kernels <- sim, and base <- data, train, store <- law <- study, plan <- report <- cli
# inside sim), no fast-math flag, only the command line prints or exits, no unfinished marks.
set -eu
cd "$SOURCE"
bad=0
complain() { echo "$1"; bad=1; }

# allowed FOLDER REGEX: every quoted include of FOLDER resolves to a path matching REGEX
allowed() {
    for f in $(find "$1" -maxdepth "${3-1}" -name '*.[ch]'); do
        dir=$(dirname "$f")
        for i in $(sed -n 's/^#include "\(.*\)"/\1/p' "$f"); do
            path=$(realpath -m --relative-to=. "$dir/$i")
            echo "$path" | grep -Eq "$2" || complain "$f includes $i ($path)"
        done
    done
}
allowed formats '^formats/'
allowed kernels '^(formats|kernels)/' 3
allowed sim/base '^(formats|sim/base)/'
allowed sim/tensor '^(formats|kernels|sim/base|sim/tensor)/'
allowed sim/data '^(formats|sim/base|sim/data)/'
allowed sim/model '^(formats|kernels|sim/base|sim/model)/'
allowed sim/train '^(formats|kernels|sim/base|sim/data|sim/model|sim/train)/'
allowed sim/store '^(formats|sim/base|sim/store)/'
allowed sim/law '^(formats|sim/base|sim/law)/'
allowed sim/plan '^(formats|sim/(base|law|plan))/'
allowed sim/study '^(formats|kernels|sim/(base|data|train|store|law|study))/'
allowed sim/report '^(formats|sim/(base|store|law|report))/'
# The simulation knows kernels only through their table.
grep -rnE '#include ".*kernels/(cpu|cuda)' sim && complain "sim includes a backend's inside"

grep -rnE -e '-(Ofast|ffast-math|fassociative-math|freciprocal-math|funsafe-math)|use_fast_math' \
    CMakeLists.txt CMakePresets.json tests/CMakeLists.txt sim/*.sh && complain "a fast-math flag"

grep -rnE '\b(printf|puts|putchar|perror|exit|abort|_exit)\(' formats kernels sim --include='*.[ch]' |
    grep -vE '^sim/cli/|^sim/[a-z]*/[a-z_]*\.[ch]:[0-9]+: *(/?\*|//)' && complain "only sim/cli prints or exits"

grep -rnE '\b(TODO|FIXME|HACK)\b|\bXXX\b[^X]' formats kernels sim tests --include='*.[ch]' --include='*.cu' && complain "an unfinished mark"
[ "$bad" -eq 0 ] && echo "source rules hold"
exit "$bad"
