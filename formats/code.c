/* code.c - value to code and back (code.h).
 *
 * Encoding takes the exponent field and the mantissa from the float's bits, so it costs a few
 * instructions; the value must be one of the format's, which is checked by the bits that must
 * be zero.  Decoding goes through fpl_format_value, which is written the other way round:
 * each is a witness for the other.
 */
#include "code.h"

#include <math.h>

#include "codebook.h"
#include "round.h"

void fpl_coder_lower(const struct fpl_format *f, struct fpl_coder *out) {
    struct fpl_format_limits limits;
    fpl_format_limits(f, &limits);
    *out = (struct fpl_coder){.bits = limits.bits,
                              .ebits = f->ebits,
                              .mbits = f->mbits,
                              .bias = f->bias,
                              .is_signed = f->is_signed,
                              .is_scale = f->is_scale,
                              .infinity = UINT32_MAX,
                              .nan = UINT32_MAX,
                              .negative_zero = limits.has_negative_zero && f->ebits > 0,
                              .integers = f->ebits == 0,
                              .top = fpl_format_top_code(f)};
    /* Exponent of the smallest normal (integers: of the power of two above the largest). */
    out->emin = f->ebits == 0 ? f->mbits - f->bias : limits.emin;
    out->unit = ldexp(1.0, out->mbits - out->emin);
    if (f->codebook != 0) {
        const struct fpl_codebook *book = fpl_codebook_find(f->codebook);
        out->values = book != NULL ? book->values : NULL;
        out->integers = out->negative_zero = out->is_signed = 0;
        return;
    }
    if (f->is_signed) out->sign = 1u << (limits.bits - 1);
    const uint32_t magnitudes = (uint32_t)(((uint64_t)1 << (limits.bits - f->is_signed)) - 1u);
    switch (f->is_scale ? FPL_FN : f->policy) {
    case FPL_IEEE:
        out->infinity = magnitudes - ((1u << f->mbits) - 1u);
        out->nan = f->mbits > 0 ? out->infinity | 1u << (f->mbits - 1) : UINT32_MAX;
        break;
    case FPL_FN:
        out->nan = magnitudes;
        break;
    case FPL_P3109E:
        out->infinity = out->top + 1;
        out->nan = f->is_signed ? out->sign : magnitudes;
        break;
    case FPL_FNUZ:
    case FPL_P3109F:
        out->nan = f->is_signed ? out->sign : magnitudes;
        break;
    default:
        break;
    }
}

/* Magnitude code of a finite |value|; UINT32_MAX where there is none. */
static uint32_t encode_magnitude(const struct fpl_coder *c, uint32_t a) {
    const int e = a >= 0x00800000u ? (int)(a >> 23) - 127 : a == 0 ? -150 : fpl_exponent(fpl_bits_float(a));
    /* A float32 subnormal may be a normal value here (bias 128): its leading one goes, too. */
    const uint32_t fraction = (a >= 0x00800000u || a == 0 ? a : a << (-126 - e)) & 0x7fffffu;
    uint32_t code;
    if (c->is_scale) {
        if (a == 0x00400000u) return 0; /* 2^-127 is a subnormal float32 */
        return a << 9 == 0 && a != 0 ? (uint32_t)(e + 127) : UINT32_MAX;
    }
    if (e < c->emin) {
        const double units = (double)fpl_bits_float(a) * c->unit;
        code = units < 0x1p24 ? (uint32_t)units : UINT32_MAX;
        return (double)code == units && code <= c->top ? code : UINT32_MAX;
    }
    if (c->integers || (fraction & ((1u << (23 - c->mbits)) - 1u)) != 0) return UINT32_MAX;
    code = (uint32_t)(e + c->bias) << c->mbits | fraction >> (23 - c->mbits);
    return code <= c->top ? code : UINT32_MAX;
}

static uint32_t encode_index(const struct fpl_coder *c, float value) {
    uint32_t low = 0, high = c->top;
    while (low < high) {
        const uint32_t middle = (low + high) / 2;
        if (c->values[middle] < value)
            low = middle + 1;
        else
            high = middle;
    }
    return c->values[low] >= value && c->values[low] <= value ? low : UINT32_MAX;
}

uint32_t fpl_encode(const struct fpl_coder *c, float value) {
    if (c->values != NULL) return encode_index(c, value);
    const uint32_t bits = fpl_float_bits(value), a = bits & 0x7fffffffu;
    const int negative = bits >> 31 != 0;
    if (a > 0x7f800000u) return c->nan;
    if (negative && a != 0 && !c->is_signed) return UINT32_MAX;
    const uint32_t magnitude = a == 0x7f800000u ? c->infinity : encode_magnitude(c, a);
    if (magnitude == UINT32_MAX || !negative) return magnitude;
    if (magnitude == 0) return c->negative_zero ? c->sign : 0;
    return c->integers ? (c->sign << 1) - magnitude : c->sign | magnitude;
}

float fpl_decode(const struct fpl_format *f, uint32_t code) {
    struct fpl_coder c;
    fpl_coder_lower(f, &c);
    if (f->codebook != 0) return code <= c.top ? (float)fpl_format_value(f, code) : NAN;
    code &= (uint32_t)(((uint64_t)1 << c.bits) - 1u);
    if (code == c.nan) return NAN;
    uint32_t magnitude = code & ~c.sign;
    const int negative = (code & c.sign) != 0;
    if (c.integers && negative) magnitude = (c.sign << 1) - code;
    if (magnitude == c.infinity) return negative ? -INFINITY : INFINITY;
    if (magnitude > c.top ||
        (!f->subnormals && !c.integers && !c.is_scale && magnitude != 0 && magnitude < 1u << f->mbits))
        return NAN;
    const float value = (float)fpl_format_value(f, magnitude);
    return negative ? -value : value;
}
