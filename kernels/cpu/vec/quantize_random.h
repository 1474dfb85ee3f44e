/* quantize_random.h - the random bits of stochastic rounding, for a run of elements.
 *
 * Philox 4x32-10 (formats/random.h) with one block per 64-bit lane: a round multiplies two
 * words by constants into 64 bits and mixes the halves crosswise.  Words sit in the low
 * halves of their lanes; the high halves hold what previous products left there, which a
 * 32-bit multiplier ignores, so that no masking is needed before the last round.
 *
 * For r <= 16 an element takes 16 bits: block floor(i/8) laid out in memory as its four words,
 * little-endian, is exactly the eight halves of elements 8 floor(i/8) .. +7.
 */
#ifndef FPL_VEC_QUANTIZE_RANDOM_H
#define FPL_VEC_QUANTIZE_RANDOM_H

#include "../../../formats/quantizer.h"
#include "native.h"

#define QL (NL / 2)              /* blocks per vector */
#define RANDOM_ROOM (QL * 8 + 8) /* halves beyond n that random_halves may write */

VINLINE void philox_store(nq c0, nq c1, nq c2, nq c3, uint16_t *out) {
    const nq low = nsetq(0xffffffffu);
    const nq first = (c0 & low) | c1 << 32, second = (c2 & low) | c3 << 32;
#if defined(FPL_LEVEL_avx512)
    const __m512i even = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11),
                  odd = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
    _mm512_storeu_si512(out, _mm512_permutex2var_epi64((__m512i)first, even, (__m512i)second));
    _mm512_storeu_si512(out + 32, _mm512_permutex2var_epi64((__m512i)first, odd, (__m512i)second));
#else
    for (int i = 0; i < QL; i++) {
        const uint32_t w[4] = {(uint32_t)first[i], (uint32_t)(first[i] >> 32), (uint32_t)second[i],
                               (uint32_t)(second[i] >> 32)};
        for (int h = 0; h < 8; h++) out[8 * i + h] = (uint16_t)(w[h / 2] >> (16 * (h & 1)));
    }
#endif
}

/* The ten rounds' keys, once per call. */
struct philox {
    uint64_t k0[10], k1[10];
    uint32_t step, stream;
};

static inline struct philox philox_keys(const struct fpl_random_at *at) {
    struct philox p = {.step = at->step, .stream = at->stream};
    for (uint32_t i = 0; i < 10; i++) {
        p.k0[i] = (uint32_t)at->seed + i * 0x9e3779b9u;
        p.k1[i] = (uint32_t)(at->seed >> 32) + i * 0xbb67ae85u;
    }
    return p;
}

/* Halves of elements first .. first + n - 1; returns where the first one lies in buf. */
static inline const uint16_t *random_halves(const struct philox *p, uint64_t first, int64_t n,
                                            uint16_t *buf) {
    const nq m0 = nsetq(0xd2511f53u), m1 = nsetq(0xcd9e8d57u);
    const int64_t offset = (int64_t)(first % 8);
    nq lane;
    for (int i = 0; i < QL; i++) lane[i] = (uint64_t)i;
    for (int64_t done = 0; done < offset + n; done += 8 * QL) {
        const nq block = nsetq((first + (uint64_t)done) / 8) + lane;
        nq c0 = block, c1 = block >> 32, c2 = nsetq(p->step), c3 = nsetq(p->stream);
        UNROLL(10)
        for (int round = 0; round < 10; round++) {
            const nq p0 = nmul_low(c0, m0), p1 = nmul_low(c2, m1);
            c0 = p1 >> 32 ^ c1 ^ nsetq(p->k0[round]);
            c1 = p1;
            c2 = p0 >> 32 ^ c3 ^ nsetq(p->k1[round]);
            c3 = p0;
        }
        philox_store(c0, c1, c2, c3, buf + done);
    }
    return buf + offset;
}

#endif
