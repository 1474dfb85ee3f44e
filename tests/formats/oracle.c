/* oracle.c - exact rounding by listing a format's values (see oracle.h).
 *
 * Code c of a format with M mantissa bits has exponent field c >> M and mantissa c mod 2^M:
 *
 *   field > 0   (2^M + mantissa) 2^(field - bias - M)
 *   field = 0   mantissa 2^(1 - bias - M)
 *   E = 0       c 2^(-bias), a uniform grid; the table never reads the bias of E = 0
 *               formats but takes the step from the format's printed limits
 *   ue8m0       2^(c - 127), no zero
 *
 * Codes that the policy takes away are the last of the magnitudes: 2^M codes for ieee
 * (top exponent), one for fn (NaN) and p3109e (Inf), none for finite, fnuz and p3109f; without
 * a sign P3109 puts its NaN there too.
 * Codes continued past them give the values of an unbounded exponent.
 *
 * Where the text is silent the oracle reads it so:
 *   ns    below the smallest normal value the neighbours are 0 (even) and that value (odd)
 *   Inf   is no rounding: satp keeps it; ovf keeps it or gives NaN or the largest value,
 *         whichever the format has first, in every mode
 *   u     negative inputs become +0, the smallest value where there is no zero, or NaN
 *         under ovf where the format has one (round.h)
 */
#include "oracle.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

static void *grab(size_t n, size_t size) {
    void *p = calloc(n ? n : 1, size);
    if (!p) abort();
    return p;
}

static double code_value(const struct fpl_format *f, double step, int64_t code) {
    if (f->is_scale) return ldexp(1.0, (int)code - 127);
    if (f->ebits == 0) return (double)code * step;
    const int64_t unit = (int64_t)1 << f->mbits;
    const int64_t field = code >> f->mbits, mantissa = code & (unit - 1);
    if (field == 0) return ldexp((double)mantissa, 1 - f->bias - f->mbits);
    return ldexp((double)(unit + mantissa), (int)field - f->bias - f->mbits);
}

/* Number of magnitude codes that are finite. */
static int64_t finite_codes(const struct fpl_format *f) {
    if (f->is_scale) return 255;
    const int64_t all = (int64_t)1 << (f->ebits + f->mbits);
    switch (f->policy) {
    case FPL_IEEE:
        return all - ((int64_t)1 << f->mbits);
    case FPL_FN:
        return all - 1;
    case FPL_P3109E:
        return f->is_signed ? all - 1 : all - 2;
    case FPL_P3109F:
        return f->is_signed ? all : all - 1;
    default:
        return all;
    }
}

/* value: ascending, both signs; odd: of the position. */
static void open_codebook(struct oracle *o) {
    o->count = (int64_t)fpl_format_top_code(&o->format) + 1;
    o->value = grab((size_t)o->count, sizeof *o->value);
    for (int64_t c = 0; c < o->count; c++) o->value[c] = fpl_format_value(&o->format, (uint32_t)c);
    o->has_inf = o->has_nan = 0;
    o->one_zero = 1;
}

void oracle_open(struct oracle *o, const struct fpl_format *format) {
    const struct fpl_format *f = &o->format;
    o->format = *format;
    o->has_inf = f->policy == FPL_IEEE || f->policy == FPL_P3109E;
    o->has_nan = f->policy != FPL_FINITE || f->is_scale;
    o->one_zero =
        !f->is_signed || f->policy == FPL_FNUZ || f->policy == FPL_P3109E || f->policy == FPL_P3109F;
    o->is_fp32 = f->is_signed && f->ebits == 8 && f->mbits == 23 && f->policy == FPL_IEEE && f->bias == 127 &&
                 f->subnormals;
    o->count = 0;
    o->value = NULL;
    o->odd = NULL;
    if (o->is_fp32) return;
    if (f->codebook != 0) {
        open_codebook(o);
        return;
    }

    struct fpl_format_limits limits;
    fpl_format_limits(f, &limits);
    const int64_t codes = finite_codes(f);
    o->value = grab((size_t)codes + 1, sizeof *o->value);
    o->odd = grab((size_t)codes + 1, sizeof *o->odd);
    for (int64_t c = 0; c <= codes; c++) {
        const int subnormal = f->ebits > 0 && c > 0 && c >> f->mbits == 0 && !f->is_scale;
        if (subnormal && !f->subnormals) continue;
        o->value[o->count] = code_value(f, limits.smallest, c);
        o->odd[o->count] = (unsigned char)(c & 1);
        o->count++;
    }
    o->count--; /* the last one listed is past the largest */
}

