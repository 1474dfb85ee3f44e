/* gemm.h - between gemm.cu, which prepares operands, and accumulate.cu, which sums them its own way. */
#ifndef FPL_CUDA_GEMM_H
#define FPL_CUDA_GEMM_H

#include "operand.h"
#include "product.h"

/* An operand as it lies in memory, [R, lines, width]; along_lines: the reduction axis runs over lines. */
struct fpl_cuda_source {
    const float *x;
    int64_t lines, width;
    int along_lines;
    const struct fpl_operand *q; /* host [R] */
    int64_t *nonfinite;          /* device [R] or NULL */
};

/* Bit c of fpl_device.products: carrier c by cuBLASLt.  Beyond the carriers: own kernels. */
enum { FPL_BY_OWN_FP32 = FPL_CARRIERS, FPL_BY_EMULATION };
/* " forward=bf16 dgrad=fp32+own wgrad=bf16": what has been used so far; "" before the first product. */
void fpl_cuda_gemm_describe(const struct fpl_device *dev, char *buf, size_t size);

struct fpl_cuda_source fpl_cuda_gemm_a(const struct fpl_gemm *g);
struct fpl_cuda_source fpl_cuda_gemm_b(const struct fpl_gemm *g);
struct fpl_cuda_product fpl_cuda_gemm_product(const struct fpl_gemm *g);
struct fpl_cuda_view fpl_cuda_source_view(const struct fpl_cuda_source *s); /* as its quantizer sees it */

/* x after its Hadamard transform: x itself where no replica has one, else `room`, of x's size. */
const float *fpl_cuda_transformed(struct fpl_device *dev, int R, const struct fpl_cuda_source *s,
                                  float *room);

/* Products under emulated accumulators, operands ready; every replica's own, none of them block:S. */
void fpl_cuda_accumulate(struct fpl_device *dev, const struct fpl_gemm *g, const struct fpl_cuda_product *p);
/* block:S for all replicas, from the operands' values. */
void fpl_cuda_accumulate_blocks(struct fpl_device *dev, const struct fpl_gemm *g);

#endif
