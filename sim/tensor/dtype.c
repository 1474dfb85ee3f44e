/* dtype.c - the float types of containers to float32 and back.
 *
 * Widening is exact: a half's exponent and fraction, moved into a float's place, are the value
 * times 2^-112, subnormals included.  Narrowing rounds to nearest even by adding half a unit
 * less one, plus the last bit that stays, to the bits; halves below the smallest normal are
 * rounded by the addition |x| + 1/2, whose last place is a half's smallest step, 2^-24.
 * Finite values stay finite.  Every loop is free of branches, so that it becomes vectors.
 */
#include <math.h>
#include <string.h>

#include "../../formats/clones.h"
#include "../../formats/round.h"
#include "tensor.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are little-endian and read as they are");

const char *const fpl_dtype_names[] = {"f32", "f16", "bf16", NULL};

int64_t fpl_dtype_bytes(enum fpl_dtype dtype) {
    return dtype == FPL_DTYPE_F32 ? 4 : dtype == FPL_DTYPE_OTHER ? 0 : 2;
}

static inline uint32_t widen_half(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = (uint32_t)(h & 0x7fffu) << 13;
    const uint32_t finite = fpl_float_bits(fpl_bits_float(rest) * 0x1p112f);
    return sign | ((h & 0x7c00u) == 0x7c00u ? rest | 0x7f800000u : finite);
}

static inline uint16_t narrow_half(uint32_t bits) {
    const uint32_t a = bits & 0x7fffffffu, sign = bits >> 16 & 0x8000u;
    const uint32_t rounded = (a + 0xfffu + (a >> 13 & 1u) - 0x38000000u) >> 13;
    const uint32_t normal = rounded > 0x7bffu ? 0x7bffu : rounded;
    const uint32_t small = a < 0x38800000u ? a : 0;
    const uint32_t subnormal = fpl_float_bits(fpl_bits_float(small) + 0.5f) - 0x3f000000u;
    const uint32_t finite = a < 0x38800000u ? subnormal : normal;
    const uint32_t special = a > 0x7f800000u ? 0x7e00u | (a >> 13 & 0x3ffu) : 0x7c00u;
    return (uint16_t)(sign | (a >= 0x7f800000u ? special : finite));
}

static inline uint16_t narrow_bfloat(uint32_t bits) {
    const uint32_t a = bits & 0x7fffffffu, sign = bits >> 16 & 0x8000u;
    const uint32_t rounded = (a + 0x7fffu + (a >> 16 & 1u)) >> 16;
    const uint32_t finite = rounded > 0x7f7fu ? 0x7f7fu : rounded;
    const uint32_t special = a > 0x7f800000u ? 0x7fc0u | (a >> 16 & 0x7fu) : 0x7f80u;
    return (uint16_t)(sign | (a >= 0x7f800000u ? special : finite));
}

/* Buffers of file bytes need not be aligned, so values go through blocks that are. */
enum { BLOCK = 256 };

FPL_CLONES static void widen(int half, int64_t n, const uint8_t *bytes, float *out) {
    uint16_t in[BLOCK];
    uint32_t wide[BLOCK];
    for (int64_t i = 0; i < n; i += BLOCK) {
        const int m = n - i < BLOCK ? (int)(n - i) : BLOCK;
        memcpy(in, bytes + 2 * i, 2 * (size_t)m);
        if (half)
            for (int j = 0; j < m; j++) wide[j] = widen_half(in[j]);
        else
            for (int j = 0; j < m; j++) wide[j] = (uint32_t)in[j] << 16;
        memcpy(out + i, wide, 4 * (size_t)m);
    }
}

FPL_CLONES static int64_t narrow(int half, int64_t n, const float *x, uint8_t *bytes) {
    uint16_t out[BLOCK];
    uint32_t in[BLOCK];
    int64_t changed = 0;
    for (int64_t i = 0; i < n; i += BLOCK) {
        const int m = n - i < BLOCK ? (int)(n - i) : BLOCK;
        uint32_t differ = 0;
        memcpy(in, x + i, 4 * (size_t)m);
        if (half)
            for (int j = 0; j < m; j++) {
                out[j] = narrow_half(in[j]);
                differ += widen_half(out[j]) != in[j] && (in[j] & 0x7fffffffu) <= 0x7f800000u;
            }
        else
            for (int j = 0; j < m; j++) {
                out[j] = narrow_bfloat(in[j]);
                differ += ((uint32_t)out[j] << 16) != in[j] && (in[j] & 0x7fffffffu) <= 0x7f800000u;
            }
        memcpy(bytes + 2 * i, out, 2 * (size_t)m);
        changed += differ;
    }
    return changed;
}

void fpl_dtype_read(enum fpl_dtype dtype, int64_t n, const uint8_t *bytes, float *out) {
    if (n <= 0) return;
    if (dtype == FPL_DTYPE_F32)
        memcpy(out, bytes, 4 * (size_t)n);
    else
        widen(dtype == FPL_DTYPE_F16, n, bytes, out);
}

int64_t fpl_dtype_write(enum fpl_dtype dtype, int64_t n, const float *x, uint8_t *bytes) {
    if (n <= 0) return 0;
    if (dtype != FPL_DTYPE_F32) return narrow(dtype == FPL_DTYPE_F16, n, x, bytes);
    memcpy(bytes, x, 4 * (size_t)n);
    return 0;
}
