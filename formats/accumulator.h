/* accumulator.h - how the products of a GEMM are summed.
 *
 * Text form (EBNF; canonical printing leaves defaults out and writes a unit as its sum):
 *   accumulator = sum | "block" [ ":" sum ] | unit ;
 *   sum         = "fp32" | element [ "/" digits ] | "chunk:" element "/" digits
 *               | "align:" digits "," digits [ "/" digits ] ;
 *   element     = format [ ":" rounding ] [ ":" overflow ] ;      as in quantizer.h
 *   unit        = a name of fpl_accumulator_units, such as h100_fp8 ;
 * for example  fp16   bf16:rtz/32   chunk:e5m10/128   align:32,13/128   block:align:32,13.
 *
 * Every sum starts at +0 and takes its products in increasing k.  F is the element: a signed
 * format with its rounding and overflow.  All products a b of float32 operands are exact.
 *
 *   fp32         default: exact products, float32 sums; each backend states its own order
 *                (kernels.h: the CPU's is one fused-multiply-add chain)
 *   F            acc = round_F(acc + a b), one rounding of the exact value
 *   F/k          the same from +0 in each chunk of k products (the last may be shorter);
 *                sum = fl(sum + acc) after each chunk, in float32 to nearest even from +0
 *   chunk:F/k    in each chunk a float32 fused-multiply-add chain from +0, rounded to F once,
 *                then added to the float32 sum
 *   align:n,w    a matrix unit's dot product.  In groups of n products (the last may be
 *                shorter): e = the largest exponent among the group's non-zero products and a
 *                non-zero acc, where the exponent of a product is floor(log2|a|) +
 *                floor(log2|b|), as hardware has it before normalizing; each product and acc
 *                is truncated toward zero to a multiple of 2^(e - w); acc = their exact sum,
 *                truncated toward zero to float32 with min(w, 23) fraction bits (quantum
 *                2^(max(E, -126) - min(w, 23)) for a sum of exponent E)
 *   align:n,w/k  the same from +0 in each chunk of k products (a multiple of n), each chunk
 *                then added to the float32 sum ("promotion", arXiv 2412.19437, section 3.3.2)
 *   block:S      each operand stays in elements q and group scales s.  The reduction axis is cut
 *                wherever a scale of either operand may change; S sums the products of elements
 *                of each piece from +0 to a partial sum p, and acc = fma(p, fl(s_a s_b), acc)
 *                in float32.  Two-level scales enter at the end: acc = fl(acc fl(c_a c_b)), c
 *                the tensors' factors.  Operands without scales, and those rounded once more
 *                after scaling (`post`), are elements of scale 1.  `block` is block:fp32.
 *
 * Special values.  Any NaN makes the result NaN, as do 0 Inf and Inf - Inf; a NaN result is the
 * one quiet NaN 0x7fc00000, whatever the payloads (fp32 apart).  In round_F an infinite exact
 * value is rounded as round.h says (sat: the largest); beyond the largest, F's overflow policy
 * decides at every product.  In `align` infinities of one sign give that infinity, and a sum
 * of 2^128 or more overflows to infinity although it is truncated, as was measured.  Signs of
 * zero: an exact sum of zero is +0, or -0 where all terms are -0; a result that underflows in
 * round_F keeps its sign, except in formats with one zero; in `align` a zero is +0.
 *
 * Stochastic rounding (sr, srb, src with M + r <= 49): one draw per rounding, kind
 * FPL_STREAM_ACCUMULATE of random.h, stream and step of operand a; its element is
 * (t O + o) I + i of the product summed last, t counted from the first token of the step, so
 * that threads, tiles and micro-batches do not matter.
 *
 * One rounding, never two.  acc and a b are float32 and a product of float32 numbers, so
 * s = fl64(acc + a b) and its error are found exactly by Knuth's two-sum in double (no overflow
 * or underflow: 2^-298 to 2^257).  s is then rounded to odd: where the error is not zero and s
 * is even, one ulp toward the error.  A value rounded to odd with two or more bits to spare
 * rounds on to F in any mode as the exact value does (Boldo and Melquiond, IEEE TC 57, 2008);
 * F has at most 24 bits of double's 53.  In float32 arithmetic the same holds for M <= 21.
 *
 * C11, C++17 and CUDA compile the steps below: they are the definition.  Vector kernels restate
 * them and are tested for equality.
 */
#ifndef FPL_ACCUMULATOR_H
#define FPL_ACCUMULATOR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "error.h"
#include "quantizer.h"
#include "scale.h"

