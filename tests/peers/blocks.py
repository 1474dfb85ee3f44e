"""MX and NVFP4 block conversions a second time, on NumPy and ml_dtypes.

    python3 tests/peers/blocks.py FPLAW

Written from the OCP MX 1.0 and the NVFP4 (arXiv 2509.25149, appendix B) formulas without fplaw's
code: the scale's exponent comes from integer bits here or from exact rational comparisons, the
elements from ml_dtypes' conversions.  Each case quantizes raw float32 files with `fplaw quantize`
and compares the dequantized values bit for bit, NaNs being equal:

  mxfp8_e4m3, mxfp8_e5m2, mxfp6_e3m2, mxfp6_e2m3, mxfp4   under floor and rceil, blocks of 32
  nvfp4                                                   blocks of 16, two levels

on data of one size, of many sizes, of blocks at both ends of float32 (subnormal values, scales of
2^-127, overflowing products), with zeros, NaN, Inf, ragged last blocks, and magnitudes at and next
to where the scale or an element changes.  Exit status 77 without NumPy or ml_dtypes.
"""
import os
import subprocess
import sys
import tempfile
from fractions import Fraction

try:
    import ml_dtypes
    import numpy as np
except ImportError:
    print("blocks.py: NumPy and ml_dtypes are needed")
    sys.exit(77)

F = np.float32
BIGGEST = np.finfo(F).max
ELEMENTS = {  # name in fplaw: type, largest
    "e4m3fn": (ml_dtypes.float8_e4m3fn, 448.0),
    "e5m2ieee": (ml_dtypes.float8_e5m2, 57344.0),
    "e3m2": (ml_dtypes.float6_e3m2fn, 28.0),
    "e2m3": (ml_dtypes.float6_e2m3fn, 7.5),
    "e2m1": (ml_dtypes.float4_e2m1fn, 6.0),
}


def cast(y, element):
    """Rounded to the element type, saturating; NaN stays NaN."""
    kind, largest = ELEMENTS[element]
    with np.errstate(invalid="ignore"):
        q = np.clip(y, F(-largest), F(largest)).astype(kind).astype(F)
    return np.where(np.isnan(y), F(np.nan), q)


def blocks_of(x, size):
    for row in range(x.shape[0]):
        for at in range(0, x.shape[1], size):
            yield row, slice(at, min(at + size, x.shape[1]))


def amax_of(x):
    finite = np.abs(x[np.isfinite(x)])
    return finite.max() if finite.size else F(0)


def floor_log2(v):
    """Of a positive float32, from exact integers."""
    n, d = F(v).as_integer_ratio()
    e = n.bit_length() - d.bit_length()
    return e if n >= d * Fraction(2) ** e else e - 1


def mx_exponent(amax, largest, rule):
    e = floor_log2(amax) - floor_log2(F(largest))
    if rule == "rceil":  # the smallest power of two that brings amax into range
        while Fraction(2) ** e * Fraction(largest) < Fraction(float(amax)):
            e += 1
        while Fraction(2) ** (e - 1) * Fraction(largest) >= Fraction(float(amax)):
            e -= 1
    return min(max(e, -127), 127)


def product(q, s):
    """fl(q s), clamped to float32's range where finite."""
    with np.errstate(over="ignore"):
        out = (q.astype(np.float64) * np.float64(s)).astype(F)  # exact in double, rounded once
    return np.where(np.isinf(out), np.copysign(BIGGEST, out), out)


def mx(x, element, rule):
    out = np.empty_like(x)
    for row, columns in blocks_of(x, 32):
        v = x[row, columns]
        amax = amax_of(v)
        s = 2.0 ** mx_exponent(amax, ELEMENTS[element][1], rule) if amax > 0 else 1.0
        with np.errstate(over="ignore"):
            y = (v.astype(np.float64) / s).astype(F)
        out[row, columns] = product(cast(y, element), s)
    return out


