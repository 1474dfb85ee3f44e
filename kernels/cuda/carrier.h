/* carrier.h - the types in which quantized operands travel, and how a kernel stores a value in one.
 *
 * A carrier holds every value that it is given exactly (formats.md, section 3, "Exact carriers"):
 * whoever chooses one proves that from the plan.  So a store does not round:
 *   fp32, tf32   float32 as it is (tf32 says that the low 13 bits are zero)
 *   bf16         the upper half
 *   fp16         the value's own code
 * NaN stays NaN.  Arrays of carriers are aligned to 16 bytes; fpl_store_four writes elements at, at + 1,
 * ..., at + 3 by one access, `at` a multiple of 4.
 */
#ifndef FPL_CUDA_CARRIER_H
#define FPL_CUDA_CARRIER_H

#include "launch.h"

#include "../../formats/round.h"

enum fpl_cuda_carrier {
    FPL_CARRIER_FP32,
    FPL_CARRIER_BF16,
    FPL_CARRIER_FP16,
    FPL_CARRIER_TF32,
    FPL_CARRIERS
};

/* Where a kernel writes: float * for carriers of four bytes, this for those of two.  fp16 is asked at run
 * time: a store is too little to compile every kernel once more for. */
struct fpl_narrow {
    uint16_t *code;
    int fp16;
};

static inline size_t fpl_cuda_carrier_bytes(enum fpl_cuda_carrier c) {
    return c == FPL_CARRIER_BF16 || c == FPL_CARRIER_FP16 ? 2 : 4;
}

static inline struct fpl_narrow fpl_narrow_out(void *out, enum fpl_cuda_carrier c) {
    const struct fpl_narrow n = {(uint16_t *)out, c == FPL_CARRIER_FP16};
    return n;
}

__device__ static inline uint32_t fpl_bf16_code(float v) {
    return fpl_float_bits(v) >> 16 | (uint32_t)(v != v) << 6;
}

/* v is a value of fp16 or NaN. */
#if FPL_HOST_EXECUTION
static inline uint32_t fpl_fp16_code(float v) {
    const uint32_t u = fpl_float_bits(v), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return sign | 0x7e00u;
    if (a == 0x7f800000u) return sign | 0x7c00u;
    if (a >= 0x38800000u) return sign | (a - 0x38000000u) >> 13; /* 2^-14 and more: normal */
    return sign | (uint32_t)(fpl_bits_float(a) * 0x1p24f);       /* a multiple of 2^-24 */
}
#else
__device__ static inline uint32_t fpl_fp16_code(float v) {
    unsigned short code;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(code) : "f"(v));
    return code;
}
#endif

__device__ static inline uint32_t fpl_narrow_code(struct fpl_narrow out, float v) {
    return out.fp16 ? fpl_fp16_code(v) : fpl_bf16_code(v);
}

/* The destination `by` elements further on. */
__device__ static inline float *fpl_further(float *out, int64_t by) { return out + by; }
__device__ static inline struct fpl_narrow fpl_further(struct fpl_narrow out, int64_t by) {
    out.code += by;
    return out;
}

__device__ static inline void fpl_store(float *out, int64_t at, float v) { out[at] = v; }
__device__ static inline void fpl_store(struct fpl_narrow out, int64_t at, float v) {
    out.code[at] = (uint16_t)fpl_narrow_code(out, v);
}

__device__ static inline void fpl_store_four(float *out, int64_t at, const float v[4]) {
    *reinterpret_cast<float4 *>(out + at) = make_float4(v[0], v[1], v[2], v[3]);
}
__device__ static inline void fpl_store_four(struct fpl_narrow out, int64_t at, const float v[4]) {
    *reinterpret_cast<uint2 *>(out.code + at) =
        make_uint2(fpl_narrow_code(out, v[0]) | fpl_narrow_code(out, v[1]) << 16,
                   fpl_narrow_code(out, v[2]) | fpl_narrow_code(out, v[3]) << 16);
}

#endif
