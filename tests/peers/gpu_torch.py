#!/usr/bin/env python3
"""The models of `fplaw bench --device cuda --suite packs` in PyTorch: how fast, and are they the same?

    python gpu_torch.py --out torch.json      every row, each in a process of its own; needs a GPU; ended
                                              early, the same again goes on
    python gpu_torch.py --check FPLAW         losses of training runs on the CPU against FPLAW's; no GPU
    python gpu_torch.py --try                 a step in each mode that the CPU has: does this program run

A step is a whole one: forward, backward, clipping by the global norm, AdamW; 8192 tokens, which lie
ready on the device, so PyTorch pays nothing for data.  Modes: eager; compiled (torch.compile);
reduce-overhead (its CUDA graphs); graph (compiled, and the whole step captured in one CUDA graph by
hand).  Precisions: amp (float32 weights, autocast to bfloat16), bf16 (everything bfloat16), mx (amp, and
every linear layer's six operands of its three products quantized to e4m3 in blocks of 32 with power-of-two
scales by tensor operations, as microxcaling does it: amax, exponent, divide, round, multiply).  A table
takes the fastest precision that it allows for.  Besides: bfloat16 and float32 products and a copy.

--check: FPLAW trains tiny models (width 64, 12 steps) on a file of one sequence repeated, so that every batch is
known; its initial weights come out of a checkpoint of a run with a learning rate of 1e-12.  Training
from them here in float32 must give its losses: within 1e-5 at the first step, unquantized and in MX
formats; over 12 steps within 1e-4 unquantized and, since a rounding that falls the other way changes more,
within a tenth of what quantizing itself changes.
"""
import argparse
import json
import math
import os
import struct
import subprocess
import sys
import tempfile
import time

import torch
from torch import nn
from torch.nn import functional as F

SHAPES = {  # layers, width, heads, ffn, sequence
    "0.3M": (3, 96, 3, 256, 128),
    "1M": (5, 128, 4, 352, 128),
    "5M": (4, 320, 5, 864, 128),
    "100M": (14, 768, 12, 2048, 1024),
}
VOCABULARY, TOKENS = 32, 8192
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PRODUCTS = [(8192, 1024, 1024), (8192, 2048, 2048), (8192, 4096, 4096), (2048, 2048, 2048)]


# ---- quantizing by tensor operations ---------------------------------------------------------------

def mx_quantize(x, axis, block=32, mantissa=3, least=-6, largest=448.0):
    """e4m3 in blocks of 32 along an axis, scales 2^k with k = floor(log2 amax) - 8; ties to even."""
    moved = x.float().transpose(axis, -1)
    shape = moved.shape
    groups = moved.reshape(*shape[:-1], shape[-1] // block, block)
    amax = groups.abs().amax(-1, keepdim=True)
    exponent = torch.floor(torch.log2(torch.where(amax > 0, amax, torch.ones_like(amax)))) - 8
    scale = torch.exp2(exponent.clamp(min=-127, max=127))
    y = groups / scale
    magnitude = y.abs()
    private = torch.floor(torch.log2(torch.where(magnitude > 0, magnitude, torch.ones_like(y)))).clamp(min=least)
    step = torch.exp2(private - mantissa)
    y = (torch.round(y / step) * step).clamp(-largest, largest) * scale
    return y.reshape(shape).transpose(axis, -1)


class MxProduct(torch.autograd.Function):
    """y = Q(x) Q(w)^T; dx = Q(dy) Q(w); dw = Q(dy)^T Q(x), blocks along each product's reduction."""

    @staticmethod
    def forward(ctx, x, w, dtype):
        ctx.save_for_backward(x, w)
        ctx.dtype = dtype
        return (mx_quantize(x, -1).to(dtype) @ mx_quantize(w, -1).to(dtype).t()).float()

    @staticmethod
    def backward(ctx, dy):
        x, w = ctx.saved_tensors
        dx = mx_quantize(dy, -1).to(ctx.dtype) @ mx_quantize(w, 0).to(ctx.dtype)
        dw = mx_quantize(dy, 0).to(ctx.dtype).t() @ mx_quantize(x, 0).to(ctx.dtype)
        return dx.float(), dw.float(), None


class Linear(nn.Module):
    def __init__(self, rows, cols, mx=None):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, cols))
        self.mx = mx  # None, or the dtype of products of quantized operands

    def forward(self, x):
        if self.mx is None:
            return F.linear(x, self.weight)
        return MxProduct.apply(x.reshape(-1, x.shape[-1]), self.weight, self.mx).view(*x.shape[:-1], -1)


