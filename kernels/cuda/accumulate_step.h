/* accumulate_step.h - one product under an emulated accumulator, in few instructions.
 *
 * Same bits as formats/accumulator.h for finite operands and the plans that fpl_sum_way_of gives to each way;
 * F has M mantissa bits, exponents from emin, quantum q = 2^(max(e, emin) - M) at a value of exponent e, and
 * the largest value L.  All of it rests on instructions that round in a stated direction:
 *
 * Rounded to odd in float32.  A fused multiply-add rounded down and one rounded up are acc + a b itself, or
 * its two float32 neighbours, one of which has an even and one an odd significand: the odd one is the exact
 * value rounded to odd (of an exact value both are the same; of an exact zero they are -0 and +0, and the
 * even one taken is +0, or -0 where both terms are).  A value so rounded, to 24 bits or to a multiple of
 * 2^-149, rounds on to nearest as the exact one does where two bits are left below q: M <= 21 and q >= 2^-147
 * (Boldo and Melquiond, as accumulator.h has it).
 *   CLAMPED, WATCHED   y = |that|, c = 2^(23 - M) 2^max(e, emin), e the exponent of y: y < 2^(e+1) <= c, so
 *       y + c has the exponent of c, ends at q, and is y rounded to even by the addition; (y + c) - c is
 *       exact.  CLAMPED: y is first cut to L, which rounding keeps.  WATCHED: c may leave float32 where e is
 *       large; r <= L is false then, as it is for every overflow, and the tile is summed again.
 *   BITS   emin = -126, ovf with infinities: units of F are the upper bits of float32, subnormals too; half a
 *       unit less one, plus the bit that becomes the last, carries where nearest even goes up, at last into
 *       infinity.
 *
 * Truncated in float32.  Truncations to ever coarser grids are one.
 *   TRUNCATED   as BITS; beyond float32 the multiply-add itself stays at the largest
 *   DOWN   as WATCHED, the addition of c truncated, c smaller by the bits that are needed below q: none for
 *       rtz, one for rna, to which one is then added in integers
 *   RANDOM_BITS   sr with r <= 23 - M bits: R, aligned below the unit, carries exactly where
 *       floor(f 2^r) + R >= 2^r.  Results of L or more are summed again: truncation hides 2^128 from L.
 *   RANDOM_DOUBLE   sr with r <= 16: the same by adding c = 2^(52 - r) q in double, where acc + a b is
 *       truncated to 53 >= M + r + 1 bits, normal always.
 *
 * Groups of align (w bits below the largest exponent E), E from the exponents of the factors:
 *   c = +-2^(E - w + P), P = 23 or 52, with the product's sign: |c + a b| truncated ends at 2^(E - w), so
 * that the result less c is the product truncated to a multiple of it.  |a b| < 2^(E + 2) <= |c| where w <= P
 * - 2. Sums of n + 1 such terms, each below 2^(w + 2) units, are exact where w + 2 + ceil(log2(n + 1)) <= P
 * + 1. The result is truncated to a quantum in the same way, in float32 by clearing bits.  E is sought among
 * sums of exponent fields; a zero factor has field 0, and the sum must stay below that of any product.  In
 * double it does: fields of float32 values are 874 to 1150.  In float32 factors are zero or from 2^-52 up to
 * 2^23, and a group's result is zero or from 2^-104 to 2^100, so that products and acc have E >= -104, and a
 * zero factor's field says less than that; w <= 21 keeps every number normal.  Other tiles are summed again.
 */
#ifndef FPL_CUDA_ACCUMULATE_STEP_H
#define FPL_CUDA_ACCUMULATE_STEP_H

#include "accumulate_sum.h"

/* ---- which way, made on the host ---------------------------------------------------------------------- */

/* Signed, subnormals, a zero of each sign, all codes by rule. */
static inline int fpl_sum_is_plain(const struct fpl_round *f) {
    return f->is_signed && f->subnormals && !f->one_zero && !f->no_zero && f->codebook == 0 &&
           f->mbits >= 1 && f->emin >= -126;
}

/* float32's exponents, cut to M bits. */
static inline int fpl_sum_is_cut(const struct fpl_round *f) {
    const uint32_t largest = 0x7f7fffffu & ~((1u << (23 - f->mbits)) - 1u);
    return fpl_sum_is_plain(f) && f->emin == -126 && f->overflow == FPL_OVF && f->has_inf &&
           fpl_float_bits(f->largest) == largest;
}

