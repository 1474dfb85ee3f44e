/* rotary.h - one position of one head turned by its angles (arXiv 2104.09864).
 *
 * Pairs (x_i, x_{i + D/2}) = (a, b) become, each with one fused multiply-add,
 *   rotate        (a cos - b sin, b cos + a sin)
 *   rotate_back   (a cos + b sin, b cos - a sin) of (scale a, scale b)
 * The products b sin and a sin are rounded first.  Heads of width sixteen, the usual case,
 * fit one AVX-512 register; that path and the general one compute the same bits.  `to` may be `x`.
 */
#ifndef FPL_VEC_ROTARY_H
#define FPL_VEC_ROTARY_H

#include "native.h"

#if NL == 16

/* The sign bits of lanes 0..7, or of lanes 8..15. */
VINLINE nf negate_half(nf x, const int last) {
    const uint32_t a = last ? 0 : 0x80000000u, b = last ? 0x80000000u : 0;
    return (nf)((nu)x ^ (nu){a, a, a, a, a, a, a, a, b, b, b, b, b, b, b, b});
}

VINLINE void rotate_16(const float *cosine, const float *sine, nf x, const int back, float *to) {
    __m512 c = _mm512_broadcast_f32x8(_mm256_loadu_ps(cosine)),
           s = _mm512_broadcast_f32x8(_mm256_loadu_ps(sine));
    nf swapped = (nf)_mm512_shuffle_f32x4((__m512)x, (__m512)x, 0x4e);
    nstore(to, nfma(x, (nf)c, negate_half(swapped * (nf)s, back)));
}

#endif

VINLINE void rotate_any(int64_t D, const float *cosine, const float *sine, float scale, const int back,
                        const float *x, float *to) {
    const int64_t half = D / 2;
    for (int64_t i = 0; i < half; i += NL) {
        const int64_t lanes = half - i;
        nf c = nload_n(cosine + i, lanes), s = nload_n(sine + i, lanes);
        nf a = nload_n(x + i, lanes), b = nload_n(x + half + i, lanes);
        if (back) a *= nset(scale), b *= nset(scale);
        nf bs = b * s, as = a * s;
        nstore_n(to + i, nfma(a, c, back ? bs : -bs), lanes);
        nstore_n(to + half + i, nfma(b, c, back ? -as : as), lanes);
    }
}

VINLINE void rotate(int64_t D, const float *cosine, const float *sine, const float *x, float *to) {
#if NL == 16
    if (D == 16) {
        rotate_16(cosine, sine, nload(x), 0, to);
        return;
    }
#endif
    rotate_any(D, cosine, sine, 1.0f, 0, x, to);
}

VINLINE void rotate_back(int64_t D, const float *cosine, const float *sine, float scale, const float *x,
                         float *to) {
#if NL == 16
    if (D == 16) {
        rotate_16(cosine, sine, nload(x) * nset(scale), 1, to);
        return;
    }
#endif
    rotate_any(D, cosine, sine, scale, 1, x, to);
}

#endif
