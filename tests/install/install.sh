# Installs the library into a folder of its own, moves that, and builds example.c against it:
# through the CMake package (shared and static) and through pkg-config; all must print the same.
# Every installed header must compile alone, as C and as C++.
# Needs BUILD, SOURCE, and CC (the compiler that the library was built with).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cmake --install "$BUILD" --prefix "$dir/first" >"$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }
mv "$dir/first" "$dir/tree"
lib=$(dirname "$(find "$dir/tree" -name libfplaw.a)")
fail() { echo "install.sh: $*" >&2; exit 1; }

cmake -S "$SOURCE/tests/install" -B "$dir/b" -DCMAKE_PREFIX_PATH="$dir/tree" -DCMAKE_C_COMPILER="$CC" \
    -DCMAKE_BUILD_TYPE=Release >"$dir/log" 2>&1 || { cat "$dir/log"; fail "find_package failed"; }
cmake --build "$dir/b" >"$dir/log" 2>&1 || { cat "$dir/log"; fail "the example does not build"; }
PKG_CONFIG_PATH=$lib/pkgconfig
export PKG_CONFIG_PATH
$CC -Wall -Wextra -Werror $(pkg-config --cflags fplaw) "$SOURCE/tests/install/example.c" -o "$dir/by_pkg" \
    $(pkg-config --libs fplaw)
[ "$(pkg-config --modversion fplaw)" = "$("$FPLAW" --version | sed -n '1s/fplaw \([0-9.]*\).*/\1/p')" ] ||
    fail "pkg-config and fplaw --version disagree"

for quantizer in e2m1/1x32:e8m0 e4m3fn:sr/row e2m1/1x16:e4m3fn+t; do
    want=$("$dir/b/example_fplaw" "$quantizer")
    [ -n "$want" ] || fail "the example printed nothing"
    [ "$("$dir/b/example_static" "$quantizer")" = "$want" ] || fail "static and shared differ"
    [ "$(LD_LIBRARY_PATH=$lib "$dir/by_pkg" "$quantizer")" = "$want" ] || fail "pkg-config's build differs"
done
case $("$dir/b/example_fplaw" e2m1/1x32:e8m0) in "4.25 bits, SQNR "*) ;; *) fail "mxfp4 is 4.25 bits" ;; esac
"$dir/b/example_fplaw" e9m9 2>/dev/null && fail "a bad quantizer was accepted"

for header in "$dir"/tree/include/fplaw/*/*.h; do
    printf '#include "%s"\n' "$header" >"$dir/alone.c" # as users do: clang has other rules for the main file
    $CC -std=c11 -Wall -Wextra -Werror -fsyntax-only -x c "$dir/alone.c" || fail "$header is not C by itself"
    if command -v g++ >/dev/null 2>&1; then
        g++ -std=c++17 -Wall -Wextra -Werror -fsyntax-only -x c++ "$dir/alone.c" || fail "$header is not C++"
    fi
done
if nm -D --defined-only "$lib/libfplaw.so" | grep -v ' fpl_'; then fail "exported without prefix"; fi
echo "installed tree works"