static inline enum fpl_sum_way fpl_sum_way_random(const struct fpl_round *f, int64_t I,
                                                  struct fpl_sum_fast *v) {
    /* Eight products, or columns, share a block of random bits. */
    if (f->mode != FPL_SR || f->sr_bits > 16 || I % 8 != 0 || !fpl_sum_is_plain(f)) return FPL_SUM_EACH;
    v->add = (1u << f->sr_bits) - 1u;
    v->drop = 23 - f->mbits - f->sr_bits;
    if (fpl_sum_is_cut(f) && v->drop >= 0) {
        v->keep = ~((1u << (23 - f->mbits)) - 1u);
        v->most = fpl_float_bits(f->largest) - 1u;
        return FPL_SUM_RANDOM_BITS;
    }
    v->low = (uint32_t)(1023 + f->emin + 52 - f->sr_bits - f->mbits) << 20;
    v->shift = (uint32_t)(52 - f->sr_bits - f->mbits) << 20;
    v->keep = ~v->add;
    return FPL_SUM_RANDOM_DOUBLE;
}

static inline enum fpl_sum_way fpl_sum_way_each(const struct fpl_round *f, int64_t I,
                                                struct fpl_sum_fast *v) {
    const int extra = f->mode == FPL_RNA;
    if (fpl_is_stochastic(f->mode)) return fpl_sum_way_random(f, I, v);
    if (f->mode == FPL_RNE && f->mbits == 23 && fpl_sum_is_cut(f)) return FPL_SUM_CHAIN;
    if (f->mode != FPL_RNE && f->mode != FPL_RTZ && f->mode != FPL_RNA) return FPL_SUM_EACH;
    v->drop = 23 - f->mbits;
    v->keep = ~((1u << v->drop) - 1u);
    if (f->mode == FPL_RTZ && fpl_sum_is_cut(f)) return FPL_SUM_TRUNCATED;
    if (!fpl_sum_is_plain(f) || f->mbits > 21 || f->emin - f->mbits < -147) return FPL_SUM_EACH;
    if (f->mode == FPL_RNE && fpl_sum_is_cut(f)) {
        v->add = (1u << (v->drop - 1)) - 1u;
        return FPL_SUM_BITS;
    }
    if (fpl_exponent(f->largest) + 23 - f->mbits > 127) return FPL_SUM_EACH;
    v->shift = (uint32_t)(23 - f->mbits - extra) << 23;
    v->low = ((uint32_t)(f->emin + 127) << 23) + v->shift;
    v->add = (uint32_t)extra;
    v->keep = ~v->add;
    if (f->mode != FPL_RNE) return FPL_SUM_DOWN;
    return v->clamp ? FPL_SUM_CLAMPED : FPL_SUM_WATCHED;
}

/* How the sums of a plan are made in a layer of I inputs; *v: the constants of that way. */
static inline enum fpl_sum_way fpl_sum_way_of(const struct fpl_accumulator_plan *p, int64_t I,
                                              struct fpl_sum_fast *v) {
    const int depth = 32; /* groups that a slice of accumulate_tile.h holds */
    memset(v, 0, sizeof *v);
    v->largest = p->round.largest;
    v->most = fpl_float_bits(v->largest);
    v->clamp = p->round.overflow != FPL_OVF; /* of a finite value */
    v->scale = p->fraction < 23 ? p->fraction : 23;
    if (p->kind == FPL_ACC_EACH) return fpl_sum_way_each(&p->round, I, v);
    if (p->kind != FPL_ACC_ALIGN) return FPL_SUM_CHAIN;
    if (p->terms > depth) return FPL_SUM_ALONE;
    int bits = 0;
    while (1 << bits < p->terms + 1) bits++;
    return p->fraction + 2 + bits <= 24 && p->fraction <= 21 ? FPL_SUM_ALIGN_FLOAT : FPL_SUM_ALIGN_DOUBLE;
}

/* ---- products in float32 --------------------------------------------------------------------------------
 */

__device__ static inline float fpl_sum_odd(float acc, float a, float b) {
    const float down = __fmaf_rd(a, b, acc), up = __fmaf_ru(a, b, acc);
    return fpl_float_bits(down) & 1u ? down : up;
}

