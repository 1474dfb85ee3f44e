/* hadamard.h - the random Hadamard transform of a matrix, at this level. */
#ifndef FPL_VEC_HADAMARD_H
#define FPL_VEC_HADAMARD_H

#include "../cpu.h"
#include "simd.h"

/* x as `lines` of `width` floats -> out of the same layout (may be x), n = 16 or 32:
 * exactly fpl_hadamard (formats/hadamard.h) on every whole group of n, over lines where
 * along_lines is set, else within them; what is left at the end is copied. */
void FPL_VEC(hadamard)(struct fpl_device *dev, int n, int64_t lines, int64_t width, int along_lines,
                       const float *x, float *out);

#endif
