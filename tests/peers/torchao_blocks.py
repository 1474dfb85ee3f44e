"""MX and NVFP4 block conversions of fplaw against PyPI's torchao.

    python3 tests/peers/torchao_blocks.py FPLAW         (torchao.sh makes the environment)

MX: torchao.prototype.mx_formats.mx_tensor.to_mx under floor, rceil, ceil and even, all five element
types: equal values, on finite float32 data whose scale is a normal number above 2^-126 (torchao
clamps it to that) and whose products stay below the float32 limit.  Where a block holds NaN or Inf
torchao gives the whole block up; fplaw keeps its neighbours: not compared.  Under rceil torchao
(on the CPU) takes a float32 logarithm, so that an amax one ulp above largest 2^k can get the scale
2^k, which clamps it; fplaw decides exactly.  Such blocks are counted, not compared.

NVFP4: nvfp4_quantize with the tensor scale amax/2688.  torchao divides where the formulas of arXiv
2509.25149 multiply by s_enc, so scales and elements may differ where they lie within a few float32
rounding errors of a tie.  With a tensor amax of 2688 times a power of two all these steps are
exact in both but for amax_b/6, which both round alike: equal values.  Otherwise every difference
must lie at a tie, which is checked.  torchao lifts block scales below 2^-6 to it: not compared.
"""
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch
import torchao
from torchao.prototype.mx_formats.mx_tensor import DTYPE_FP6_E2M3, DTYPE_FP6_E3M2, ScaleCalculationMode, to_mx
from torchao.prototype.mx_formats.nvfp4_tensor import nvfp4_quantize

F = np.float32
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
E2M1 = np.concatenate((E2M1, -E2M1))


def small(ebits, mbits):
    """Values of the codes of a finite format, bias 2^(E-1) - 1."""
    out = []
    for code in range(1 << (1 + ebits + mbits)):
        m, e = code & ((1 << mbits) - 1), (code >> mbits) & ((1 << ebits) - 1)
        v = (m / (1 << mbits) + (e > 0)) * 2.0 ** (max(e, 1) - (1 << (ebits - 1)) + 1)
        out.append(-v if code >> (ebits + mbits) else v)
    return np.array(out)


ELEMENTS = {
    "e4m3fn": torch.float8_e4m3fn,
    "e5m2ieee": torch.float8_e5m2,
    "e3m2": DTYPE_FP6_E3M2,
    "e2m3": DTYPE_FP6_E2M3,
    "e2m1": torch.float4_e2m1fn_x2,
}