__device__ static inline uint32_t fpl_sum_larger(uint32_t a, uint32_t b) { return a > b ? a : b; }

/* r >= 0 with the sign of x. */
__device__ static inline float fpl_sum_signed(float r, float x) {
    return fpl_bits_float(fpl_float_bits(r) | (fpl_float_bits(x) & 0x80000000u));
}

/* Raises *worst to the bits of x >= 0, or of a NaN; above v->most they say that the tile is to be summed
 * again. A comparison of integers costs one instruction where one of floats and a flag cost three. */
__device__ static inline void fpl_sum_watch(uint32_t *worst, uint32_t bits) {
    *worst = fpl_sum_larger(*worst, bits);
}

__device__ static inline float fpl_sum_constant(const struct fpl_sum_fast *v, float y) {
    return fpl_bits_float(fpl_sum_larger((fpl_float_bits(y) & 0x7f800000u) + v->shift, v->low));
}

/* To nearest even; x exact or rounded to odd. */
template <int CLAMP>
__device__ static inline float fpl_sum_nearest(const struct fpl_sum_fast *v, float x, uint32_t *worst) {
    const float y = CLAMP ? fminf(fabsf(x), v->largest) : x, c = fpl_sum_constant(v, y),
                r = (fabsf(y) + c) - c;
    if (!CLAMP) fpl_sum_watch(worst, fpl_float_bits(r));
    return fpl_sum_signed(r, x);
}

__device__ static inline float fpl_sum_bits(const struct fpl_sum_fast *v, float x) {
    const uint32_t u = fpl_float_bits(x);
    return fpl_bits_float((u + v->add + (u >> v->drop & 1u)) & v->keep);
}

/* rtz, rna; x truncated. */
__device__ static inline float fpl_sum_down(const struct fpl_sum_fast *v, float x, uint32_t *worst) {
    const float y = v->clamp ? fminf(fabsf(x), v->largest) : fabsf(x), c = fpl_sum_constant(v, y),
                s = __fadd_rz(y, c), r = fpl_bits_float((fpl_float_bits(s) + v->add) & v->keep) - c;
    fpl_sum_watch(worst, fpl_float_bits(r));
    return fpl_sum_signed(r, x);
}

/* One product of the ways that need no random bits. */
template <int WAY>
__device__ static inline float fpl_sum_step(const struct fpl_sum_fast *v, float acc, float a, float b,
                                            uint32_t *worst) {
    if (WAY == FPL_SUM_CHAIN) return fmaf(a, b, acc);
    if (WAY == FPL_SUM_TRUNCATED) return fpl_bits_float(fpl_float_bits(__fmaf_rz(a, b, acc)) & v->keep);
    if (WAY == FPL_SUM_BITS) return fpl_sum_bits(v, fpl_sum_odd(acc, a, b));
    if (WAY == FPL_SUM_CLAMPED) return fpl_sum_nearest<1>(v, fpl_sum_odd(acc, a, b), worst);
    if (WAY == FPL_SUM_WATCHED) return fpl_sum_nearest<0>(v, fpl_sum_odd(acc, a, b), worst);
    return fpl_sum_down(v, __fmaf_rz(a, b, acc), worst);
}

/* ---- stochastic rounding: `random` has 16 bits -------------------------------------------------------- */

__device__ static inline float fpl_sum_random_bits(const struct fpl_sum_fast *v, float acc, float a, float b,
                                                   uint32_t random, uint32_t *worst) {
    const uint32_t u = fpl_float_bits(__fmaf_rz(a, b, acc)) + ((random & v->add) << v->drop);
    fpl_sum_watch(worst, u & v->keep & 0x7fffffffu);
    return fpl_bits_float(u & v->keep);
}

__device__ static inline double fpl_sum_random_double(const struct fpl_sum_fast *v, double acc, double a,
                                                      double b, uint32_t random, uint32_t *worst) {
    const double x = __fma_rz(a, b, acc);
    const uint64_t u = fpl_double_bits(x), sign = u & 0x8000000000000000u;
    const double y = fpl_bits_double(u ^ sign);
    const uint32_t high = fpl_sum_larger((uint32_t)(u >> 32 & 0x7ff00000u) + v->shift, v->low);
    const double c = fpl_bits_double((uint64_t)high << 32), s = __dadd_rz(y, c);
    const uint64_t sum = fpl_double_bits(s) + (random & v->add);
    double r = fpl_bits_double(sum & ((uint64_t)0xffffffffu << 32 | v->keep)) - c;
    const int over = r > (double)v->largest;
    if (over && !v->clamp) *worst = 0xffffffffu;
    r = over ? (double)v->largest : r;
    return fpl_bits_double(fpl_double_bits(r) | sign);
}

