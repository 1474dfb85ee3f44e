/* format.c - element formats: values, limits, and lowering to the rounder.
 *
 * A non-negative finite value is a code: the exponent field above M mantissa bits.  Codes
 * grow with value, so one number, the top code, says what a policy reserves:
 *
 *   finite         2^(E+M) - 1            all codes
 *   fn, p3109e     2^(E+M) - 2            the all-ones code is NaN (fn) or Inf (p3109e)
 *   fnuz, p3109f   2^(E+M) - 1            their NaN is the code of negative zero
 *   unsigned p3109 one less each          their NaN is the all-ones code
 *   ieee           (2^E - 1) 2^M - 1      the whole top exponent is Inf and NaN
 *
 * and the largest value, the exponent range and whether a format fits float32 all follow
 * from it.  E = 0 has no exponent field: a code c is the value c 2^-bias, so that its
 * "smallest normal", 2^(M - bias), lies just above its largest value.
 */
#include "format.h"

#include "codebook.h"

#include <math.h>
#include <string.h>

/* ---- values -------------------------------------------------------------------------- */

int fpl_format_default_bias(int ebits, int policy) {
    if (ebits == 0) return 0;
    const int one_larger = policy == FPL_FNUZ || policy == FPL_P3109E || policy == FPL_P3109F;
    return (1 << (ebits - 1)) - 1 + one_larger;
}

uint32_t fpl_format_top_code(const struct fpl_format *f) {
    const uint32_t codes = (uint32_t)1 << (f->ebits + f->mbits);
    if (f->codebook != 0) {
        const struct fpl_codebook *c = fpl_codebook_find(f->codebook);
        return c != NULL ? (uint32_t)c->count - 1u : 0u;
    }
    if (f->is_scale) return 254;
    switch (f->policy) {
    case FPL_IEEE:
        return codes - ((uint32_t)1 << f->mbits) - 1;
    case FPL_FN:
        return codes - 2;
    case FPL_P3109E:
        return codes - 2 - !f->is_signed;
    case FPL_P3109F:
        return codes - 1 - !f->is_signed;
    default:
        return codes - 1;
    }
}

static double codebook_value(const struct fpl_format *f, uint32_t code) {
    const struct fpl_codebook *c = fpl_codebook_find(f->codebook);
    return c != NULL && code < (uint32_t)c->count ? (double)c->values[code] : (double)NAN;
}

double fpl_format_value(const struct fpl_format *f, uint32_t code) {
    if (f->codebook != 0) return codebook_value(f, code);
    if (f->is_scale) return ldexp(1.0, (int)code - f->bias);
    if (f->ebits == 0) return ldexp((double)code, -f->bias);
    const uint32_t one = (uint32_t)1 << f->mbits, field = code >> f->mbits, mantissa = code & (one - 1);
    if (field == 0) return ldexp((double)mantissa, 1 - f->bias - f->mbits);
    return ldexp((double)(one + mantissa), (int)field - f->bias - f->mbits);
}

/* Exponent of the smallest normal value; E = 0: of the first value that is out of range. */
static int lowest_exponent(const struct fpl_format *f) {
    if (f->is_scale) return -f->bias;
    return f->ebits == 0 ? f->mbits - f->bias : 1 - f->bias;
}

/* Magnitudes; NaN and 0 bits where the content is not known. */
static void codebook_limits(const struct fpl_format *f, struct fpl_format_limits *out) {
    const struct fpl_codebook *c = fpl_codebook_find(f->codebook);
    memset(out, 0, sizeof *out);
    out->largest = out->smallest = (double)NAN;
    if (c == NULL) return;
    out->largest = fmax(fabs((double)c->values[0]), (double)c->values[c->count - 1]);
    out->smallest = out->largest;
    for (int32_t i = 0; i < c->count; i++) {
        const double v = fabs((double)c->values[i]);
        if (v > 0.0 && v < out->smallest) out->smallest = v;
    }
    while (((int64_t)1 << out->bits) < c->count) out->bits++;
    if (out->largest == 0.0) return;
    out->emin = ilogb(out->smallest);
    out->emax = ilogb(out->largest);
}

