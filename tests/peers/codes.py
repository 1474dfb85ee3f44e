"""Packed codes decoded by NumPy and ml_dtypes, which share no code with fplaw.

    python3 tests/peers/codes.py FPLAW

Writes tensors of float32, float16 and bfloat16, has fplaw pack them (MX and NVFP4 layouts) and
dequantize them, decodes the packed file from its documented layout with ml_dtypes' element and
scale types, and compares: equal, bit for bit (a zero's sign aside for integers).  The files that
fplaw writes are also read by the safetensors package where that is installed.  Exit status 77
without NumPy or ml_dtypes.
"""
import json
import os
import struct
import subprocess
import sys
import tempfile

try:
    import ml_dtypes
    import numpy as np
except ImportError:
    print("codes.py: NumPy and ml_dtypes are needed")
    sys.exit(77)

DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "U8": np.uint8, "U16": np.uint16}


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, (dtype, array) in tensors.items():
        raw = array.tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def read_safetensors(path):
    blob = open(path, "rb").read()
    (n,) = struct.unpack("<Q", blob[:8])
    header = json.loads(blob[8 : 8 + n])
    metadata = header.pop("__metadata__", {})
    out = {}
    for name, t in header.items():
        begin, end = t["data_offsets"]
        out[name] = np.frombuffer(blob[8 + n + begin : 8 + n + end], DTYPES[t["dtype"]]).reshape(t["shape"])
    return out, metadata


def unpack(codes, bits, columns):
    """Rows of bytes to codes: strings of bits, lowest first."""
    flat = codes.reshape(-1, codes.shape[-1])
    strings = np.unpackbits(flat, axis=1, bitorder="little")[:, : columns * bits].reshape(len(flat), columns, bits)
    return (strings.astype(np.uint32) << np.arange(bits, dtype=np.uint32)).sum(axis=2).astype(np.uint8)


def decode(packed, name, element, bits, block, scale_type, columns):
    codes = unpack(packed[name + ".codes"], bits, columns)
    values = codes.view(element).astype(np.float32)
    scales = packed[name + ".scales"].view(scale_type).astype(np.float32)
    wide = np.repeat(scales, block, axis=1)[:, :columns]
    with np.errstate(over="ignore"):
        values = values * wide
        if name + ".scale_2" in packed:
            values = values * packed[name + ".scale_2"]
    return values


CASES = [
    ("mxfp8", ml_dtypes.float8_e4m3fn, 8, 32, ml_dtypes.float8_e8m0fnu, 8.25, "mx"),
    ("mxfp8_e5m2", ml_dtypes.float8_e5m2, 8, 32, ml_dtypes.float8_e8m0fnu, 8.25, "mx"),
    ("mxfp6_e3m2", ml_dtypes.float6_e3m2fn, 6, 32, ml_dtypes.float8_e8m0fnu, 6.25, "mx"),
    ("mxfp6_e2m3", ml_dtypes.float6_e2m3fn, 6, 32, ml_dtypes.float8_e8m0fnu, 6.25, "mx"),
    ("mxfp4", ml_dtypes.float4_e2m1fn, 4, 32, ml_dtypes.float8_e8m0fnu, 4.25, "mx"),
    ("nvfp4", ml_dtypes.float4_e2m1fn, 4, 16, ml_dtypes.float8_e4m3fn, 4.5, "nvfp4"),
    ("e2m1:sr/1x16:e4m3fn+t", ml_dtypes.float4_e2m1fn, 4, 16, ml_dtypes.float8_e4m3fn, 4.5, "nvfp4"),
]


