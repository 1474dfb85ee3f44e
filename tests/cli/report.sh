# report.sh - `fplaw report`: from a small study and its fits to one HTML file that stands
# alone, is well formed, escapes names and has every section; and what it says without gnuplot.
# Needs FPLAW, the built program, gnuplot and python3.
set -u
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0

fail() {
    echo "report.sh: $*" >&2
    failures=$((failures + 1))
}

cat >study.yaml <<'YAML'
name: "tiny <script>alert('x')</script> & more"
options: { layers: 1, width: 16, heads: 1, seq: 16, eval_tokens: 256, data: "lexicon:words=64" }
grid:
  width: [16, 24]
  tokens: [8k, 20k]
  lr: [3e-3, 6e-3, 12e-3]
  batch_tokens: [64, 128]
  recipe: [fp32, "full:e4m3/1x32", "full:e2m1/1x32"]
YAML
"$FPLAW" study study.yaml --out tiny >log 2>&1 || fail "study: $(cat log)"
"$FPLAW" report tiny --out unfitted.html 2>err || fail "a study without a fit: $(cat err)"
"$FPLAW" fit --law chinchilla,joint --bootstrap 5 tiny --out tiny/fit.json >log 2>&1 || fail "fit: $(cat log)"
"$FPLAW" report tiny --out whole.html --figures svg 2>err || fail "a study and its fit: $(cat err)"
"$FPLAW" report tiny/fit.json --out fit.html 2>err || fail "a fit alone: $(cat err)"
"$FPLAW" report tiny tiny/fit.json --out - >standard.html 2>err || fail "standard output: $(cat err)"
cmp -s whole.html standard.html || fail "the same inputs, other bytes"
[ "$(find svg -name '*.svg' | wc -l)" -ge 6 ] || fail "--figures wrote $(ls svg)"

# check FILE FIGURES SECTION...: tags balance, nothing is fetched, figures decode to SVG
cat >check.py <<'PY'
import base64, html.parser, re, sys
import xml.etree.ElementTree as xml

class Page(html.parser.HTMLParser):
    void = {"meta", "img", "br", "hr", "input", "link", "col"}
    def __init__(self):
        super().__init__()
        self.open, self.images, self.sections, self.scripts = [], [], [], 0
    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("src", "href"):
                assert (value or "").startswith(("data:image/svg+xml;base64,", "#")), f"{tag} refers to {value:.60}"
            assert not name.startswith("on"), f"{tag} has {name}"
        if tag == "img":
            self.images.append(dict(attributes))
        self.scripts += tag == "script"
        assert tag not in ("link", "iframe", "object", "embed", "base"), tag
        if tag not in self.void:
            self.open.append(tag)
    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> at {self.getpos()} closes another element"
    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.sections.append(data)

text = open(sys.argv[1], encoding="utf-8").read()
page = Page()
page.feed(text)
page.close()
assert not page.open, f"left open: {page.open}"
assert page.scripts <= 1, "a script came in by a name"
assert "alert(" not in "".join(re.findall(r"<script>.*?</script>", text, re.S)), "a name became a script"
assert not re.search(r"url\(|@import|https?://", re.sub(r'"data:[^"]*"', "", text)), "refers to the network"
assert len(page.images) >= int(sys.argv[2]), f"{len(page.images)} figures"
for image in page.images:
    svg = base64.b64decode(image["src"].split(",", 1)[1], validate=True)
    assert xml.fromstring(svg).tag.endswith("svg"), "a figure is no SVG"
    assert image.get("alt"), "a figure without alternative text"
    assert not re.search(rb'href="(?!#)|<script|<image', svg), "a figure refers to something"
for section in sys.argv[3:]:
    assert section in page.sections, f"no section '{section}' in {page.sections}"
PY
check() {
    python3 check.py "$@" 2>err || fail "$1: $(tail -n 1 err)"
}
check whole.html 6 "What was asked" "Formats, ranked" "Loss against size and data" \
    "What exponent, mantissa and block cost" "Learning rate and batch" "Fitted constants" "The floor" \
    "Residuals" "Every fitted law" "Every run"
for svg in svg/law-chinchilla.svg svg/law-joint.svg; do
    [ -s $svg ] || fail "--figures wrote no $svg"
done

