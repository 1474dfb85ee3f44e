"""fplaw's roundings against ml_dtypes, on all float32 inputs or on about a million.

    python3 tests/peers/sweep.py FPLAW                     the stratified set of tests/kernels/sweep.h
    python3 tests/peers/sweep.py --full GOLDEN [TYPE...]   every one of 2^32 inputs, two processes
    python3 tests/peers/sweep.py --write [TYPE...]         the tables of tests/formats/golden, anew

The first drives `fplaw quantize` on a raw file.  The others find the runs of equal results that a
type makes of the inputs in the order of their bits: --write stores them, --full compares them with
the stored ones and has GOLDEN (tests/kernels/golden.c) compare bf16, whose table is too long to
keep, with the rounder and the kernels; `golden all` does so for the stored ones.

The types round to nearest even and overflow as IEEE 754 says (`ovf`), but for these:
  integers          convert as C does: toward zero, compared inside their range only
  float8_e8m0fnu    ties go up (rna), 0 is NaN, and subnormal inputs are not rounded to nearest in
                    ml_dtypes 0.6.0 (1.0000002 * 2^-127 becomes 2^-126): zeros and subnormal
                    inputs are not compared
  6- and 4-bit      have no NaN, which becomes -0: not compared
int1 has no counterpart in fplaw.  Exit status 77 without NumPy or ml_dtypes.
"""
import os
import subprocess
import sys
import tempfile
from multiprocessing import Pool

try:
    import ml_dtypes
    import numpy as np
except ImportError:
    print("sweep.py: NumPy and ml_dtypes are needed")
    sys.exit(77)

HERE = os.path.dirname(os.path.abspath(__file__))
TABLES = os.path.join(HERE, "..", "formats", "golden")
NANS = [(0x7F800001, 0x7FFFFFFF), (0xFF800001, 0xFFFFFFFF)]


def bits_of(x):
    return int(np.float32(x).view(np.uint32))


def outside(low, high):
    """Inputs that are not in (low, high), low <= -1: the integer type cannot hold them."""
    return [(bits_of(high), 0x7FFFFFFF), (bits_of(low), 0xFFFFFFFF)]


# type: quantizer, intervals of input bits that are not compared
TYPES = {
    "bfloat16": ("bf16:rne:ovf", []),
    "float8_e3m4": ("e3m4ieee:rne:ovf", []),
    "float8_e4m3": ("e4m3ieee:rne:ovf", []),
    "float8_e4m3b11fnuz": ("e4m3b11fnuz:rne:ovf", []),
    "float8_e4m3fn": ("e4m3fn:rne:ovf", []),
    "float8_e4m3fnuz": ("e4m3fnuz:rne:ovf", []),
    "float8_e5m2": ("e5m2ieee:rne:ovf", []),
    "float8_e5m2fnuz": ("e5m2fnuz:rne:ovf", []),
    "float8_e8m0fnu": ("ue8m0:rna:ovf", [(0, 0x007FFFFF), (0x80000000, 0x80000000)]),
    "float6_e2m3fn": ("e2m3:rne:ovf", NANS),
    "float6_e3m2fn": ("e3m2:rne:ovf", NANS),
    "float4_e2m1fn": ("e2m1:rne:ovf", NANS),
    "int2": ("int2:rtz:sat", outside(-2, 2)),
    "int4": ("int4:rtz:sat", outside(-8, 8)),
    "uint1": ("uint1:rtz:sat", outside(-1, 2)),
    "uint2": ("uint2:rtz:sat", outside(-1, 4)),
    "uint4": ("uint4:rtz:sat", outside(-1, 16)),
}


def convert(name, bits):
    """Codes, one each byte or two, of float32 bit patterns."""
    with np.errstate(all="ignore"):
        out = bits.view(np.float32).astype(getattr(ml_dtypes, name))
    return out.view(np.uint16 if out.itemsize == 2 else np.uint8)


def decode(name, codes):
    """float32 bit patterns of codes, one for all NaNs."""
    value = codes.view(getattr(ml_dtypes, name)).astype(np.float32)
    value[np.isnan(value)] = np.nan
    return value.view(np.uint32)


def runs_of_part(job):
    name, first, count = job
    chunk, starts, values = 1 << 20, [], []
    for at in range(first, first + count, chunk):
        hidden = [(max(lo - at, 0), min(hi + 1 - at, chunk)) for lo, hi in TYPES[name][1]]
        if any(lo == 0 and hi == chunk for lo, hi in hidden):
            codes = convert(name, np.zeros(chunk, np.uint32))
        else:
            codes = convert(name, np.arange(at, at + chunk, dtype=np.uint32))
        for lo, hi in hidden:  # what is not compared makes no runs
            if lo < hi:
                codes[lo:hi] = 0
        changes = np.flatnonzero(codes[1:] != codes[:-1]) + 1
        changes = np.concatenate(([0], changes))
        starts.append(changes.astype(np.uint64) + at)
        values.append(codes[changes])
    return np.concatenate(starts), decode(name, np.ascontiguousarray(np.concatenate(values)))


