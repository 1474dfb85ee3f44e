/* accumulate_double.h - vectors of doubles, and one rounding of an accumulator on them.
 *
 * x comes in rounded to odd (accumulator.h).  q is the quantum of F at x and c = 1.5 2^52 q, so
 * that t = x + c ends at q and r = t - c is x to nearest, ties to even; c is q's multiple only
 * through x's exponent, or a constant where |x| is below the smallest normal.  Every other mode
 * follows from r, x and q: the neighbour of x on the other side is r +- q.  M <= 23 leaves room
 * for |x| < c/3.
 *
 * M = 0: codes alternate with the exponent, so a tie at 1.5 2^e, which is r = 2^(e+1), goes back
 * by q where 2^e has the even code.
 */
#ifndef FPL_VEC_ACCUMULATE_DOUBLE_H
#define FPL_VEC_ACCUMULATE_DOUBLE_H

#include "../../../formats/accumulator.h"
#include "native.h"

#define ND (NL / 2)
#define PARTS (16 / ND) /* vectors of doubles in a unit of sixteen columns */
typedef double nd __attribute__((vector_size(4 * NL)));
typedef int64_t nl __attribute__((vector_size(4 * NL)));
typedef float nd_floats __attribute__((vector_size(4 * ND)));
typedef int32_t nd_ints __attribute__((vector_size(4 * ND)));
typedef double nd_unaligned __attribute__((vector_size(4 * NL), aligned(8), may_alias));

VINLINE nd nset_d(double x) { return x - (nd){0}; } /* keeps -0, as 0 + x does not */
VINLINE nl nset_l(int64_t x) { return (nl){0} + x; }

VINLINE nd nload_d(const float *p) {
    nd_floats x;
    memcpy(&x, p, sizeof x);
    return __builtin_convertvector(x, nd);
}

VINLINE void nstore_d(float *p, nd x) {
    const nd_floats y = __builtin_convertvector(x, nd_floats);
    memcpy(p, &y, sizeof y);
}

/* Masks, choice, minimum and maximum (the second operand where one is NaN). */
#if defined(FPL_LEVEL_avx512)
typedef __mmask8 dmask;
VINLINE dmask dmore(nd a, nd b) { return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_GT_OQ); }
VINLINE dmask dequal(nd a, nd b) { return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_EQ_OQ); }
VINLINE dmask dnot(dmask a) { return (dmask)~a; }
VINLINE dmask dodd(nd a) { return _mm512_test_epi64_mask((__m512i)a, _mm512_set1_epi64(1)); }
VINLINE nd dselect(dmask m, nd a, nd b) { return (nd)_mm512_mask_mov_pd((__m512d)b, m, (__m512d)a); }
VINLINE int dany(dmask m) { return m != 0; }
VINLINE nd dmin(nd a, nd b) { return (nd)_mm512_min_pd((__m512d)a, (__m512d)b); }
VINLINE nd dmax(nd a, nd b) { return (nd)_mm512_max_pd((__m512d)a, (__m512d)b); }
#else
typedef nl dmask;
VINLINE dmask dmore(nd a, nd b) { return (nl)(a > b); }
VINLINE dmask dequal(nd a, nd b) { return (nl)(a == b); }
VINLINE dmask dnot(dmask a) { return ~a; }
VINLINE dmask dodd(nd a) { return -((nl)a & 1); }
VINLINE nd dselect(dmask m, nd a, nd b) { return (nd)(((nl)a & m) | ((nl)b & ~m)); }
VINLINE int dany(dmask m) {
    int64_t all = 0;
    for (int i = 0; i < ND; i++) all |= m[i];
    return all != 0;
}
#if defined(FPL_LEVEL_avx2)
VINLINE nd dmin(nd a, nd b) { return (nd)_mm256_min_pd((__m256d)a, (__m256d)b); }
VINLINE nd dmax(nd a, nd b) { return (nd)_mm256_max_pd((__m256d)a, (__m256d)b); }
#else
VINLINE nd dmin(nd a, nd b) { return dselect((nl)(a < b), a, b); }
VINLINE nd dmax(nd a, nd b) { return dselect((nl)(a > b), a, b); }
#endif
#endif