#ifdef __cplusplus
extern "C" {
#endif

enum fpl_accumulator_kind { FPL_ACC_FP32, FPL_ACC_EACH, FPL_ACC_CHUNK, FPL_ACC_ALIGN, FPL_ACC_KINDS };

/* Parsed.  All bytes zero: fp32.  Two texts of one meaning give equal bytes. */
struct fpl_accumulator {
    uint8_t kind;                        /* enum fpl_accumulator_kind */
    uint8_t block;                       /* 1: block:... */
    uint8_t rounding, overflow, sr_bits; /* of F */
    int32_t chunk;                       /* k; 0: none */
    int32_t terms, fraction;             /* n and w of align */
    struct fpl_format format;            /* F */
};

/* Lowered: plain data, copied to devices, one per replica. */
struct fpl_accumulator_plan {
    int32_t kind, block, chunk, terms, fraction;
    struct fpl_round round; /* F; never the identity */
};

#define FPL_ACCUMULATOR_TEXT 96 /* any canonical text fits, terminator included */

enum { FPL_ALIGN_MOST_TERMS = 1024, FPL_ALIGN_MOST_FRACTION = 38 };

enum fpl_code fpl_accumulator_parse(const char *text, struct fpl_accumulator *out, struct fpl_error *err);
int fpl_accumulator_print(const struct fpl_accumulator *a, char *buf, size_t size);
void fpl_accumulator_lower(const struct fpl_accumulator *a, struct fpl_accumulator_plan *plan);

/* For help, `fplaw formats` and tests; the last row has name NULL. */
struct fpl_accumulator_word {
    const char *name;    /* the form, as in the grammar */
    const char *example; /* a text that parses */
    const char *meaning;
};
extern const struct fpl_accumulator_word fpl_accumulator_words[];

/* Matrix units of known devices. */
struct fpl_accumulator_unit {
    const char *name, *text; /* the sum that the name stands for */
    const char *meaning;     /* device, operand types */
    const char *source;
};
extern const struct fpl_accumulator_unit fpl_accumulator_units[];

/* ---- the steps ------------------------------------------------------------------------------ */

FPL_HD uint64_t fpl_double_bits(double x) {
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

FPL_HD double fpl_bits_double(uint64_t u) {
    double x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* The result's NaN is one quiet NaN. */
FPL_HD float fpl_one_nan(float x) { return x != x ? fpl_bits_float(0x7fc00000u) : x; }

/* The fraction rest / 2^s (s <= 62) goes away from zero under a stochastic mode. */
FPL_HD int fpl_accumulate_draw(const struct fpl_round *p, uint64_t rest, int s, uint64_t random) {
    const int r = p->sr_bits + (p->mode == FPL_SRB);
    const uint64_t one = (uint64_t)1 << r;
    const uint64_t whole = s >= r ? rest >> (s - r) : rest << (r - s);
    if (p->mode == FPL_SRB) return whole + 2u * random + 1u >= one;
    if (p->mode == FPL_SR || s <= r) return whole + random >= one;
    const uint64_t left = rest & (((uint64_t)1 << (s - r)) - 1u), half = (uint64_t)1 << (s - r - 1);
    return whole + (left > half || (left == half && (whole & 1u))) + random >= one;
}

/* One rounding of a double: exact where x is exact, and where x has been rounded to odd.
 * The rules are those of round.h on a significand of 53 bits. */
FPL_HD float fpl_round_double(const struct fpl_round *p, double x, uint32_t random) {
    const uint64_t bits = fpl_double_bits(x), a = bits & 0x7fffffffffffffffu;
    const uint32_t sign = (uint32_t)(bits >> 32) & 0x80000000u;
    if (a > 0x7ff0000000000000u) return fpl_bits_float(0x7fc00000u);
    if (a == 0x7ff0000000000000u) return fpl_round_overflow(p, sign, 1);
    if (a == 0) return p->one_zero ? 0.0f : fpl_bits_float(sign);
    const int e = (int)(a >> 52) - 1023; /* never subnormal */
    if (e > 127) return fpl_round_overflow(p, sign, 0);
    uint64_t sig = (a & 0xfffffffffffffu) | 0x10000000000000u;
    const int below = e < p->emin;
    const int k = below ? (p->subnormals ? p->emin - p->mbits : p->emin) : e - p->mbits;
    int s = k - (e - 52); /* >= 29 */
    if (s > 62) {         /* what leaves the significand stays as a sticky bit */
        const int d = s - 62 > 60 ? 60 : s - 62;
        sig = sig >> d | ((sig & (((uint64_t)1 << d) - 1u)) != 0);
        s = 62;
    }
    const uint64_t q = sig >> s, rest = sig & (((uint64_t)1 << s) - 1u), half = (uint64_t)1 << (s - 1);
    /* Parity of q's code, as in round.h. */
    const int odd = p->mbits == 0 && !below ? (e - p->emin + 1) & 1 : (int)(q & 1u);
    int up = 0;
    switch (p->mode) {
    case FPL_RNE:
        up = rest > half || (rest == half && odd);
        break;
    case FPL_RNA:
        up = rest >= half;
        break;
    case FPL_RUP:
        up = rest != 0 && !sign;
        break;
    case FPL_RDN:
        up = rest != 0 && sign != 0;
        break;
    case FPL_RTO:
        up = rest != 0 && !odd;
        break;
    case FPL_RTZ:
        break;
    default:
        up = fpl_accumulate_draw(p, rest, s, random);
        break;
    }
    const float r = (float)((uint32_t)q + (uint32_t)up) * fpl_power_of_two(k);
    if (r > p->largest) return fpl_round_overflow(p, sign, 0);
    if (r == 0.0f && p->one_zero) return 0.0f;
    return fpl_bits_float(fpl_float_bits(r) | sign);
}

/* acc + a b rounded to odd in double; exact where it fits. */
FPL_HD double fpl_sum_to_odd(float acc, float a, float b) {
    const double p = (double)a * (double)b, c = (double)acc, s = p + c;
    const double part = s - p, error = (p - (s - part)) + (c - part);
    uint64_t bits = fpl_double_bits(s);
    if ((bits & 0x7ff0000000000000u) == 0x7ff0000000000000u) return s;
    if (error != 0.0 && !(bits & 1u)) bits = (error > 0.0) == (s > 0.0) ? bits + 1u : bits - 1u;
    return fpl_bits_double(bits);
}

/* `F` and `F/k`: one product. */
FPL_HD float fpl_accumulate_each(const struct fpl_round *f, float acc, float a, float b, uint32_t random) {
    return fpl_round_double(f, fpl_sum_to_odd(acc, a, b), random);
}

/* The end of a chunk: `F/k` and align have value = acc, chunk:F/k value = round_F(chain). */
FPL_HD float fpl_accumulate_chunk(float sum, float value) { return fpl_one_nan(sum + value); }

/* sum 2^(unit) truncated toward zero to min(w, 23) fraction bits; |sum| < 2^62. */
FPL_HD float fpl_align_result(int64_t sum, int unit, int w) {
    const uint64_t a = sum < 0 ? 0u - (uint64_t)sum : (uint64_t)sum;
    if (a == 0) return 0.0f;
    int top = 0;
    while (a >> top > 1u) top++;
    const int e = top + unit, kept = w < 23 ? w : 23, k = (e < -126 ? -126 : e) - kept, drop = k - unit;
    const uint32_t sign = sum < 0 ? 0x80000000u : 0u;
    if (e > 127) return fpl_bits_float(0x7f800000u | sign);
    if (drop > 62) return 0.0f;
    const uint32_t units = (uint32_t)(drop >= 0 ? a >> drop : a << -drop);
    const float r = (float)units * fpl_power_of_two(k);
    return units == 0 ? 0.0f : fpl_bits_float(fpl_float_bits(r) | sign);
}

/* Non-finite terms of a group: what their sum is, 0 where there are none. */
struct fpl_align_special {
    int32_t nan, positive, negative;
};

FPL_HD void fpl_align_watch(struct fpl_align_special *s, double term) {
    s->nan |= term != term;
    s->positive |= term == (double)fpl_bits_float(0x7f800000u);
    s->negative |= term == (double)fpl_bits_float(0xff800000u);
}

/* align: one group of `count` products, element i at a[i * a_step], b[i * b_step]. */
FPL_HD float fpl_accumulate_align(int w, float acc, int count, const float *a, int64_t a_step, const float *b,
                                  int64_t b_step) {
    const int none = -100000;
    struct fpl_align_special special = {0, 0, 0};
    int e = acc != 0.0f && acc - acc == 0.0f ? fpl_exponent(acc) : none;
    fpl_align_watch(&special, (double)acc);
    for (int i = 0; i < count; i++) {
        const float x = a[i * a_step], y = b[i * b_step];
        const double p = (double)x * (double)y;
        fpl_align_watch(&special, p);
        if (p == 0.0 || p - p != 0.0) continue;
        const int ep = fpl_exponent(x) + fpl_exponent(y);
        if (ep > e) e = ep;
    }
    if (special.nan || (special.positive && special.negative)) return fpl_bits_float(0x7fc00000u);
    if (special.positive || special.negative)
        return fpl_bits_float(special.positive ? 0x7f800000u : 0xff800000u);
    if (e == none) return 0.0f;

    /* In units of 2^(e - w) a product is below 2^(w + 2): its 48-bit significand, whose unit is
     * 2^(ep - 46), loses 46 - w + e - ep >= 8 bits.  acc's, of unit 2^(ea - 23), moves either way. */
    int64_t sum = 0;
    for (int i = 0; i < count; i++) {
        const float x = a[i * a_step], y = b[i * b_step];
        if (x == 0.0f || y == 0.0f) continue;
        const int drop = 46 - w + e - fpl_exponent(x) - fpl_exponent(y);
        const uint64_t sig = (uint64_t)fpl_significand(x) * fpl_significand(y);
        const int64_t term = drop > 63 ? 0 : (int64_t)(sig >> drop);
        sum += (fpl_float_bits(x) ^ fpl_float_bits(y)) >> 31 ? -term : term;
    }
    if (acc != 0.0f) {
        const int drop = 23 - w + e - fpl_exponent(acc);
        const uint64_t sig = fpl_significand(acc);
        const int64_t term = drop > 63 ? 0 : (int64_t)(drop >= 0 ? sig >> drop : sig << -drop);
        sum += acc < 0.0f ? -term : term;
    }
    return fpl_align_result(sum, e - w, w);
}

#ifdef __cplusplus
}
#endif
#endif
