/* measure.h - what a quantizer did to an operand: error, underflow, clipping, size.
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
    double underflow; /* share of the non-zero finite inputs that became 0 */
    double clipped;   /* share of the finite inputs that lie beyond the largest value after scaling */
    double amax;      /* largest finite magnitude of the input */
};

/* x and out: rows x cols, row-major; out as fpl_quantize_reference (or a backend) wrote it. */
void fpl_quantizer_measure(const struct fpl_quantizer *q, int64_t rows, int64_t cols, const float *x,
                           const float *out, struct fpl_quantizer_measure *m);

#ifdef __cplusplus
}
#endif
#endif
