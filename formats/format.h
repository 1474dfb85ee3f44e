/* format.h - element formats: what values a small floating-point code can take.
 *
 * A format is a sign (or none), E exponent bits, M mantissa bits, a bias, subnormals
 * or not, and a policy that says which codes are special.  The largest finite value
 * follows from the policy:
 *
 *   finite   no code is reserved                    (2 - 2^-M) 2^(2^E - 1 - bias)
 *   ieee     top exponent is Inf and NaN            (2 - 2^-M) 2^(2^E - 2 - bias)
 *   fn       only the all-ones code is NaN          the value below the all-ones code
 *   fnuz     NaN is the negative-zero code, one zero, bias one larger
 *   p3109e/f IEEE P3109 draft 4.0: bias 2^(K-P-1), NaN at the sign bit alone, no -0,
 *            e: +-Inf at the top codes, f: none
 *
 * E = 0 is `finite` only: a uniform grid of step 1, magnitudes 0 .. 2^M - 1, printed
 * as int<M+1>; mxint8 is e0m7 with step 2^-6.
 *
 * Text form (EBNF):
 *   format  = alias | [ "u" ] "e" digits "m" digits [ bias ] [ policy ] [ "ns" ] ;
 *   bias    = "b" [ "-" ] digits ;     as in e4m3b11fnuz; E = 0: the step is 2^-bias
 *   policy  = "finite" | "ieee" | "fn" | "fnuz" | "p3109e" | "p3109f" ;   default finite
 * Upper case is accepted, lower case is printed.  Unsigned formats have no fnuz, whose NaN is
 * a sign; unsigned P3109 has its NaN at the all-ones code and its Inf just below.
 * Aliases (registry fpl_format_aliases): fp32 tf32 bf16 fp16 fp8_e4m3 fp8_e5m2 fp6_e3m2
 * fp6_e2m3 fp4_e2m1 int2..int16 uint1..uint16 mxint8 ue8m0 e8m0 ue4m3fn ue5m3fn.
 *
 * What a quantizer's elements may be is more:
 *   element  = format | "nf4" | "codebook(" file ")" | "codebook(#" 16 hex digits ")" ;
 * A codebook (codebook.h) is a list of values.  A file's name is taken as it is written, and
 * has no parentheses, semicolons or control characters in it; the canonical text has the hash
 * of the content instead.
 *
 * A format is accepted only if each of its finite values is a float32 value.
 * Sources: OCP OFP8 1.0 and MX 1.0, IEEE 754-2019, IEEE P3109 draft 4.0, arXiv 2501.02423.
 */
#ifndef FPL_FORMAT_H
#define FPL_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "round.h"

#ifdef __cplusplus
extern "C" {
#endif

enum fpl_policy {
    FPL_FINITE,
    FPL_IEEE,
    FPL_FN,
    FPL_FNUZ,
    FPL_P3109E,
    FPL_P3109F,
    FPL_POLICIES /* number of policies */
};

struct fpl_format {
    uint8_t is_signed;  /* 0: the sign bit does not exist ("u" formats) */
    uint8_t ebits;      /* 0..8 */
    uint8_t mbits;      /* 0..23 (E = 0: 1..23) */
    uint8_t subnormals; /* 1 by default */
    uint8_t policy;     /* enum fpl_policy */
    uint8_t is_scale;   /* ue8m0: powers of two 2^-127..2^127, 0xFF is NaN, no zero */
    int16_t bias;       /* value = 2^(field - bias) (1 + mantissa); E = 0: step = 2^-bias */
    uint64_t codebook;  /* hash of a codebook's content, all else then 0 but is_signed; 0: none */
};

/* What a format can represent, all exact in double. */
struct fpl_format_limits {
    double largest;         /* largest finite */
    double smallest_normal; /* 0 if E = 0 */
    double smallest;        /* smallest positive value (subnormal if there are any) */
    int bits;               /* width of a code */
    int emin, emax;         /* exponents of the smallest normal and of the largest value */
    int has_inf, has_nan, has_negative_zero;
};

/* Parse a text form or alias; codebooks are refused.  Error: position and what would be accepted. */
enum fpl_code fpl_format_parse(const char *text, struct fpl_format *out, struct fpl_error *err);

/* The same, codebooks included; a file is read.  A hash whose values this process does not know
 * is accepted (records name it): fpl_codebooks_known tells. */
enum fpl_code fpl_element_parse(const char *text, struct fpl_format *out, struct fpl_error *err);

/* The canonical text; returns the length as snprintf does. Parsing it gives the same format. */
int fpl_format_print(const struct fpl_format *f, char *buf, size_t size);

/* Non-negative finite codes are 0 .. top in order of value (0 and subnormals first; without
 * subnormals the codes 1 .. 2^M - 1 are unused); value is exact in double and in float32.
 * Of a codebook code i is the i-th value from below, negative ones included. */
uint32_t fpl_format_top_code(const struct fpl_format *f);
double fpl_format_value(const struct fpl_format *f, uint32_t code);

/* Lower an element format with a rounding mode and an overflow policy (enum values of round.h). */
void fpl_round_lower(const struct fpl_format *f, int rounding, int sr_bits, int overflow,
                     struct fpl_round *out);

/* fp32, tf32, bf16 and fp16 default to ovf, all others to sat. */
int fpl_format_default_overflow(const struct fpl_format *f);

void fpl_format_limits(const struct fpl_format *f, struct fpl_format_limits *out);

/* What eXmY has without b<bias>: 2^(E-1) - 1, one more for fnuz and P3109, 0 for E = 0. */
int fpl_format_default_bias(int ebits, int policy);

int fpl_format_equal(const struct fpl_format *a, const struct fpl_format *b);

/* Registry of aliases; the last row has name NULL. Tests and `fplaw formats` iterate it. */
struct fpl_format_alias {
    const char *name;   /* what is written */
    const char *text;   /* the form eXmY that it stands for; e0m7b6: step 2^-6 */
    const char *source; /* who defines it */
    int printed;        /* 1: fpl_format_print uses the alias */
};
extern const struct fpl_format_alias fpl_format_aliases[];

extern const char *const fpl_policy_names[FPL_POLICIES + 1];
extern const char *const fpl_policy_meanings[FPL_POLICIES + 1];

#ifdef __cplusplus
}
#endif
#endif
