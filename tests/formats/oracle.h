/* oracle.h - exact rounding and exact quantizers, written apart from the program.
 *
 * An independent reading of the specification (formats.md, sections 1 and 2) to test
 * formats/ against.  It shares no code with formats/round.h or formats/quantizer.c beyond
 * the structs, the enums and the random bits, and it works another way:
 *
 *   formats/round.h drops bits of a significand; the oracle lists the value of every code
 *   of the format in code order, finds the two neighbours of x by bisection and compares
 *   distances as integers.  Parity is the parity of the code.  The list goes one code past
 *   the largest finite value: that code is what "as if the exponent were unbounded" means.
 *
 *   formats/quantizer.c computes in float32; the oracle computes each fl(.) of the text in
 *   double and rounds once to float32.  A quotient or product of float32 numbers rounded to
 *   double first gives the same float32 as one rounding: products have 48 bits, and a
 *   quotient of 24-bit numbers cannot lie within 2^-50 of a float32 midpoint without being
 *   that midpoint.
 *
 * Tests only: slow, not thread-safe in its tables' construction, aborts without memory.
 */
#ifndef FPL_TEST_ORACLE_H
#define FPL_TEST_ORACLE_H

#include <stdint.h>

#include "../../formats/quantizer.h"

/* The value set of one format: what its codes mean. */
struct oracle {
    struct fpl_format format;
    int64_t count;      /* values of codes 0 .. count-1, finite, ascending, non-negative */
    double *value;      /* [count + 1]; the last is the first value past the largest */
    unsigned char *odd; /* [count + 1] parity of each code */
    int one_zero;       /* -0 does not exist */
    int has_inf, has_nan;
    int is_fp32; /* the identity */
};

void oracle_open(struct oracle *o, const struct fpl_format *format);
void oracle_close(struct oracle *o);

/* One correct rounding of x; `random` holds sr_bits random bits, used by stochastic modes only. */
float oracle_round(const struct oracle *o, int rounding, int sr_bits, int overflow, float x, uint32_t random);

/* A quantizer as written in quantizer.h, for the granularities and scale rules that have a
 * value in section 2.  Same arguments as fpl_quantize_reference; scales may be NULL;
 * post may be NULL (then no second rounding); delayed: amax of earlier steps, 0: none known. */
int64_t oracle_quantize(const struct fpl_quantizer *q, const struct fpl_format *post, double delayed,
                        int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride, const float *x,
                        float *out, float *scales, const struct fpl_random_at *at);

#endif