def runs(name, pool):
    """[(first input, result or None)] over all inputs."""
    part = 1 << 28
    pieces = pool.map(runs_of_part, [(name, p * part, part) for p in range(16)], chunksize=1)
    starts = np.concatenate([p[0] for p in pieces])
    values = np.concatenate([p[1] for p in pieces])
    intervals = TYPES[name][1]
    edges = {e for lo, hi in intervals for e in (lo, hi + 1) if e < 1 << 32}
    merged = []
    for s, v in sorted(
        list(zip(starts.tolist(), values.tolist()))
        + [(e, int(values[np.searchsorted(starts, e, side="right") - 1])) for e in edges - set(starts.tolist())]
    ):
        v = None if any(lo <= s <= hi for lo, hi in intervals) else v
        if not merged or merged[-1][1] != v:
            merged.append((s, v))
    return merged


def table(name, steps):
    text = ["# What each float32 becomes: see tests/kernels/golden.c.  Made by tests/peers/sweep.py.",
            f"peer ml_dtypes {name}", f"quantizer {TYPES[name][0]}"]
    if "int" in name:
        text.append("zeros any")
    return "\n".join(text + [f"{s:08x} " + ("-" if v is None else f"{v:08x}") for s, v in steps]) + "\n"


def stored(name):
    return os.path.join(TABLES, f"ml_dtypes.{name}.txt")


def full(golden, write, names):
    failures = 0
    with Pool(2) as pool, tempfile.TemporaryDirectory() as d:
        for name in names or TYPES:
            steps = runs(name, pool)
            text = table(name, steps)
            if name == "bfloat16":
                if write:
                    continue
                path = os.path.join(d, name)
                open(path, "w").write(text)
                failures += subprocess.run([golden, "all", path]).returncode != 0
                same = "compared by golden"
            elif write:
                open(stored(name), "w").write(text)
                same = "written"
            else:
                same = open(stored(name)).read() == text
                failures += int(not same)
                same = "as stored" if same else "NOT as stored"
            print(f"ml_dtypes {ml_dtypes.__version__} {name}: 4294967296 inputs, {len(steps)} runs, {same}", flush=True)
    return failures


def stratified(fplaw):
    tails = np.array([0, 1, 2, 0x1000, 0x1234, 0x3FFF, 0x4000, 0x4001, 0x5555, 0x7FFF, 0x8000, 0x8001, 0xABCD,
                      0xC000, 0xFFFE, 0xFFFF], np.uint32)
    bits = (np.arange(1 << 16, dtype=np.uint32)[:, None] << np.uint32(16) | tails).reshape(-1)
    failures = 0
    with tempfile.TemporaryDirectory() as d:
        source, result = os.path.join(d, "in"), os.path.join(d, "out")
        bits.tofile(source)
        for name, (quantizer, intervals) in TYPES.items():
            subprocess.run([fplaw, "quantize", "--to", quantizer, source, result], check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            got = np.fromfile(result, np.float32)
            want = decode(name, convert(name, bits)).view(np.float32)
            use = np.ones(len(bits), bool)
            for lo, hi in intervals:
                use &= (bits < lo) | (bits > hi)
            equal = (got.view(np.uint32) == want.view(np.uint32)) | (np.isnan(got) & np.isnan(want))
            if "int" in name:
                equal |= (got == 0) & (want == 0)
            wrong = np.flatnonzero(use & ~equal)
            print(f"{name} = {quantizer}: {int(use.sum())} inputs, {len(wrong)} differences")
            for i in wrong[:3]:
                print(f"  {bits[i]:08x} {bits.view(np.float32)[i]}: fplaw {got[i]}, ml_dtypes {want[i]}")
            failures += int(len(wrong) != 0 or use.sum() < 1000)
    print(f"ml_dtypes {ml_dtypes.__version__}: {len(TYPES)} types, {failures} failures")
    return failures


if __name__ == "__main__":
    if sys.argv[1] == "--write":
        sys.exit(full(None, True, sys.argv[2:]) and 1)
    if sys.argv[1] == "--full":
        sys.exit(full(sys.argv[2], False, sys.argv[3:]) and 1)
    sys.exit(stratified(sys.argv[1]) and 1)