VINLINE nd dabs(nd x) { return (nd)((nl)x & INT64_MAX); }
/* |x| with the sign of y */
VINLINE nd dsigned(nd x, nd y) { return (nd)((nl)dabs(x) | ((nl)y & INT64_MIN)); }

/* acc + p rounded to odd.  An infinite sum stays: its error is NaN, which is neither > 0 nor < 0. */
VINLINE nd dsum_to_odd(nd acc, nd p) {
#if defined(FPL_LEVEL_avx512)
    enum { down = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC, up = _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC };
    const nd below = (nd)_mm512_add_round_pd((__m512d)acc, (__m512d)p, down);
    return dselect(dodd(below), below, (nd)_mm512_add_round_pd((__m512d)acc, (__m512d)p, up));
#else
    const nd s = p + acc, part = s - p, error = (p - (s - part)) + (acc - part);
    const nl inexact = (nl)(error > 0.0) | (nl)(error < 0.0), even = ((nl)s & 1) - 1;
    const nl away = (nl)((error > 0.0) == (s > 0.0)); /* all ones: one ulp up in magnitude */
    return (nd)((nl)s + (inexact & even & (-2 * away - 1)));
#endif
}

struct double_round {
    double largest, low;               /* low = 2^emin */
    double shift, quantum;             /* c and q of an exponent's power: 1.5 2^(52 - M), 2^-M */
    double shift_below, quantum_below; /* c and q themselves */
    int64_t sign;                      /* the sign bit, or 0 where there is one zero */
    int64_t parity;                    /* M = 0: bit 52 of the exponents with even codes */
};

static inline double power_d(int k) { return fpl_bits_double((uint64_t)(1023 + k) << 52); }

static inline struct double_round lower_double(const struct fpl_round *f) {
    struct double_round v = {.largest = (double)f->largest, .low = power_d(f->emin)};
    v.quantum = power_d(-f->mbits);
    v.quantum_below = power_d(f->subnormals ? f->emin - f->mbits : f->emin);
    v.shift = power_d(52) * 1.5 * v.quantum;
    v.shift_below = power_d(52) * 1.5 * v.quantum_below;
    v.sign = f->one_zero ? 0 : INT64_MIN;
    v.parity = (int64_t)((uint64_t)(1023 + f->emin + 1) << 52) & (int64_t)1 << 52;
    return v;
}

/* x, of finite magnitude below 2^300 or infinite, to a multiple of q. */
VINLINE nd dround(const struct double_round *v, const int mode, const int no_mantissa, nd x) {
    const nd a = dabs(x), infinity = nset_d((double)INFINITY);
    const nd e = dmin(nset_d(0x1p300), (nd)((nl)x & (nl)infinity));
    const dmask below = dmore(nset_d(v->low), a);
    const nd c = dselect(below, nset_d(v->shift_below), e * v->shift);
    const nd t = x + c, r = t - c;
    if (mode == FPL_RNE && !no_mantissa) return r;
    const nd q = dselect(below, nset_d(v->quantum_below), e * v->quantum), up = r + q, down = r - q;
    const nd in = r - dsigned(q, x), out = r + dsigned(q, x);
    const dmask tie = dequal(dabs(x - r) * 2.0, q);
    switch (mode) {
    case FPL_RUP:
        return dselect(dmore(x, r), up, r);
    case FPL_RDN:
        return dselect(dmore(r, x), down, r);
    case FPL_RNA:
        return dselect(tie & dmore(a, dabs(r)), out, r);
    case FPL_RTO:
        return dselect(dnot(dodd(t)), dselect(dmore(x, r), up, dselect(dmore(r, x), down, r)), r);
    case FPL_RTZ:
        return dselect(dmore(dabs(r), a), in, r);
    default: {                                                       /* rne, M = 0 */
        const nd odd = (nd)(((nl)x & (int64_t)1 << 52) ^ v->parity); /* not zero: 2^e has the odd code */
        const dmask even = dequal(odd, nset_d(0.0));
        return dselect(tie & dmore(dabs(r), a) & even & dnot(below), in, r);
    }
    }
}

#endif
