/* measure.h - what a quantizer did to an operand: error, underflow, clipping, size.
 *
 * Operands too large for memory, and many tensors together, are measured in parts: a struct
 * fpl_measure holds sums that add up (all bytes zero: nothing measured yet), and finishing
 * turns sums into shares and decibels.  The order of sums is fixed, so the bits depend on the
 * parts and the order of merging alone, never on threads, instruction set or backend: a part is cut
 * into pieces of FPL_MEASURE_PIECE values, the last may be shorter; value i of a piece is added, in
 * double and in increasing i, to lane i mod FPL_MEASURE_LANES, each from +0; the lanes of a piece are
 * added from lane 0 on to +0, and the pieces in order to what has been measured before.
 */
#ifndef FPL_MEASURE_H
#define FPL_MEASURE_H

#include <stdint.h>

#include "quantizer.h"

#ifdef __cplusplus
extern "C" {
#endif

struct fpl_quantizer_measure {
    int64_t elements, nonfinite; /* nonfinite counts inputs */
    double bits_per_value;       /* codes and scales; 32 for a high-precision operand */
    double
        sqnr_db; /* 10 log10(sum x^2 / sum (x - out)^2) over finite inputs; Inf: no error, NaN: no signal */
    double underflow;       /* share of the non-zero finite inputs that became 0 */
    double clipped;         /* share of the finite inputs that lie beyond the largest value after scaling */
    double amax;            /* largest finite magnitude of the input */
    double sqnr_db_per_bit; /* sqnr_db / bits_per_value */
    double relative_mean, relative_max; /* |x - out| / |x| over the non-zero finite inputs; 0 if none */
};

/* Sums over parts. */
struct fpl_measure {
    int64_t elements, finite, nonzero; /* of the inputs; nonzero: finite ones */
    int64_t underflown, clipped;
    int64_t groups, tensors;       /* scales, and second-level scales, that belong to the values */
    double signal, noise;          /* sum x^2, sum (x - out)^2 over finite inputs */
    double relative, relative_max; /* of |x - out| / |x| over non-zero finite inputs */
    float amax;
};

enum { FPL_MEASURE_LANES = 8, FPL_MEASURE_PIECE = 2048 };

/* The sums of one piece, its lanes added. */
struct fpl_measure_piece {
    double signal, noise, relative, relative_max;
    int32_t finite, nonzero, underflown;
    float amax;
};

/* Add the sums of the next piece. */
void fpl_measure_add(struct fpl_measure *m, const struct fpl_measure_piece *p);

/* Add n values and what became of them; leaves clipped, groups and tensors alone. */
void fpl_measure_values(struct fpl_measure *m, int64_t n, const float *x, const float *out);

/* How many of the finite x lie beyond the largest value after scaling by g (scale.h). */
struct fpl_group_scale;
int64_t fpl_count_clipped(const struct fpl_quantizer_plan *plan, const struct fpl_group_scale *g, int64_t n,
                          const float *x);

void fpl_measure_merge(struct fpl_measure *to, const struct fpl_measure *part);
void fpl_measure_finish(const struct fpl_measure *m, const struct fpl_quantizer *q,
                        struct fpl_quantizer_measure *out);

/* Bits of one scale of q: 32 for float32 scales, 0 where there are none. */
int fpl_quantizer_scale_bits(const struct fpl_quantizer *q);

/* Histogram of floor(log2 |x|) over non-zero finite inputs; lost: those that became 0. */
enum { FPL_EXPONENT_LEAST = -149, FPL_EXPONENT_MOST = 127, FPL_EXPONENTS = 277 };
struct fpl_exponents {
    int64_t count[FPL_EXPONENTS], lost[FPL_EXPONENTS]; /* of exponent FPL_EXPONENT_LEAST + index */
};
void fpl_exponents_add(struct fpl_exponents *e, int64_t n, const float *x, const float *out);
void fpl_exponents_merge(struct fpl_exponents *to, const struct fpl_exponents *part);

/* x and out: rows x cols, row-major; out as fpl_quantize_reference (or a backend) wrote it. */
void fpl_quantizer_measure(const struct fpl_quantizer *q, int64_t rows, int64_t cols, const float *x,
                           const float *out, struct fpl_quantizer_measure *m);

#ifdef __cplusplus
}
#endif
#endif