def by_fplaw(fplaw, quantizer, x, d):
    source, result = os.path.join(d, "in"), os.path.join(d, "out")
    x.tofile(source)
    subprocess.run([fplaw, "quantize", "--to", quantizer, "--shape", f"{x.shape[0]}x{x.shape[1]}", source, result],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return np.fromfile(result, F).reshape(x.shape)


def halves(packed):
    """Two 4-bit codes a byte, the first in the low half."""
    p = packed.view(torch.uint8).numpy()
    return np.stack((p & 15, p >> 4), axis=-1).reshape(*p.shape[:-1], -1)


def by_torchao(element, mode, x):
    scale, data = to_mx(torch.from_numpy(x), ELEMENTS[element], 32, mode)
    s = 2.0 ** (scale.view(torch.uint8).numpy().astype(np.float64).reshape(x.shape[0], -1) - 127)
    if element in ("e3m2", "e2m3"):
        q = small(*((3, 2) if element == "e3m2" else (2, 3)))[data.view(torch.uint8).numpy()]
    elif element == "e2m1":
        q = E2M1[halves(data)]
    else:
        q = data.float().numpy().astype(np.float64)
    return (q.reshape(x.shape) * np.repeat(s, 32, axis=1)).astype(F)


def rceil_rounds_wrongly(element, x):
    """Elements of blocks where the float32 logarithm leads to another power of two than the exact one."""
    largest = {"e4m3fn": 448, "e5m2ieee": 57344, "e3m2": 28, "e2m3": 7.5, "e2m1": 6}[element]
    amax = np.abs(x.reshape(x.shape[0], -1, 32)).max(axis=2)
    s = np.exp2(torch.ceil(torch.log2(torch.from_numpy(amax / F(largest)))).numpy().astype(np.float64))
    exact = (largest * s >= amax) & (largest * s / 2 < amax)  # products of few bits: exact in double
    return np.repeat(~exact, 32, axis=1)


def mx_cases(fplaw, d, rng):
    wide = np.exp2(rng.integers(-100, 100, (512, 1)).astype(float)) * rng.standard_normal((512, 512))
    near = np.exp2(rng.integers(-20, 20, (256, 16))).astype(F)
    near = np.repeat(near * rng.choice(np.array([1, 1.75, 1.5, 1.875, 1.25], F), near.shape), 32, axis=1)
    near[:, 1::2] *= rng.uniform(-1, 1, near[:, 1::2].shape).astype(F)
    failures = compared = skipped = 0
    for mode in ScaleCalculationMode:
        for element in ELEMENTS:
            for x in (wide.astype(F), near, np.nextafter(near, F(0)), np.nextafter(near, F(np.inf))):
                a = by_fplaw(fplaw, f"{element}/1x32:{mode.value}", x, d)
                b = by_torchao(element, mode, x)
                skip = rceil_rounds_wrongly(element, x) if mode.value == "rceil" else np.zeros(x.shape, bool)
                wrong = np.argwhere((a != b) & ~skip)
                compared += x.size - int(skip.sum())
                skipped += int(skip.sum())
                if len(wrong):
                    failures += 1
                    r, c = wrong[0]
                    block = x[r, c // 32 * 32 : c // 32 * 32 + 32]
                    print(f"{element}, {mode.value}: {len(wrong)} of {x.size} differ, first {float(x[r, c]).hex()} in a block of "
                          f"{float(np.abs(block).max()).hex()}: fplaw {float(a[r, c]).hex()}, torchao {float(b[r, c]).hex()}")
    print(f"MX: {len(ScaleCalculationMode) * len(ELEMENTS)} formats, {compared} values, {failures} failures; "
          f"{skipped} values under a scale that torchao rounds")
    return failures


def near_tie(t, grid):
    """Is t within 8 float32 rounding errors of the middle of two neighbours of the grid?"""
    middles = (grid[1:] + grid[:-1]) / 2
    return (np.abs(t[..., None] - middles) <= 8 * 2.0**-24 * middles).any(axis=-1)


def nvfp4_case(fplaw, d, x, exact):
    whole = F(np.abs(x).max())
    pts = torch.tensor(whole / F(2688))
    scales, codes = nvfp4_quantize(torch.from_numpy(x), 16, pts)
    s = np.repeat(scales.float().numpy().reshape(x.shape[0], -1), 16, axis=1)
    b = E2M1[halves(codes).reshape(x.shape)] * s
    decode = F(1) / (F(2688) / whole)
    a = by_fplaw(fplaw, "nvfp4", x, d)
    use = s > 2.0**-6
    unequal = use & (a != (b.astype(F) * decode))
    if exact:
        unexplained = unequal
    else:
        grid = np.unique(np.abs(small(4, 3)[:127]))
        amax = np.repeat(np.abs(x.reshape(x.shape[0], -1, 16)).max(axis=2), 16, axis=1).astype(np.float64)
        at_scale = near_tie(amax / 6 * (2688 / float(whole)), grid)
        at_element = near_tie(np.abs(x).astype(np.float64) / (s * float(decode)), np.unique(np.abs(E2M1)))
        unexplained = unequal & ~at_scale & ~at_element
    print(f"NVFP4, amax {float(whole)}: {int(use.sum())} values, {int(unequal.sum())} differ, "
          f"{int(unexplained.sum())} of them not at a tie")
    return int(unexplained.sum()) != 0


def main(fplaw):
    rng = np.random.default_rng(8)
    failures = 0
    with tempfile.TemporaryDirectory() as d:
        failures += mx_cases(fplaw, d, rng)
        for amax in (2688.0, 2688.0 * 2**-9, 1.0, 3.7, 417.0):
            x = np.clip(rng.standard_normal((512, 512)) * amax / 4, -amax, amax).astype(F)
            x[3, 5] = amax
            failures += nvfp4_case(fplaw, d, x, amax in (2688.0, 2688.0 * 2**-9))
    print(f"torch {torch.__version__}, torchao {torchao.__version__}: {failures} failures")
    return 1 if failures else 0


sys.exit(main(sys.argv[1]))
