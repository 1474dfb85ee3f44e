/* diagnose.h - what a quantizer makes of a matrix, at this level. */
#ifndef FPL_VEC_DIAGNOSE_H
#define FPL_VEC_DIAGNOSE_H

#include "../cpu.h"
#include "simd.h"

/* Adds to d what the plan makes of x[lines, width] (kernels.h, struct fpl_diagnosis); x stays. */
void FPL_VEC(diagnose_matrix)(struct fpl_device *dev, const struct fpl_quantizer_plan *plan,
                              const struct fpl_random_at *at, int64_t lines, int64_t width, int along_lines,
                              const float *x, struct fpl_diagnosis *d);

#endif