# ---- the model (sim/model/model.h) -------------------------------------------------------------------

class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), 1e-5)


class Block(nn.Module):
    def __init__(self, width, heads, ffn, mx):
        super().__init__()
        self.heads = heads
        self.attention_norm, self.ffn_norm = Norm(width), Norm(width)
        self.qkv, self.attention_out = Linear(3 * width, width, mx), Linear(width, width, mx)
        self.gate_up, self.down = Linear(2 * ffn, width, mx), Linear(width, ffn, mx)

    @staticmethod
    def rotate(x, cosines, sines):
        a, b = x.chunk(2, -1)
        return torch.cat((a * cosines - b * sines, b * cosines + a * sines), -1)

    def forward(self, h, cosines, sines):
        batch, length, width = h.shape
        qkv = self.qkv(self.attention_norm(h)).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = (t.transpose(1, 2) for t in qkv.unbind(2))
        q, k = self.rotate(q, cosines, sines).to(v.dtype), self.rotate(k, cosines, sines).to(v.dtype)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.attention_out(attended.transpose(1, 2).reshape(batch, length, width))
        gate, up = self.gate_up(self.ffn_norm(h)).chunk(2, -1)
        return h + self.down(F.silu(gate) * up)


class Model(nn.Module):
    def __init__(self, layers, width, heads, ffn, length, vocabulary, mx=None):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(Block(width, heads, ffn, mx) for _ in range(layers))
        self.final_norm, self.head = Norm(width), Linear(vocabulary, width)
        half = width // heads // 2
        angles = torch.outer(torch.arange(length).double(), 10000.0 ** (-torch.arange(half).double() / half))
        self.register_buffer("cosines", angles.cos().float())
        self.register_buffer("sines", angles.sin().float())
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.5 / math.sqrt(width))

    def forward(self, inputs, targets):
        h = self.embedding(inputs)
        for block in self.blocks:
            h = block(h, self.cosines, self.sines)
        logits = self.head(self.final_norm(h))
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    def in_file_order(self):
        """Parameters in the order of fplaw's flat buffers (sim/model/parameters.c)."""
        norms = [n.weight for b in self.blocks for n in (b.attention_norm, b.ffn_norm)]
        linear = [l.weight for b in self.blocks for l in (b.qkv, b.attention_out, b.gate_up, b.down)]
        return [self.embedding.weight, *norms, self.final_norm.weight, *linear, self.head.weight]


def make_optimizer(model, lr, decay, fused, capturable=False):
    matrices = [p for p in model.parameters() if p.dim() > 1]
    gains = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": gains, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), eps=1e-8, fused=fused, capturable=capturable)


# ---- speed ----------------------------------------------------------------------------------------------

def make_step(shape, mode, precision):
    layers, width, heads, ffn, length = SHAPES[shape]
    torch.manual_seed(1)
    device = torch.device(DEVICE)
    model = Model(layers, width, heads, ffn, length, VOCABULARY,
                  torch.bfloat16 if precision == "mx" else None).to(device)
    if precision == "bf16":
        model = model.to(torch.bfloat16)
    tokens = torch.randint(VOCABULARY, (TOKENS // length, length + 1), device=device)
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    optimizer = make_optimizer(model, 1e-3, 0.1, fused=True, capturable=mode == "graph")
    run = model
    if mode != "eager":
        run = torch.compile(model, mode="reduce-overhead" if mode == "reduce-overhead" else None)

    def step():
        if mode == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()
        with torch.autocast(DEVICE, torch.bfloat16, enabled=precision != "bf16"):
            loss = run(inputs, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=mode != "graph")

    return capture(step) if mode == "graph" else step


def capture(step):
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(5):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def time_calls(call, least=0.3, rounds=7):
    """Least mean seconds of a call over rounds of at least `least` seconds each."""
    for _ in range(15):
        call()
    torch.cuda.synchronize()
    begun = time.perf_counter()
    call()
    torch.cuda.synchronize()
    calls = max(3, int(least / (time.perf_counter() - begun)))
    best = math.inf
    for _ in range(rounds):
        begun = time.perf_counter()
        for _ in range(calls):
            call()
        torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - begun) / calls)
    return best