/* ---- groups of align ------------------------------------------------------------------------------------
 */

/* Exponent fields are biased by 127 (float32) or 1023 (double) and compared where they stand. */
__device__ static inline uint32_t fpl_sum_field(float x) { return fpl_float_bits(x) & 0x7f800000u; }
__device__ static inline uint32_t fpl_sum_field(double x) {
    return (uint32_t)(fpl_double_bits(x) >> 32) & 0x7ff00000u;
}

/* 2^(E - w + P) from the largest sum of two fields, or of acc's and the bias.  Less than any product's: only
 * zeros are summed, and any constant does. */
__device__ static inline float fpl_sum_align_constant(uint32_t most, int w, float) {
    const uint32_t e = fpl_sum_larger(most, (uint32_t)(254 - 104) << 23);
    return fpl_bits_float(e - ((uint32_t)(127 + w - 23) << 23));
}
__device__ static inline double fpl_sum_align_constant(uint32_t most, int w, double) {
    const uint32_t e = fpl_sum_larger(most, (uint32_t)(874 + 874) << 20);
    return fpl_bits_double((uint64_t)(e - ((uint32_t)(1023 + w - 52) << 20)) << 32);
}

__device__ static inline float fpl_sum_toward_zero(float a, float b, float c) { return __fmaf_rz(a, b, c); }
__device__ static inline double fpl_sum_toward_zero(double a, double b, double c) {
    return __fma_rz(a, b, c);
}

__device__ static inline uint32_t fpl_sum_sign(float x) { return fpl_float_bits(x) & 0x80000000u; }
__device__ static inline uint32_t fpl_sum_sign(double x) {
    return (uint32_t)(fpl_double_bits(x) >> 32) & 0x80000000u;
}
__device__ static inline float fpl_sum_with_sign(float c, uint32_t sign) {
    return fpl_bits_float(fpl_float_bits(c) ^ sign);
}
__device__ static inline double fpl_sum_with_sign(double c, uint32_t sign) {
    return fpl_bits_double(fpl_double_bits(c) ^ (uint64_t)sign << 32);
}

/* a b truncated; c the group's constant, as_, bs the signs of a and b. */
template <typename T>
__device__ static inline T fpl_sum_align_term(T c, T a, T b, uint32_t as_, uint32_t bs) {
    const T signed_c = fpl_sum_with_sign(c, as_ ^ bs);
    return fpl_sum_toward_zero(a, b, signed_c) - signed_c;
}

/* The group's sum as the accumulator keeps it: `kept` fraction bits. */
__device__ static inline float fpl_sum_align_result(float sum, int kept, uint32_t *worst) {
    const uint32_t field = fpl_sum_field(sum) >> 23;
    if (field != 0 && (field > 127 + 100 || field < 127 - 104)) *worst = 0xffffffffu;
    return fpl_bits_float(fpl_float_bits(sum) & ~((1u << (23 - kept)) - 1u));
}
__device__ static inline double fpl_sum_align_result(double sum, int kept, uint32_t *worst) {
    const uint32_t field = fpl_sum_larger(fpl_sum_field(sum), (uint32_t)(1023 - 126) << 20);
    const double c = fpl_sum_with_sign(
        fpl_bits_double((uint64_t)(field + ((uint32_t)(52 - kept) << 20)) << 32), fpl_sum_sign(sum));
    if (field > (uint32_t)(1023 + 127) << 20) *worst = 0xffffffffu;
    return __dadd_rz(sum, c) - c;
}

/* What a way takes of its operands. */
template <int WAY> __device__ static inline int fpl_sum_takes(float x) {
    const uint32_t a = fpl_float_bits(x) & 0x7fffffffu;
    if (WAY == FPL_SUM_ALIGN_FLOAT) return a == 0 || (a >= (127 - 52) << 23 && a < (127 + 23) << 23);
    return a < 0x7f800000u;
}

#endif
