#!/usr/bin/env python3
"""results/gpu/README.md from what a GPU gave: the table of limits, each cell a measured ratio or "not yet
measured".

    python3 gpu_table.py DIRECTORY > DIRECTORY/README.md

DIRECTORY may hold bench.json (`fplaw bench --device cuda --json`), torch.json (gpu_torch.py --out) and
machine.txt (gpu.sh); what is missing leaves its cells open.  A cell of several rows shows the worst of
them; a peer measured in two ways counts with the faster one.  Standard library only.
"""
import json
import os
import sys

OPEN = "not yet measured"
SMALL = {"0.3M": 0.332e6, "1M": 1.0e6, "5M": 4.96e6}
LARGE = 99.1e6


def load(directory, name, schema):
    path = os.path.join(directory, name)
    if not os.path.exists(path):
        return {"rows": []}
    with open(path, encoding="utf-8") as f:
        data = json.load(f)
    if data.get("schema") != schema:
        sys.exit(f"{path}: schema {data.get('schema')!r}, {schema!r} is expected")
    return data


class Results:
    def __init__(self, directory):
        self.bench = load(directory, "bench.json", "fplaw-bench/1")
        self.torch = load(directory, "torch.json", "fplaw-gpu-peers/1")

    def rows(self, start):
        return [r for r in self.bench["rows"] if r["name"].startswith(start)]

    def pack(self, kind, size):
        """Tokens per second of fplaw, six operands in 1x32 blocks, at the size nearest to this."""
        def size_of(row):
            return float(row["name"].split("N=")[1].split()[0])
        found = [r["value"] for r in self.rows(kind + " ")
                 if r["name"].endswith("full:e4m3/1x32") and abs(size_of(r) / size - 1) < 0.05]
        return max(found, default=None)

    def peer(self, shape, mode, precisions):
        found = [r["tokens_per_second"] for r in self.torch["rows"]
                 if r["what"] == "train" and r["shape"] == shape and r["mode"] == mode
                 and r["precision"] in precisions and "tokens_per_second" in r]
        return max(found, default=None)

    def worst_ratio(self, starts, words=("",), without=()):
        found = [r["ratio"] for start in starts for r in self.rows(start)
                 if any(w in r["name"] for w in words) and not any(w in r["name"] for w in without)]
        return min(found, default=None)

    def product(self, size):
        """Against the faster of cuBLASLt in fplaw's process and PyTorch's product of bfloat16 results."""
        rows = [r for r in self.rows("product ") if r["name"].endswith(f" 8192x{size}x{size}")]
        flops = [r["flops"] for r in self.torch["rows"]
                 if r["what"] == "product" and r["kind"] == "bf16" and r["size"] == [8192, size, size] and "flops" in r]
        ratios = [min(r["ratio"], 1e12 * r["value"] / flops[0] if flops else r["ratio"]) for r in rows]
        return min(ratios, default=None)


def quotient(a, b):
    return None if a is None or b is None else a / b


def cell(values, limits):
    shown = [OPEN if v is None else f"{v:.3g}{'' if v >= l else ' (missed)'}" for v, l in zip(values, limits)]
    return OPEN if all(v is None for v in values) else " / ".join(shown)


def table(r):
    small = {s: r.pack("pack", n) for s, n in SMALL.items()}
    large = r.pack("large", LARGE)
    plain = ("amp", "bf16")

    def against(mode):
        return [quotient(small[s], r.peer(s, mode, plain)) for s in SMALL]

    return [
        ("quantize any format, 1x32 or per tensor with given scale, float32 to float32, 2^28 elements, against "
         "device copy bandwidth", [r.worst_ratio(["quantize "], without=(":sr", "/tensor", "+t", "1x128"))], [0.90]),
        ("sr (16 bits), the same", [r.worst_ratio(["quantize "], words=(":sr",))], [0.85]),
        ("row-wise and column-wise copies from one read", [r.worst_ratio(["both "])], [0.80]),
        ("emulated GEMM, both operands quantized on the fly from float32 (e8m0 or two-level scales), M = 8192, "
         "N = K = 1024 / 2048 / 4096, against cuBLASLt bf16 with its operands ready",
         [r.product(s) for s in (1024, 2048, 4096)], [0.55, 0.68, 0.78]),
        ("accumulator rounded at every product, exact, against fp32 non-tensor GEMM",
         [r.worst_ratio(["accumulate "], without=("chunk:", "align:", "/", ":sr"))], [0.05]),
        ("training one model of 100M, all six operands 1x32, against the same model in PyTorch (compiled, bf16, "
         "no quantization)", [quotient(large, r.peer("100M", "compiled", plain))], [0.8]),
        ("the same against PyTorch with fake quantization by microxcaling-style operations",
         [quotient(large, r.peer("100M", "eager", ("mx",)))], [5]),
        ("total tokens/s of a packed study at N = 0.3M / 1M / 5M, 8192 tokens a step, against PyTorch one model at "
         "a time: eager", against("eager"), [30, 15, 6]),
        ("the same against PyTorch compiled with CUDA graphs (`reduce-overhead`)", against("reduce-overhead"),
         [6, 4, 2]),
    ]