def nvfp4(x):
    out = np.empty_like(x)
    whole = amax_of(x)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        encode = min(F(6 * 448) / whole, BIGGEST) if whole > 0 else F(1)
        decode = F(1) / encode
        for row, columns in blocks_of(x, 16):
            v = x[row, columns]
            amax = amax_of(v)
            if amax == 0:  # nothing finite to scale: scale 1
                out[row, columns] = np.where(np.isfinite(v), v, cast(v, "e2m1"))
                continue
            s = cast(amax / F(6) * encode, "e4m3fn")
            if s == 0:
                out[row, columns] = np.where(np.isnan(v), v, np.copysign(F(0), v))
                continue
            # A reciprocal beyond float32 is its largest value: the formulas are silent there.
            y = v * min(F(1) / (s * decode), BIGGEST)
            out[row, columns] = product(product(cast(y, "e2m1"), s), decode)
    return out


def data(rng):
    """Named float32 matrices."""
    normal = rng.standard_normal((64, 320)).astype(F)
    yield "normal", normal
    yield "ragged", rng.standard_normal((37, 107)).astype(F)
    yield "many sizes", (normal * np.exp2(rng.integers(-40, 40, normal.shape))).astype(F)
    ends = np.exp2(rng.integers(-149, 128, (200, 1)).astype(float)) * rng.uniform(-1, 1, (200, 96))
    yield "both ends of float32", ends.astype(F)
    yield "subnormal", (rng.integers(0, 1 << 23, (40, 64)).astype(np.uint32)
                        >> rng.integers(0, 23, (40, 64)).astype(np.uint32)).view(F)
    special = normal.copy()
    pick = rng.integers(0, 12, special.shape)
    for k, v in enumerate((0.0, -0.0, np.nan, np.inf, -np.inf, BIGGEST, 1e-45)):
        special[(pick == k) & (rng.random(special.shape) < (0.02 if k == 5 else 0.5))] = v
    special[5], special[6, :64], special[7, :32] = 0, -0.0, np.nan
    yield "special values", special
    # amax at and next to powers of two and largest values, elements at and next to ties
    steps = np.arange(0, 32, dtype=F) / F(32)
    edges = []
    for top in (1.0, 1.75, 1.5, 448.0, 28.0, 7.5, 6.0, 57344.0, 3.0, 2.0**-126, 2.0**-120, 2.0**120):
        for near in (np.nextafter(F(top), F(0)), F(top), np.nextafter(F(top), F(np.inf))):
            edges.append(np.concatenate((near * steps, -near * steps[::-1], [near] * 32)).astype(F))
    yield "edges", np.array(edges, F)


def main(fplaw):
    rng = np.random.default_rng(41)
    cases = [(f"{e}/1x32:{rule}", lambda x, e=e, rule=rule: mx(x, e, rule))
             for e in ELEMENTS for rule in ("floor", "rceil")]
    cases += [("mxfp8", lambda x: mx(x, "e4m3fn", "rceil")), ("mxfp8_e5m2", lambda x: mx(x, "e5m2ieee", "rceil")),
              ("mxfp6_e3m2", lambda x: mx(x, "e3m2", "floor")), ("mxfp6_e2m3", lambda x: mx(x, "e2m3", "floor")),
              ("mxfp4", lambda x: mx(x, "e2m1", "floor")), ("nvfp4", nvfp4), ("e2m1/1x16:e4m3fn+t", nvfp4)]
    failures = compared = 0
    with tempfile.TemporaryDirectory() as d:
        source, result = os.path.join(d, "in"), os.path.join(d, "out")
        for title, x in data(rng):
            x.tofile(source)
            for quantizer, mine in cases:
                subprocess.run([fplaw, "quantize", "--to", quantizer, "--shape", f"{x.shape[0]}x{x.shape[1]}",
                                source, result], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                got, want = np.fromfile(result, F).reshape(x.shape), mine(x)
                equal = (got.view(np.uint32) == want.view(np.uint32)) | (np.isnan(got) & np.isnan(want))
                compared += x.size
                if not equal.all():
                    failures += 1
                    r, c = np.argwhere(~equal)[0]
                    print(f"{quantizer}, {title}: {int((~equal).sum())} of {x.size} differ, first [{r}, {c}] "
                          f"{float(x[r, c]).hex()}: fplaw {float(got[r, c]).hex()}, here {float(want[r, c]).hex()}")
    print(f"{len(cases)} block formats, {compared} values, {failures} failures (ml_dtypes {ml_dtypes.__version__})")
    return 1 if failures else 0


sys.exit(main(sys.argv[1]))
