/* round_fast.h - the rounder of formats/round.h in 32-bit integers, for the plans that training uses.
 *
 * Same meaning, same bits (tests/host/test_host_round.cc compares all of them), fewer instructions:
 * no loop, no branch on data.  Condition (fpl_round_is_fast): signed, M >= 1, subnormals, a zero of each
 * sign, -126 <= emin, overflow `sat` or a format whose overflow cannot be told from it, mode rne, rna,
 * rtz, rto or sr with at most 16 bits.
 *
 * With x = sig 2^(e - 23), sig < 2^24 (subnormal float32 keep e = -126 and are not normalised, which is
 * right because emin >= -126), the result is units 2^k, k = max(e, emin) - M, units = (sig + add) >> s with
 * s = k - (e - 23):
 *   rne  add = 2^(s-1) - 1 + (the bit that becomes the last)     rna  add = 2^(s-1)
 *   rtz  add = 0              rto  add = 0, then the last bit is set if anything was dropped
 *   sr   add = R 2^(s-r): a carry out of the low s bits is the event floor(f 2^r) + R >= 2^r
 */
#ifndef FPL_CUDA_ROUND_FAST_H
#define FPL_CUDA_ROUND_FAST_H

#include "../../formats/round.h"

#include "launch.h"

/* 1 if fpl_round_fast gives what fpl_round_value gives. */
FPL_HD int fpl_round_is_fast(const struct fpl_round *p) {
    const int mode = p->mode == FPL_RNE || p->mode == FPL_RNA || p->mode == FPL_RTZ || p->mode == FPL_RTO ||
                     (p->mode == FPL_SR && p->sr_bits <= 16);
    return !p->identity && p->codebook == 0 && p->is_signed && p->subnormals && !p->one_zero && !p->no_zero &&
           p->mbits >= 1 && p->emin >= -126 && p->overflow == FPL_SAT && mode;
}

FPL_HD float fpl_round_fast(const struct fpl_round *p, float x, uint32_t random) {
    const uint32_t bits = fpl_float_bits(x), a = bits & 0x7fffffffu;
    const int field = (int)(a >> 23), e = field == 0 ? -126 : field - 127;
    const uint32_t sig = field == 0 ? a : (a & 0x7fffffu) | 0x800000u;
    const int k = (e > p->emin ? e : p->emin) - p->mbits, drop = k - (e - 23);
    uint32_t units;
    if (p->mode == FPL_SR) {
        /* Beyond 24 + r dropped bits floor(f 2^r) is 0, and R < 2^r alone never rounds up. */
        const int s = drop < 41 ? drop : 41, r = p->sr_bits;
        const uint64_t add = s >= r ? (uint64_t)random << (s - r) : (uint64_t)(random >> (r - s));
        units = (uint32_t)((sig + add) >> s);
        units = drop > 24 + r ? 0u : units;
    } else {
        const int s = drop < 26 ? drop : 26; /* sig < 2^24: more bits dropped change nothing */
        const uint32_t half = (1u << s) >> 1, q = sig >> s, rest = sig - (q << s);
        const uint32_t nearest = s == 0 ? 0u : (p->mode == FPL_RNE ? half - 1u + (q & 1u) : half);
        const uint32_t add = p->mode == FPL_RNE || p->mode == FPL_RNA ? nearest : 0u;
        units = (sig + add) >> s | (uint32_t)(p->mode == FPL_RTO && rest != 0u);
    }
    const float r = (float)units * fpl_power_of_two(k < -149 ? -149 : k);
    const float clamped = r > p->largest ? p->largest : r;
    const float result = a == 0x7f800000u ? p->largest : clamped;
    return a > 0x7f800000u ? x : fpl_bits_float(fpl_float_bits(result) | (bits & 0x80000000u));
}

#endif
