/* quantize_round.h - round.h's rounder on vectors, for the formats that hot loops meet.
 *
 * Works on magnitudes; signs come back at the end.  With e = floor(log2 y) taken from the
 * bits, the quantum at y is 2^k, k = e - M above 2^emin and a constant below (emin - M, or
 * emin without subnormals).  How each mode gets to a multiple of it, all exact:
 *
 *   NONE   y as it is (fp32)
 *   MAGIC  rne, M >= 1, subnormals: (y + c) - c with c = 1.5 2^(k+23); the sum is rounded at
 *          the quantum, and ties to even multiples are ties to even codes
 *   RNE    adds half a quantum less one unit, plus the parity of the code, to the bits and
 *          clears those below the quantum; below 2^emin as MAGIC, with a constant.  Where
 *          M = 0, the parity is that of the exponent field less emin - 1
 *   RNA    floor((floor(2t) + 1) / 2) of t = y/2^k
 *   SR     floor((floor(t 2^r) + R) / 2^r): the fraction's first r bits are all that count
 *   SR_WIDE  more than 16 random bits: f 2^r in two halves of the word, and whether adding R to
 *          it carries
 *   RTZ, RUP, RDN   floor(t), one more where t is no integer and the mode says so
 *   RTO    floor(t) with its last bit set where t is no integer; RTO_POWER: M = 0, where the parity
 *          of a code is that of the exponent
 *
 * `sat` clamps y first, which gives the same as clamping the result.  Lanes that need other
 * overflows, infinities or NaNs are reported in a mask; the caller does them by round.h.
 */
#ifndef FPL_VEC_QUANTIZE_ROUND_H
#define FPL_VEC_QUANTIZE_ROUND_H

#include "../../../formats/round.h"
#include "native.h"

enum way {
    WAY_SCALAR,
    WAY_NONE,
    WAY_MAGIC,
    WAY_RNE,
    WAY_RNA,
    WAY_RTZ,
    WAY_RUP,
    WAY_RDN,
    WAY_RTO,
    WAY_RTO_POWER,
    WAY_SR,
    WAY_SR_WIDE,
    WAYS
};

/* Constants of one struct fpl_round. */
struct vround {
    int way, mbits, no_mantissa;
    uint32_t emin_bits;        /* of 2^emin */
    uint32_t low_bits;         /* of the quantum below 2^emin */
    uint32_t mantissa;         /* M << 23 */
    uint32_t shift;            /* MAGIC: makes 1.5 2^(k+23) of 2^(k+M) */
    uint32_t drop, half, keep; /* RNE: 23 - M, half a quantum less one unit, mask */
    uint32_t flip;             /* M = 0: exponent parity of odd codes is that of field ^ flip */
    uint32_t random_mask;      /* SR */
    uint32_t random_shift;     /* SR with 16 bits, M <= 5: makes 2^(k+7) of 2^(k+M) */
    int sr_bits;
    float below_magic; /* RNE: 2^23 quanta of the range below 2^emin */
    float largest;
    int exact_sat; /* overflow is sat: clamping y is all there is to it */
};

/* The fastest way that covers this rounder; WAY_SCALAR if none does. */
static inline int choose_way(const struct fpl_round *p) {
    const int M = p->mbits, emin = p->emin, low = p->subnormals ? emin - M : emin;
    if (p->identity) return WAY_NONE;
    if (p->codebook != 0 || p->no_zero || M > 22 || emin < -126 || emin > 100) return WAY_SCALAR;
    if (p->mode == FPL_RNE) {
        if (M >= 1 && M <= 21 && p->subnormals && fpl_exponent(p->largest) <= 103 + M) return WAY_MAGIC;
        return WAY_RNE;
    }
    if (p->mode == FPL_SR && p->sr_bits > 16)
        return low < -126 || M > 21 || fpl_exponent(p->largest) > 120 ? WAY_SCALAR : WAY_SR_WIDE;
    /* t = y 2^(extra - k) must be made by one normal factor, and fit an integer */
    const int extra = p->mode == FPL_RNA ? 1 : p->mode == FPL_SR ? p->sr_bits : 0;
    if (low < -126 || extra - low > 127 || M + 1 + extra > 30 || extra > 16) return WAY_SCALAR;
    static const int ways[FPL_ROUNDINGS] = {WAY_RNE, WAY_RNA, WAY_RTZ, WAY_RUP, WAY_RDN, WAY_RTO, WAY_SR};
    if (ways[p->mode] >= WAY_RUP && ways[p->mode] <= WAY_RTO && low > 0)
        return WAY_SCALAR; /* t may underflow */
    if (p->mode == FPL_RTO && M == 0) return WAY_RTO_POWER;
    return ways[p->mode];
}