# Tables of runs instead of a study: any law of the field, drawn from its own columns.
"$FPLAW" study tiny --export tiny.csv 2>err || fail "export: $(cat err)"
"$FPLAW" report tiny.csv tiny/fit.json --out csv.html --figures csvsvg 2>err || fail "a CSV: $(cat err)"
cmp -s svg/law-joint.svg csvsvg/law-joint.svg || fail "the study's table draws another law-joint.svg"
python3 - <<'PY'
import math
with open("curves.csv", "w") as f:
    print("run,status,N,D,step,lr,loss", file=f)
    for c in range(3):
        total = 0.0
        for i in range(60):
            lr = 0.01 if c == 0 or i < 30 else 0.01 * 0.5**c
            total += 40 * lr
            print(f"c{c},ok,1e4,1e6,{40 * i},{lr},{1 + 2 / (1 + total)**0.5 - (0.05 * c if i > 32 else 0)}", file=f)
with open("batch.csv", "w") as f:
    print("N,D,lr,batch_tokens,steps,loss", file=f)
    for n in (1e4, 4e4, 2e5):
        for b in (16, 64, 256, 1024):
            for s in (100, 400, 1600, 6400):
                least = s / (1 + 300 / b)
                print(f"{n},{b * s},{0.01 * b / (b + 500)},{b},{s},{(1e3 / n)**0.1 + (30 / least)**0.4}", file=f)
PY
"$FPLAW" fit curves.csv --law annealing,multipower --bootstrap 0 --out curves.json >log 2>&1
"$FPLAW" report curves.csv curves.json --out curves.html --figures curvesvg 2>err || fail "curves: $(cat err)"
"$FPLAW" fit batch.csv --law kaplan --bootstrap 0 --out kaplan.json >log 2>&1
"$FPLAW" report batch.csv kaplan.json --out kaplan.html --figures kaplansvg 2>err || fail "kaplan: $(cat err)"
for svg in curvesvg/law-annealing.svg curvesvg/law-multipower.svg kaplansvg/law-kaplan.svg; do
    [ -s $svg ] || fail "--figures wrote no $svg"
done
check curves.html 2 "Every fitted law"
check kaplan.html 1 "Every fitted law"
check unfitted.html 2 "What was asked" "Formats, ranked" "Every run"
check fit.html 0 "What was asked" "Fitted constants"
grep -q "&lt;script&gt;alert('x')&lt;/script&gt; &amp; more" whole.html || fail "the study's name is missing"
for id in $("$FPLAW" study tiny --export - | cut -d, -f1 | sed 1d); do
    grep -q "$id" whole.html || fail "run $id is not in the table"
done

# ---- refusals: one line, nothing written ------------------------------------------------------------
refused() { # STATUS PATTERN COMMAND...
    status=$1
    pattern=$2
    shift 2
    rm -f out.html
    "$@" >out 2>err
    got=$?
    [ "$got" -eq "$status" ] && [ "$(wc -l <err)" -eq 1 ] && grep -q "$pattern" err && [ ! -e out.html ] ||
        fail "$*: exit $got: $(cat err)"
}
refused 2 'columns is for a table' "$FPLAW" report tiny --columns loss=x --out out.html
refused 1 gnuplot env PATH=/nonexistent "$FPLAW" report tiny --out out.html
cp -r tiny damaged
size=$(stat -c %s damaged/study.db)
dd if=/dev/urandom of=damaged/study.db bs=1 seek=$((size / 2)) count=3000 conv=notrunc 2>dd.log
refused 2 damaged/study.db "$FPLAW" report damaged --out out.html
mkdir nothing
refused 2 nothing "$FPLAW" report nothing --out out.html
printf '{"schema":"fplaw-fit/1","laws":[{}]}' >tiny/fit-b.json
refused 2 tiny/fit-b.json "$FPLAW" report tiny --out out.html
refused 2 'is a directory' "$FPLAW" report tiny/fit.json --out .
rm tiny/fit-b.json

# Killed while it draws: the file is absent or the old one, never a part.
cp whole.html kept.html
for delay in 0.02 0.05 0.1 0.2; do
    "$FPLAW" report tiny --out kept.html >log 2>&1 &
    pid=$!
    sleep $delay
    kill -KILL $pid 2>/dev/null
    wait $pid 2>/dev/null
    cmp -s kept.html whole.html || fail "killed after $delay s: the report was damaged"
done

[ "$failures" -eq 0 ]
