/* quantize.h - a quantizer applied to a strided matrix, at this level. */
#ifndef FPL_VEC_QUANTIZE_H
#define FPL_VEC_QUANTIZE_H

#include "../cpu.h"
#include "simd.h"

/* Exactly fpl_quantize_reference (quantizer.h), which defines arguments and result; one of
 * the two strides is 1. */
int64_t FPL_VEC(quantize_matrix)(struct fpl_device *dev, const struct fpl_quantizer_plan *plan,
                                 const struct fpl_random_at *at, int64_t rows, int64_t cols,
                                 int64_t row_stride, int64_t col_stride, const float *x, float *out);

/* x[lines, width] whose reduction axis runs over the lines, as wgrad's operands lie: quantized as
 * quantize_matrix(width, lines, 1, width) does, and written with that axis as columns,
 * out[width, lines].  out is not x. */
int64_t FPL_VEC(quantize_transposing)(struct fpl_device *dev, const struct fpl_quantizer_plan *plan,
                                      const struct fpl_random_at *at, int64_t lines, int64_t width,
                                      const float *x, float *out);

#endif
