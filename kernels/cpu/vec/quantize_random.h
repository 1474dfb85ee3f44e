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
    uint64_t third, first[2], second; /* what the constant words of the first rounds come to */
    uint32_t step, stream;
};

static inline struct philox philox_keys(const struct fpl_random_at *at) {
    struct philox p = {.step = at->step, .stream = at->stream};
    for (uint32_t i = 0; i < 10; i++) {
        p.k0[i] = (uint32_t)at->seed + i * 0x9e3779b9u;
        p.k1[i] = (uint32_t)(at->seed >> 32) + i * 0xbb67ae85u;
    }
    const uint64_t b = 0xcd9e8d57u * (uint64_t)p.step, a = 0xd2511f53u * (b >> 32 ^ p.k0[0]);
    p.third = p.stream ^ p.k1[0];
    p.first[0] = (b & 0xffffffffu) ^ p.k0[1];
    p.first[1] = a >> 32 ^ p.k1[1];
    p.second = (a & 0xffffffffu) ^ p.k1[2];
    return p;
}

/* The words of blocks; the high halves of c1 and c3 hold anything. */
VINLINE void philox_blocks(const struct philox *p, nq block, nq *c0, nq *c1, nq *c2, nq *c3) {
    const nq m0 = nsetq(0xd2511f53u), m1 = nsetq(0xcd9e8d57u);
    *c0 = block, *c1 = block >> 32, *c2 = nsetq(p->step), *c3 = nsetq(p->stream);
    UNROLL(10)
    for (int round = 0; round < 10; round++) {
        const nq p0 = nmul_low(*c0, m0), p1 = nmul_low(*c2, m1);
        *c0 = p1 >> 32 ^ *c1 ^ nsetq(p->k0[round]);
        *c1 = p1;
        *c2 = p0 >> 32 ^ *c3 ^ nsetq(p->k1[round]);
        *c3 = p0;
    }
}

/* Halves of elements first .. first + n - 1; returns where the first one lies in buf. */
static inline const uint16_t *random_halves(const struct philox *p, uint64_t first, int64_t n,
                                            uint16_t *buf) {
    const int64_t offset = (int64_t)(first % 8);
    nq lane;
    for (int i = 0; i < QL; i++) lane[i] = (uint64_t)i;
    for (int64_t done = 0; done < offset + n; done += 8 * QL) {
        const nq block = nsetq((first + (uint64_t)done) / 8) + lane;
        nq c0, c1, c2, c3;
        philox_blocks(p, block, &c0, &c1, &c2, &c3);
        philox_store(c0, c1, c2, c3, buf + done);
    }
    return buf + offset;
}

#if defined(FPL_LEVEL_avx512)
/* Random bits of runs of sixteen elements, `step` apart, for code that does other work between
 * the rounds: one block's rounds wait for each other, so that thirty-two blocks in four vectors
 * and something else are needed to keep the processor busy.  They are the halves of sixteen
 * runs, or, where an element takes a word, the words of eight.
 *
 * The first element and step are multiples of 8; all elements are below 2^34, so that the
 * block's high word is 0.  Two rounds start from constants: that word, step and stream are the
 * same for all.  A vector holds the two blocks of each of four runs (the four of each of two), in
 * an order that makes runs of what unpacking leaves. */
enum { CHAINS = 4 };

struct philox_state {
    __m512i c0[CHAINS], c1[CHAINS], c2[CHAINS], c3[CHAINS];
};

#define HIGH(x) _mm512_shuffle_epi32(x, _MM_PERM_CDAB)
#define ALL(x) _mm512_set1_epi64((long long)(x))
#define XOR3(a, b, c) _mm512_ternarylogic_epi64(a, b, c, 0x96)

/* Block numbers of four runs, or two, relative to the first. */
VINLINE __m512i philox_pattern(int64_t step, const int words) {
    const __m512i runs =
        words ? _mm512_setr_epi64(0, 1, 0, 1, 0, 1, 0, 1) : _mm512_setr_epi64(0, 2, 0, 2, 1, 3, 1, 3);
    const __m512i within =
        words ? _mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3) : _mm512_setr_epi64(0, 0, 1, 1, 0, 0, 1, 1);
    return _mm512_add_epi64(_mm512_mul_epu32(runs, ALL(words ? step / 4 : step / 8)), within);
}

/* The first three rounds. */
VINLINE void philox_start(const struct philox *p, __m512i pattern, uint64_t first, int64_t step,
                          const int words, struct philox_state *s) {
    const __m512i m0 = ALL(0xd2511f53), m1 = ALL(0xcd9e8d57);
    UNROLL(4)
    for (int i = 0; i < CHAINS; i++) {
        const uint64_t at =
            words ? (first + (uint64_t)(2 * i * step)) / 4 : (first + (uint64_t)(4 * i * step)) / 8;
        const __m512i block = _mm512_add_epi64(pattern, ALL(at));
        __m512i a = _mm512_mul_epu32(block, m0);
        __m512i b = _mm512_mul_epu32(_mm512_xor_si512(HIGH(a), ALL(p->third)), m1);
        const __m512i c0 = _mm512_xor_si512(HIGH(b), ALL(p->first[0])), c1 = b;
        const __m512i c2 = _mm512_xor_si512(a, ALL(p->first[1]));
        a = _mm512_mul_epu32(c0, m0);
        b = _mm512_mul_epu32(c2, m1);
        s->c0[i] = XOR3(HIGH(b), c1, ALL(p->k0[2]));
        s->c1[i] = b;
        s->c2[i] = _mm512_xor_si512(HIGH(a), ALL(p->second));
        s->c3[i] = a;
    }
}

VINLINE void philox_round(const struct philox *p, int round, struct philox_state *s) {
    const __m512i m0 = ALL(0xd2511f53), m1 = ALL(0xcd9e8d57);
    UNROLL(4)
    for (int i = 0; i < CHAINS; i++) {
        const __m512i a = _mm512_mul_epu32(s->c0[i], m0), b = _mm512_mul_epu32(s->c2[i], m1);
        s->c0[i] = XOR3(HIGH(b), s->c1[i], ALL(p->k0[round]));
        s->c1[i] = b;
        s->c2[i] = XOR3(HIGH(a), s->c3[i], ALL(p->k1[round]));
        s->c3[i] = a;
    }
}

/* The last round; sixteen halves or words for each run, runs in order. */
VINLINE void philox_end(const struct philox *p, struct philox_state *s, uint16_t *out) {
    const __m512i m0 = ALL(0xd2511f53), m1 = ALL(0xcd9e8d57);
    UNROLL(4)
    for (int i = 0; i < CHAINS; i++) {
        __m512i a = _mm512_mul_epu32(s->c0[i], m0), b = _mm512_mul_epu32(s->c2[i], m1);
        /* words 0 and 1, 2 and 3 of each block: only the low one is mixed */
        b = _mm512_mask_ternarylogic_epi32(HIGH(b), 0x5555, s->c1[i], ALL(p->k0[9]), 0x96);
        a = _mm512_mask_ternarylogic_epi32(HIGH(a), 0x5555, s->c3[i], ALL(p->k1[9]), 0x96);
        _mm512_store_si512(out + 64 * i, _mm512_unpacklo_epi64(b, a));
        _mm512_store_si512(out + 64 * i + 32, _mm512_unpackhi_epi64(b, a));
    }
}

#undef HIGH
#undef ALL
#undef XOR3
#endif

#endif