/* is_signed: magnitudes of signed formats; the caller may know that there are no others. */
static inline struct vround lower_vround(const struct fpl_round *p, int is_signed) {
    struct vround v = {.way = is_signed ? choose_way(p) : WAY_SCALAR, .largest = p->largest};
    if (v.way == WAY_SCALAR || v.way == WAY_NONE) return v;
    const int M = p->mbits, low = p->subnormals ? p->emin - M : p->emin;
    v.mbits = M;
    v.no_mantissa = M == 0;
    v.emin_bits = (uint32_t)(p->emin + 127) << 23;
    v.low_bits = fpl_float_bits(fpl_power_of_two(low));
    v.mantissa = (uint32_t)M << 23;
    v.shift = ((uint32_t)(23 - M) << 23) + 0x400000u;
    v.drop = (uint32_t)(23 - M);
    v.half = (1u << (22 - M)) - 1u;
    v.keep = ~((1u << (23 - M)) - 1u);
    v.flip = M == 0 ? (uint32_t)(p->emin + 127 + 1) & 1u : 0u;
    v.below_magic = fpl_power_of_two(low + 23);
    v.sr_bits = p->sr_bits;
    v.random_mask = (uint32_t)(((uint64_t)1 << p->sr_bits) - 1u);
    v.random_shift = (uint32_t)(7 - M) << 23;
    v.exact_sat = p->overflow == FPL_SAT;
    return v;
}

/* The constant of MAGIC for values of y's binade; y of either sign. */
VINLINE nf magic(const struct vround *v, nf y) {
    return (nf)(nmax_i((nu)y & 0x7f800000u, nsetu(v->emin_bits)) + v->shift);
}

/* y >= 0, finite, at most `largest` unless the caller looks at the result; sign: bit 31 of x. */
VINLINE nf vround_magnitude(const struct vround *v, const int way, nf y, nu sign, nu random) {
    if (way == WAY_NONE) return y;
    if (way == WAY_MAGIC) {
        const nf c = magic(v, y);
        return (y + c) - c;
    }
    const nu exponents = (nu)y & 0x7f800000u;
    const nmask below = nmore_i(nsetu(v->emin_bits), (nu)y);
    if (way == WAY_RNE) {
        const nu odd = ((nu)y >> v->drop ^ v->flip) & 1u;
        const nu above = ((nu)y + v->half + odd) & v->keep;
        const nf c = nset(v->below_magic);
        return nselect_f(below, (y + c) - c, (nf)above);
    }
    const nu k = nselect(below, nsetu(v->low_bits), exponents - v->mantissa); /* bits of 2^k */
    const nu one = nsetu(127u << 23);
    if (way == WAY_RNA || way == WAY_SR) {
        const uint32_t extra = way == WAY_RNA ? 1u : (uint32_t)v->sr_bits;
        const nu units = nto_int(y * (nf)(one + one + (extra << 23) - k));
        return nto_float((units + (way == WAY_RNA ? nsetu(1u) : random & v->random_mask)) >> extra) * (nf)k;
    }
    const nf t = y * (nf)(one + one - k);
    const nu whole = nto_int(t);
    if (way == WAY_RTZ) return nto_float(whole) * (nf)k;
    if (way == WAY_RTO)
        return nto_float(whole | nselect(nmore(t, nto_float(whole)), nsetu(1), nsetu(0))) * (nf)k;
    if (way == WAY_SR_WIDE) {
        const nf f = (t - nto_float(whole)) * nset(0x1p16f);
        const nu high = nto_int(f), low = nto_int((f - nto_float(high)) * nset(0x1p16f));
        /* 32 bits of f and of R, aligned at the top; bits of f below the r-th do not count */
        const uint32_t unused = 32u - (uint32_t)v->sr_bits;
        const nu fraction = (high << 16 | low) >> unused << unused;
        const nmask carry = nmore_u(fraction, ~(random << unused));
        return nto_float(whole + nselect(carry, nsetu(1), nsetu(0))) * (nf)k;
    }
    nu up; /* one unit where the mode goes up from an inexact t */
    if (way == WAY_RUP)
        up = (sign >> 31) ^ 1u;
    else if (way == WAY_RDN)
        up = sign >> 31;
    else {
        up = (nselect(below, whole, exponents >> 23 ^ v->flip) & 1u) ^ 1u; /* RTO, M = 0 */
    }
    up = nselect(nmore(t, nto_float(whole)), up, nsetu(0));
    return nto_float(whole + up) * (nf)k;
}

#endif