void oracle_close(struct oracle *o) {
    free(o->value);
    free(o->odd);
    o->value = NULL;
    o->odd = NULL;
}

/* Index of the largest listed value <= x, -1 if there is none (formats without a zero). */
static int64_t neighbour_below(const struct oracle *o, double x) {
    int64_t lo = -1, hi = o->count + 1; /* value[lo] <= x < value[hi] */
    while (hi - lo > 1) {
        const int64_t mid = lo + (hi - lo) / 2;
        if (o->value[mid] <= x)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

/* v as an integer count of units 2^e; v must be such a multiple. */
static unsigned __int128 in_units(double v, int e) {
    int ve;
    const double m = frexp(v, &ve);
    const uint64_t sig = (uint64_t)ldexp(m, 53);
    const int shift = ve - 53 - e;
    if (sig == 0) return 0;
    return shift >= 0 ? (unsigned __int128)sig << shift : (unsigned __int128)(sig >> -shift);
}

/* Does |x|, strictly between the neighbours a and b, go to b (1) or to a (0)? */
static int goes_up(const struct oracle *o, int rounding, int sr_bits, double x, int64_t below, int negative,
                   uint32_t random) {
    const double a = below < 0 ? 0.0 : o->value[below], b = o->value[below + 1];
    /* Units: the last place of x, or where x is 2^60 times smaller than b one coarse
     * enough for 128 bits.  Distances keep their order: x is then far below the middle. */
    int eb;
    frexp(b, &eb);
    int unit = -149;
    if (x > 0x1p-126) {
        int ex;
        frexp(x, &ex);
        unit = ex - 24;
    }
    const int far_below = eb - unit > 90;
    if (rounding == FPL_RTZ) return 0;
    if (rounding == FPL_RUP) return !negative;
    if (rounding == FPL_RDN) return negative;
    /* Without subnormals zero's neighbour counts as the next, odd code. */
    const int gap_of_ns = below == 0 && !o->format.subnormals;
    if (rounding == FPL_RTO) return gap_of_ns || o->odd[below + 1];
    if (far_below) return 0; /* x < 2^-60 b: no draw of up to 32 bits, no middle reached */
    const unsigned __int128 left = in_units(x, unit) - in_units(a, unit);
    const unsigned __int128 right = in_units(b, unit) - in_units(x, unit);
    if (rounding == FPL_SR || rounding == FPL_SRB || rounding == FPL_SRC) {
        const unsigned __int128 gap = left + right;
        const int extra = rounding == FPL_SRB; /* B works with half units of 2^-r */
        const unsigned __int128 whole = (left << (sr_bits + extra)) / gap,
                                over = (left << (sr_bits + extra)) % gap;
        uint64_t f = (uint64_t)whole, drawn = random;
        if (rounding == FPL_SRB) drawn = 2 * (uint64_t)random + 1;
        if (rounding == FPL_SRC && (2 * over > gap || (2 * over == gap && f % 2 == 1))) f++;
        return f + drawn >= (uint64_t)1 << (sr_bits + extra);
    }
    if (left != right) return left > right;
    return rounding == FPL_RNA ? 1 : !gap_of_ns && o->odd[below];
}

static float beyond(const struct oracle *o, int rounding, int overflow, int negative, int infinite) {
    const double largest = o->value[o->count - 1];
    const float sign = negative ? -1.0f : 1.0f;
    const int inward = rounding == FPL_RTZ || rounding == FPL_RTO || (rounding == FPL_RUP && negative) ||
                       (rounding == FPL_RDN && !negative);
    if (overflow == FPL_SATP && infinite) return sign * INFINITY;
    if (overflow == FPL_SAT || overflow == FPL_SATP) return sign * (float)largest;
    if (inward && !infinite) return sign * (float)largest;
    if (o->has_inf) return sign * INFINITY;
    if (o->has_nan) return NAN;
    return sign * (float)largest;
}

/* P(away) 2^r: what floor, halves up and halves to even make of f 2^r, the fraction as round.h
 * defines it for codebooks. */
static int codebook_goes_away(int rounding, int sr_bits, double x, double near, double far, uint32_t random) {
    const double f = (x - near) / (far - near), scaled = ldexp(f, sr_bits);
    const double kept = rounding == FPL_SR    ? floor(scaled)
                        : rounding == FPL_SRB ? floor(ldexp(floor(2.0 * scaled) + 1.0, -1))
                                              : rint(scaled);
    return kept >= ldexp(1.0, sr_bits) - (double)random;
}

/* By walking over all values; nearest by comparing 2 x with the sum of its neighbours, which
 * __float128 holds exactly for values within 2^80 of each other. */
static float round_to_codebook(const struct oracle *o, int rounding, int sr_bits, float x, uint32_t random) {
    const double y = (double)x;
    int64_t at = -1;
    while (at + 1 < o->count && o->value[at + 1] <= y) at++;
    if (at < 0) return (float)o->value[0];
    if (at == o->count - 1 || o->value[at] == y) return (float)o->value[at];
    const double below = o->value[at], above = o->value[at + 1];
    const __float128 twice = 2 * (__float128)y, sum = (__float128)below + (__float128)above;
    const int negative = signbit(x) != 0;
    int up = twice > sum;
    if (twice == sum) up = rounding == FPL_RNA ? !negative : at % 2 == 1;
    if (rounding == FPL_RUP) up = 1;
    if (rounding == FPL_RDN) up = 0;
    if (rounding == FPL_RTZ) up = negative;
    if (rounding == FPL_SR || rounding == FPL_SRB || rounding == FPL_SRC) {
        const int away = codebook_goes_away(rounding, sr_bits, y, negative ? above : below,
                                            negative ? below : above, random);
        up = negative ? !away : away;
    }
    return (float)(up ? above : below) + 0.0f;
}

float oracle_round(const struct oracle *o, int rounding, int sr_bits, int overflow, float x,
                   uint32_t random) {
    if (o->is_fp32 || isnan(x)) return x;
    if (o->format.codebook != 0)
        return isinf(x) && overflow == FPL_SATP ? x : round_to_codebook(o, rounding, sr_bits, x, random);
    const int negative = signbit(x) != 0;
    if (negative && !o->format.is_signed) {
        if (x == 0.0f) return (float)o->value[0];
        return overflow == FPL_OVF && o->has_nan ? NAN : (float)o->value[0];
    }
    if (isinf(x)) return beyond(o, rounding, overflow, negative, 1);
    const double magnitude = fabs((double)x);
    int64_t at = neighbour_below(o, magnitude);
    if (at < 0) return (float)o->value[0]; /* no zero: nothing lies below the smallest value */
    if (at < o->count && o->value[at] < magnitude)
        at += goes_up(o, rounding, sr_bits, magnitude, at, negative, random);
    if (at >= o->count) return beyond(o, rounding, overflow, negative, 0);
    if (o->value[at] == 0.0 && o->one_zero) return 0.0f;
    return negative ? -(float)o->value[at] : (float)o->value[at];
}
