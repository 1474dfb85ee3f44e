# data.sh - `fplaw data`: text to token shards, byte by byte, from files and standard input,
# and training on the shard gives the bits of training on the text.  Needs FPLAW.
set -u
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0

fail() {
    echo "data.sh: $*" >&2
    failures=$((failures + 1))
}

words() { od -An -v -tu4 -w4 "$@" | tr -d ' ' | tr '\n' ' ' | sed 's/ $//'; }

# every byte value, then a text
i=0
while [ $i -lt 256 ]; do
    printf "\\$(printf %03o $i)"
    i=$((i + 1))
done >first
printf 'second text\n' >second

"$FPLAW" data --tokenizer bytes out.bin first second 2>err || fail "two files: $(cat err)"
[ "$(words -N 12 out.bin)" = "20240520 1 268" ] || fail "header: $(words -N 12 out.bin)"
[ "$(od -An -v -tu1 -j 12 -N 1012 out.bin | tr -d ' 0\n')" = "" ] || fail "the rest of the header is not zero"
[ "$(stat -c %s out.bin)" -eq $((1024 + 2 * 268)) ] || fail "size $(stat -c %s out.bin)"
# tokens back to bytes
od -An -v -tu2 -w2 -j 1024 out.bin | tr -d ' ' >tokens
cat first second | od -An -v -tu1 -w1 | tr -d ' ' >bytes
cmp -s tokens bytes || fail "the tokens are not the bytes"

cat first second | "$FPLAW" data --tokenizer bytes piped.bin - 2>err || fail "standard input: $(cat err)"
cmp -s out.bin piped.bin || fail "standard input gives another shard"
"$FPLAW" data --tokenizer bytes mixed.bin first - <second 2>err || fail "a file and standard input: $(cat err)"
cmp -s out.bin mixed.bin || fail "a file and standard input give another shard"
mkfifo pipe
cat first second >pipe &
"$FPLAW" data --tokenizer=bytes fifo.bin pipe 2>err || fail "a pipe: $(cat err)"
cmp -s out.bin fifo.bin || fail "a pipe gives another shard"
wait

# written whole or not at all; a name that is a link stays one
ln -s real.bin link.bin
cp out.bin real.bin
"$FPLAW" data --tokenizer bytes link.bin second 2>err || fail "a link: $(cat err)"
[ -L link.bin ] && [ "$(words -N 12 real.bin)" = "20240520 1 12" ] || fail "the link was replaced"
"$FPLAW" data --tokenizer bytes real.bin second missing 2>err && fail "a missing text was accepted"
[ "$(words -N 12 real.bin)" = "20240520 1 12" ] || fail "a failure changed the shard"
(ulimit -f 1 && exec "$FPLAW" data --tokenizer bytes real.bin first first first first 2>err)
[ $? -eq 1 ] || fail "beyond the file size limit: $(cat err)"
[ "$(words -N 12 real.bin)" = "20240520 1 12" ] || fail "a failed write changed the shard"
set -- real.bin.*
[ ! -e "$1" ] || fail "a temporary file is left: $1"

# stopped while it waits for text: one line, the shard as it was, nothing beside it
stopped() { # SIGNAL STATUS COMMAND...
    signal=$1
    want=$2
    shift 2
    "$@" 2>err <pipe &
    pid=$!
    exec 9>pipe # text may come for ever
    cat second >&9
    set -- real.bin.*
    until [ -e "$1" ]; do
        kill -0 $pid 2>/dev/null || { fail "SIG$signal: over before the signal: $(cat err)"; break; }
        sleep 0.02
        set -- real.bin.*
    done
    kill -"$signal" $pid
    wait $pid
    got=$?
    exec 9>&-
    [ $got -eq "$want" ] || fail "SIG$signal: exit $got, expected $want: $(cat err)"
    [ "$(wc -l <err)" -eq 1 ] && grep -q 'real.bin: not written: stopped by signal' err || fail "SIG$signal: $(cat err)"
    set -- real.bin.*
    [ ! -e "$1" ] || fail "SIG$signal left $1"
    [ "$(words -N 12 real.bin)" = "20240520 1 12" ] || fail "SIG$signal changed the shard"
}
stopped INT 130 "$FPLAW" data --tokenizer bytes real.bin first -
stopped TERM 143 "$FPLAW" data --tokenizer bytes real.bin -

# training on the shard is training on the text
yes 'the quick brown fox jumps over the lazy dog' | head -c 60000 >text
"$FPLAW" data --tokenizer bytes text.bin text 2>err || fail "text: $(cat err)"
tiny="layers=1 width=16 heads=1 seq=16 batch_tokens=64 steps=20 eval_tokens=512"
loss() {
    # shellcheck disable=SC2086
    "$FPLAW" train $tiny "data=$1" --json 2>err | tr ',' '\n' | grep '^"loss":'
}
text=$(loss bytes:text)
shard=$(loss tokens:vocab=256,text.bin)
[ -n "$text" ] && [ "$text" = "$shard" ] || fail "text $text, shard $shard: $(cat err)"

[ "$failures" -eq 0 ]
