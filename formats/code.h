/* code.h - the bits of a value: element codes as hardware and files hold them.
 *
 * A code has as many bits as fpl_format_limits says:
 *   E >= 1   [sign] exponent mantissa, from the top bit down; specials as the policy says:
 *            ieee Inf is the top exponent with mantissa 0, NaN with the mantissa's top bit;
 *            fn NaN is all ones; fnuz and P3109 NaN is the sign bit alone, P3109 e has Inf just
 *            above the largest, an unsigned one's NaN is all ones
 *   E = 0    signed: two's complement, as OCP MXINT8 (its least code is not used);
 *            unsigned: the magnitude
 *   ue8m0    the exponent plus 127, NaN 0xff
 *   codebook the index of the value, from the least on
 * -0 has a code of its own where the format has it, and is 0 where it has not (integers).
 */
#ifndef FPL_CODE_H
#define FPL_CODE_H

#include <stdint.h>

#include "format.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A format lowered for encoding: plain data. */
struct fpl_coder {
    int32_t bits, ebits, mbits, emin, bias, is_signed, is_scale;
    uint32_t sign;                   /* the sign bit, 0 if there is none */
    uint32_t infinity, nan;          /* codes; UINT32_MAX if there is none */
    uint32_t top;                    /* of non-negative finite values */
    int32_t negative_zero, integers; /* integers: two's complement */
    double unit;                     /* 2^(mbits - emin): a subnormal in units of its own code */
    const float *values;             /* codebook: top + 1 values in increasing order; else NULL */
};

void fpl_coder_lower(const struct fpl_format *f, struct fpl_coder *out);

/* The code of a value that the format has; UINT32_MAX for one that it has not. */
uint32_t fpl_encode(const struct fpl_coder *c, float value);

/* The value of a code (bits beyond the width ignored); NaN for NaN codes and, without
 * subnormals, for codes that the format does not use. */
float fpl_decode(const struct fpl_format *f, uint32_t code);

#ifdef __cplusplus
}
#endif
#endif