def product_call(kind, m, n, k):
    torch.backends.cuda.matmul.allow_tf32 = False
    dtype = torch.bfloat16 if kind == "bf16" else torch.float32
    a, b = torch.randn(m, k, device="cuda", dtype=dtype), torch.randn(n, k, device="cuda", dtype=dtype)
    out = torch.empty(m, n, device="cuda", dtype=dtype)
    return lambda: torch.mm(a, b.t(), out=out)


def all_rows():
    rows = [{"what": "product", "kind": kind, "size": list(size)} for kind in ("bf16", "fp32") for size in PRODUCTS]
    rows.append({"what": "copy", "elements": 1 << 28})
    for shape in ("0.3M", "1M", "5M"):
        for mode in ("eager", "compiled", "reduce-overhead", "graph"):
            rows += [{"what": "train", "shape": shape, "mode": mode, "precision": p} for p in ("amp", "bf16")]
    for mode in ("eager", "compiled", "reduce-overhead"):
        rows += [{"what": "train", "shape": "100M", "mode": mode, "precision": p} for p in ("amp", "bf16", "mx")]
    return rows


def measure(row):
    if row["what"] == "product":
        m, n, k = row["size"]
        row["seconds"] = time_calls(product_call(row["kind"], m, n, k))
        row["flops"] = 2 * m * n * k / row["seconds"]
    elif row["what"] == "copy":
        a = torch.randn(row["elements"], device="cuda")
        b = torch.empty_like(a)
        row["seconds"] = time_calls(lambda: b.copy_(a))
        row["bytes_per_second"] = 8 * row["elements"] / row["seconds"]
    else:
        row["seconds"] = time_calls(make_step(row["shape"], row["mode"], row["precision"]))
        row["tokens_per_second"] = TOKENS / row["seconds"]
    return row


def measure_apart(row, limit):
    """In a process of its own: a row that fails leaves the others alone."""
    try:
        done = subprocess.run([sys.executable, __file__, "--row", json.dumps(row)], capture_output=True, text=True,
                              timeout=limit, check=False)
        if done.returncode == 0:
            return json.loads(done.stdout.strip().splitlines()[-1])
        return {**row, "error": (done.stderr.strip().splitlines() or ["no message"])[-1][:300]}
    except subprocess.TimeoutExpired:
        return {**row, "error": f"took longer than {limit} s"}


def try_all():
    """Not a measurement: every mode and precision that needs no GPU takes a step."""
    for mode in ("eager", "compiled"):
        for precision in ("amp", "bf16", "mx"):
            make_step("0.3M", mode, precision)()
            print(f"{mode} {precision}: a step is taken")
    return 0


def open_result(out):
    """An empty result, or what an earlier call on the same device and with the same library left."""
    result = {"schema": "fplaw-gpu-peers/1", "torch": torch.__version__, "cuda": torch.version.cuda,
              "device": torch.cuda.get_device_name(), "rows": []}
    if os.path.exists(out):
        with open(out, encoding="utf-8") as f:
            before = json.load(f)
        if all(before.get(k) == result[k] for k in ("schema", "torch", "cuda", "device")):
            result["rows"] = [r for r in before["rows"] if "error" not in r]
    return result


def measure_all(out, limit, only):
    result = open_result(out)
    for row in all_rows():
        known = any(all(r.get(k) == v for k, v in row.items()) for r in result["rows"])
        if known or only not in json.dumps(row):
            continue
        result["rows"].append(measure_apart(row, limit))
        print(json.dumps(result["rows"][-1]), flush=True)
        with open(out + ".part", "w", encoding="utf-8") as f:  # what is measured survives an end in between
            json.dump(result, f, indent=1)
        os.replace(out + ".part", out)


# ---- the same model? -----------------------------------------------------------------------------------

TINY = {"layers": 2, "width": 64, "heads": 2, "ffn": 96, "seq": 32, "batch_tokens": 128, "micro_tokens": 128,
        "schedule": "constant", "warmup": 0, "eval_tokens": 64, "seed": 7, "clip": 0.5}
STEPS = 12
MX = "full:e4m3fn/1x32:e8m0"  # the scale rule of OCP MX 1.0, which microxcaling follows


