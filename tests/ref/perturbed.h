/* perturbed.h - a kernel table in double that errs as a float32 implementation may.
 *
 * Every result of every operation is its exact double value plus or minus, by a random sign,
 * the largest error that a float32 implementation can make in that one operation on those
 * inputs: running error analysis (struct bounded, harness.h) with |d| <= 2^-24 for each
 * rounding, sums in any order, exp within one ulp.
 *
 * What it is for.  To first order the error of a float32 gradient is sum_i J_i d_i over all
 * roundings, with |d_i| <= b_i, the bounds that are injected here; a run on this table has
 * sum_i +-J_i b_i, whose variance is V = sum_i J_i^2 b_i^2.  For independent errors of mean
 * zero Hoeffding's inequality gives P(|error| > t sqrt V) <= 2 exp(-t^2/2), below 3e-14 for
 * t = 8 (the reasoning of Higham and Mary, SIAM J. Sci. Comput. 41, 2019).  So the spread of
 * a few runs on this table, times t, bounds what a correct float32 model may deviate.
 * Propagating the bounds themselves through the model is rigorous without an assumption on
 * signs, and useless: each layer multiplies them tenfold, to 1e7 u after two blocks.
 *
 * Serves identity operands only; optimizer and standalone quantizer are not in this table.
 */
#ifndef FPL_TEST_PERTURBED_H
#define FPL_TEST_PERTURBED_H

#include "../../kernels/kernels.h"

extern const struct fpl_kernels perturbed_kernels;

#endif