void fpl_format_limits(const struct fpl_format *f, struct fpl_format_limits *out) {
    if (f->codebook != 0) {
        codebook_limits(f, out);
        return;
    }
    const uint32_t first_normal = (uint32_t)1 << f->mbits;
    out->largest = fpl_format_value(f, fpl_format_top_code(f));
    out->bits = f->is_signed + f->ebits + f->mbits;
    out->emin = lowest_exponent(f);
    out->emax = ilogb(out->largest);
    out->smallest_normal = f->ebits == 0 ? 0.0 : ldexp(1.0, out->emin);
    if (f->is_scale)
        out->smallest = out->smallest_normal;
    else
        out->smallest = fpl_format_value(f, f->subnormals ? 1 : first_normal);
    out->has_inf = f->policy == FPL_IEEE || f->policy == FPL_P3109E;
    out->has_nan = f->policy != FPL_FINITE;
    out->has_negative_zero =
        f->is_signed && (f->policy == FPL_FINITE || f->policy == FPL_IEEE || f->policy == FPL_FN);
}

int fpl_format_equal(const struct fpl_format *a, const struct fpl_format *b) {
    return a->is_signed == b->is_signed && a->ebits == b->ebits && a->mbits == b->mbits &&
           a->subnormals == b->subnormals && a->policy == b->policy && a->is_scale == b->is_scale &&
           a->bias == b->bias && a->codebook == b->codebook;
}

/* ---- lowering ------------------------------------------------------------------------- */

static int is_plain_ieee(const struct fpl_format *f, int ebits, int mbits) {
    return f->codebook == 0 && f->is_signed && f->ebits == ebits && f->mbits == mbits &&
           f->policy == FPL_IEEE && f->subnormals && f->bias == fpl_format_default_bias(ebits, FPL_IEEE);
}

int fpl_format_default_overflow(const struct fpl_format *f) {
    const int wide = is_plain_ieee(f, 8, 23) || is_plain_ieee(f, 8, 10) || is_plain_ieee(f, 8, 7) ||
                     is_plain_ieee(f, 5, 10);
    return wide ? FPL_OVF : FPL_SAT;
}

/* Everything is NaN where the content is not known. */
static void lower_codebook(const struct fpl_format *f, int rounding, int sr_bits, int overflow,
                           struct fpl_round *out) {
    const struct fpl_codebook *c = fpl_codebook_find(f->codebook);
    struct fpl_format_limits limits;
    fpl_format_limits(f, &limits);
    memset(out, 0, sizeof *out);
    out->mode = rounding;
    out->overflow = overflow;
    out->sr_bits = sr_bits;
    out->is_signed = out->one_zero = out->subnormals = 1;
    out->emin = limits.emin;
    out->largest = (float)limits.largest;
    out->smallest = (float)limits.smallest;
    out->codebook = f->codebook;
    if (c == NULL) return;
    out->values = c->values;
    out->count = c->count;
}

void fpl_round_lower(const struct fpl_format *f, int rounding, int sr_bits, int overflow,
                     struct fpl_round *out) {
    if (f->codebook != 0) {
        lower_codebook(f, rounding, sr_bits, overflow, out);
        return;
    }
    struct fpl_format_limits limits;
    fpl_format_limits(f, &limits);
    memset(out, 0, sizeof *out);
    /* Every float32 is a value of fp32, so no mode rounds; only `sat` would change an Inf. */
    out->identity = is_plain_ieee(f, 8, 23) && overflow != FPL_SAT;
    out->mode = rounding;
    out->overflow = overflow;
    out->sr_bits = sr_bits;
    out->mbits = f->mbits;
    out->emin = limits.emin;
    out->subnormals = f->subnormals;
    out->is_signed = f->is_signed;
    out->one_zero = f->policy == FPL_FNUZ || f->policy == FPL_P3109E || f->policy == FPL_P3109F;
    out->no_zero = f->is_scale;
    out->has_inf = limits.has_inf;
    out->has_nan = limits.has_nan;
    out->largest = (float)limits.largest;
    out->smallest = (float)limits.smallest;
}
