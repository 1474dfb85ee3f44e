/* carried.h - quantized operands on their way through a product, as carriers (carrier.h).
 *
 * How an operand travels in a carrier follows from its plan (carrier.cu):
 *   WHOLE     every value is one of the carrier's numbers
 *   CHECKED   a power-of-two scale per block, folded into the values: all are the carrier's numbers while the
 * scale lies in [low, high], which it leaves only for blocks at the ends of float32's range.  The quantizer
 *             raises a flag of the replica where it does; carried.cu then makes that replica's product once
 *             more, by own kernels from float32.  So the values are exact for all data, and what is decided
 * by data is decided by the replica's own, in every pack alike RAW       one scale per tensor or per row,
 * constant along the reduction: elements travel without it TENSOR    two-level scales: elements times their
 * block's scale travel, the tensor's factor stays behind Factors that stayed behind multiply the finished
 * sums: c = (c +) fl(sum fl(f_a f_b)).  An operand's value is fl(q s) by definition; left behind, that one
 * rounding falls away, and where q s itself underflows or is clamped to FLT_MAX the product sees q s.  The
 * bound of cublaslt.h covers the former; the latter adds 2^-149 times the other operand to a sum.
 */
#ifndef FPL_CUDA_CARRIED_H
#define FPL_CUDA_CARRIED_H

#include "gemm.h"

enum fpl_cuda_passage {
    FPL_PASSAGE_NONE,
    FPL_PASSAGE_WHOLE,
    FPL_PASSAGE_CHECKED,
    FPL_PASSAGE_RAW,
    FPL_PASSAGE_TENSOR
};

/* How the plan's values travel in a carrier; *low, *high: of CHECKED. */
extern "C" enum fpl_cuda_passage fpl_cuda_passage_of(const struct fpl_quantizer_plan *plan,
                                                     enum fpl_cuda_carrier carrier, float *low, float *high);

/* One operand of a product, ready. */
struct fpl_cuda_carried_operand {
    const void *values; /* elements of the carrier */
    const float
        *factor; /* device: what stayed behind, [R] or, per_row, [R, rows of the result]; NULL: nothing */
    int per_row;
    const int32_t *misfit; /* device [R]: flags of CHECKED; NULL: none */
};

/* p: shapes and strides, carrier; out of g.  Multiplies, repeats flagged replicas in float32, puts factors
 * in. */
void fpl_cuda_multiply_carried(struct fpl_device *dev, const struct fpl_gemm *g, struct fpl_cuda_product *p,
                               const struct fpl_cuda_carried_operand *a,
                               const struct fpl_cuda_carried_operand *b);

/* factor[z] of tensors whose amax bits are `tensor` (NULL: none are needed): what RAW or TENSOR leaves
 * behind. */
void fpl_cuda_tensor_factors(struct fpl_device *dev, int R, const struct fpl_cuda_operand *operands,
                             const unsigned *tensor, float *factor);
/* factor[R, rows] of RAW operands with a scale per row. */
void fpl_cuda_row_factors(struct fpl_device *dev, int R, const struct fpl_cuda_view *view,
                          const struct fpl_operand *q, const float *x, float *factor);

#endif