HEAD = """# The CUDA backend on a GPU: limits and peers

Written by `tests/peers/gpu_table.py`; figures come from one run of `tests/peers/gpu.sh` on one machine.

"""
FOOT = """
A cell of several rows is the worst of them; "(missed)" is below "at least". A peer measured in two ways (float32
weights with autocast, or everything bfloat16; cuBLASLt with float32 results, or PyTorch with bfloat16 ones)
counts with the faster one. Rows of packs and of 100M are `full:e4m3/1x32`, whole steps with data; PyTorch's data lie
ready on the device. The row of accumulators is those that round to nearest or truncate, one rounding a product; chunked,
stochastic and aligned ones are rows of their own in bench.json, without a limit.

## How to measure

    cmake --preset portable && cmake --build --preset portable &&      # where the Debian packages are
        cmake --install build-portable --component program --strip
    FPLAW=build-portable/folder/bin/fplaw sh tests/peers/gpu.sh OUT    # on the machine with the GPU

A part of it: `gpu.sh OUT bench`, with `SUITE=products` only that suite; `gpu.sh OUT torch table`.

| part | runs | needs | leaves |
| --- | --- | --- | --- |
| bench | `fplaw bench --device cuda --json` | a CUDA driver; cuBLASLt from a toolkit or PyPI's `nvidia-cublas` | OUT/bench.json, OUT/machine.txt |
| torch | `tests/peers/gpu_torch.py --out OUT/torch.json` | Python with PyPI's torch | OUT/torch.json |
| table | `tests/peers/gpu_table.py OUT` | Python | OUT/README.md: this file |
| study | `fplaw study results/gpu/study.yaml --out OUT/study --device cuda` | hours; stopped, the same command goes on | OUT/study, runs.csv, fit.json, report.html |

Attention goes two ways (kernels/cuda/attention.h) and steps go as graphs or call by call (kernels/cuda/work.h): `fplaw bench --device cuda
--suite packs` as it is, with `FPLAW_CUDA_ATTENTION=batched`, `FPLAW_CUDA_GRAPH=0` and `FPLAW_CUDA_GRAPH=128` says which is the faster;
not yet measured.

`fplaw bench --device cuda --baseline OUT/bench.json` later tells what became slower or computes other bits. Without a
GPU: `ctest -R 'host_|gpu_'` executes kernels, packs and benchmarks on the host, and `tests/peers/gpu_torch.py --check
build/fplaw` (PyPI's torch, on the CPU) shows that the PyTorch models are the same models: same weights, same losses.
"""


def main():
    if len(sys.argv) != 2 or not os.path.isdir(sys.argv[1]):
        sys.exit("usage: gpu_table.py DIRECTORY")
    results = Results(sys.argv[1])
    print(HEAD, end="")
    machine = os.path.join(sys.argv[1], "machine.txt")
    if os.path.exists(machine):
        with open(machine, encoding="utf-8") as f:
            print("    " + f.read().strip().replace("\n", "\n    ") + "\n")
    print("| what | at least | measured |\n| --- | --- | --- |")
    for what, values, limits in table(results):
        print(f"| {what} | {' / '.join(f'{l:g}' if l >= 1 else f'{l:.2f}' for l in limits)} | {cell(values, limits)} |")
    failed = [r for r in results.torch["rows"] if "error" in r]
    if failed:
        print("\nRows of PyTorch that failed:\n")
        for r in failed:
            print(f"- {r.get('shape', r.get('size'))} {r.get('mode', '')} {r.get('precision', '')}: {r['error']}")
    print(FOOT, end="")


if __name__ == "__main__":
    main()