def main(fplaw):
    rng = np.random.default_rng(3)
    failures = 0
    with tempfile.TemporaryDirectory() as d:
        source, values, codes = (os.path.join(d, n) for n in ("in.safetensors", "values", "codes.safetensors"))
        wide = rng.standard_normal((70, 333)) * np.exp(3 * rng.standard_normal((70, 1)))
        wide[3] = 0
        tensors = {
            "wide": ("F32", wide.astype(np.float32)),
            "long": ("F32", rng.standard_normal((1, 200003)).astype(np.float32)),
            "deep": ("F32", rng.standard_normal((3, 5, 64)).astype(np.float32) * np.float32(1e-30)),
            "half": ("F16", rng.standard_normal((17, 96)).astype(np.float16)),
            "brain": ("BF16", rng.standard_normal((9, 31)).astype(ml_dtypes.bfloat16)),
        }
        write_safetensors(source, tensors)
        # Values in float32, so that no container rounds them.
        exact = os.path.join(d, "exact.safetensors")
        write_safetensors(exact, {n: ("F32", a.astype(np.float32)) for n, (_, a) in tensors.items()})
        for name, element, bits, block, scale, bits_per_value, layout in CASES:
            run = [fplaw, "quantize", "--to", name, "--seed", "5"]
            subprocess.run(run + [exact, values], check=True, stdout=subprocess.DEVNULL)
            out = subprocess.run(run + ["--codes", "--json", source, codes], check=True, capture_output=True)
            report = json.loads(out.stdout)
            packed, metadata = read_safetensors(codes)
            dequantized, _ = read_safetensors(values)
            if metadata["fplaw.layout"] != layout or metadata["fplaw.quantizer"] != report["quantizer"]:
                failures += 1
                print(f"{name}: metadata {metadata}")
            for tensor, (_, array) in tensors.items():
                columns = array.shape[-1]
                got = decode(packed, tensor, element, bits, block, scale, columns)
                want = dequantized[tensor].reshape(got.shape)
                if not np.array_equal(got.view(np.uint32), want.view(np.uint32)):
                    failures += 1
                    bad = np.argwhere(got.view(np.uint32) != want.view(np.uint32))
                    print(f"{name}, {tensor}: {len(bad)} values differ, first {bad[0]}: {got[tuple(bad[0])]} "
                          f"for {want[tuple(bad[0])]}")
                if metadata[tensor + ".shape"] != ",".join(map(str, array.shape)):
                    failures += 1
                    print(f"{name}, {tensor}: shape {metadata[tensor + '.shape']}")
            deep = [t for t in report["tensors"] if t["name"] == "deep"][0]
            tensor_scale = 32 / deep["elements"] if layout == "nvfp4" else 0
            if abs(deep["bits_per_value"] - bits_per_value - tensor_scale) > 1e-12:
                failures += 1
                print(f"{name}: {deep['bits_per_value']} bits, expected {bits_per_value + tensor_scale}")
        try:
            from safetensors.numpy import load_file

            theirs = load_file(codes)
            ours, _ = read_safetensors(codes)
            if any(not np.array_equal(theirs[n], ours[n]) for n in ours):
                failures += 1
                print("the safetensors package reads something else")
        except ImportError:
            pass
        # .npy as NumPy writes and reads it
        for dtype in (np.float32, np.float16, ml_dtypes.bfloat16):
            array = rng.standard_normal((6, 4, 10)).astype(dtype)
            path, back = os.path.join(d, "a.npy"), os.path.join(d, "b.npy")
            np.save(path, array)
            subprocess.run([fplaw, "quantize", "--to", "e4m3fn", path, back], check=True, stderr=subprocess.DEVNULL)
            got = np.load(back).view(dtype).astype(np.float32)
            want = array.astype(np.float32).astype(ml_dtypes.float8_e4m3fn).astype(dtype).astype(np.float32)
            if not np.array_equal(got, want):
                failures += 1
                print(f".npy of {np.dtype(dtype)}: values differ from ml_dtypes' rounding")
    print(f"{len(CASES)} layouts on {len(tensors)} tensors, {failures} failures")
    return 1 if failures else 0


sys.exit(main(sys.argv[1]))