def train_fplaw(fplaw, work, name, **options):
    settings = [f"{k}={v}" for k, v in {**TINY, **options, "data": f"bytes:{work}/text"}.items()]
    subprocess.run([fplaw, "train", "--out", f"{work}/{name}", *settings], check=True, capture_output=True)
    with open(f"{work}/{name}/record.json", encoding="utf-8") as f:
        return [(p[1], p[3]) for p in json.load(f)["curve"]]


def load_weights(model, path):
    """The first flat buffer of a checkpoint (sim/train/checkpoint.c)."""
    with open(path, "rb") as f:
        file = f.read()
    _, configuration, state, count = struct.unpack_from("<4Q", file, 16)
    weights = torch.frombuffer(bytearray(file[48 + configuration + state:][:4 * count]), dtype=torch.float32)
    at = 0
    with torch.no_grad():
        for p in model.in_file_order():
            p.copy_(weights[at:at + p.numel()].view_as(p))
            at += (p.numel() + 15) // 16 * 16
    assert at == count, f"{path}: {count} elements, {at} expected"


def train_here(checkpoint, text, mx):
    model = Model(TINY["layers"], TINY["width"], TINY["heads"], TINY["ffn"], TINY["seq"], 256, mx)
    load_weights(model, checkpoint)
    optimizer = make_optimizer(model, 1e-2, 0.1, fused=False)
    sequence = torch.tensor([list(text), list(text[1:]) + [text[0]]])
    inputs, targets = (t.repeat(TINY["batch_tokens"] // TINY["seq"], 1) for t in sequence)
    curve = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = model(inputs, targets)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), TINY["clip"])
        optimizer.step()
        curve.append((loss.item(), norm.item()))
    return curve


def check(fplaw):
    text = bytes((37 * i * i + 11 * i) % 251 for i in range(TINY["seq"]))
    worst = {}
    with tempfile.TemporaryDirectory() as work:
        with open(f"{work}/text", "wb") as f:
            f.write(text * 4000)
        train_fplaw(fplaw, work, "weights", steps=1, lr=1e-12, lr_final=0, weight_decay=0)
        for recipe, mx in (("fp32", None), (MX, torch.float32)):
            theirs = train_fplaw(fplaw, work, recipe, steps=STEPS, lr=1e-2, recipe=recipe)
            ours = train_here(f"{work}/weights/checkpoint.bin", text, mx)
            worst[recipe] = [max(abs(a[0] - b[0]) for a, b in zip(theirs[:n], ours[:n])) for n in (1, STEPS)]
            norms = max(abs(a[1] / b[1] - 1) for a, b in zip(theirs, ours))
            print(f"{recipe}: loss {theirs[0][0]:.6f} to {theirs[-1][0]:.6f}; largest difference {worst[recipe][0]:.1e} "
                  f"at the first step, {worst[recipe][1]:.1e} over {STEPS}; of norms {norms:.1e} of them")
        plain = train_fplaw(fplaw, work, "again", steps=STEPS, lr=1e-2, recipe="fp32")
        effect = max(abs(a[0] - b[0]) for a, b in zip(plain, theirs))
    print(f"quantizing changes losses by up to {effect:.1e}")
    good = (max(worst["fp32"][0], worst[MX][0]) < 1e-5 and worst["fp32"][1] < 1e-4 and worst[MX][1] < effect / 10)
    print("the same model" if good else "NOT the same model")
    return 0 if good else 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", help="measure every row into this JSON file")
    parser.add_argument("--limit", type=float, default=180, help="seconds for a row")
    parser.add_argument("--only", default="", help="only rows whose JSON holds this text, as '\"shape\": \"100M\"'")
    parser.add_argument("--row", help="one row, printed as JSON")
    parser.add_argument("--try", dest="try_modes", action="store_true", help="one step in each mode, also on a CPU")
    parser.add_argument("--check", metavar="FPLAW", help="compare losses with this program's")
    a = parser.parse_args()
    if a.check:
        return check(a.check)
    if a.try_modes:
        return try_all()
    if not torch.cuda.is_available():
        print("no GPU that PyTorch can use", file=sys.stderr)
        return 77
    if a.row:
        print(json.dumps(measure(json.loads(a.row))))
    elif a.out:
        measure_all(a.out, a.limit, a.only)
    else:
        parser.error("one of --out, --row and --check is expected")
    return 0


if __name__ == "__main__":
    sys.exit(main())
