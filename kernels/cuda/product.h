/* product.h - batches of matrix products in float32, as gemm.cu and attention.cu ask for them.
 *
 *   C[M, N] = (C +) A B,   A(i, k) = a[i a_row + k a_col],   B(k, j) = b[k b_row + j b_col]
 *
 * for `batch` matrices: number z takes its operands at (z / inner) outer + (z mod inner) inner strides,
 * which says a pack (inner 1) and the heads of a pack (inner H) alike.
 *
 * By cuBLASLt (cublaslt.h) from carriers, or by own kernels (product.cu): each element of C is one chain of
 * fused multiply-adds in increasing k from +0, or from the old value, as in the CPU backend: the same bits,
 * whatever the tiles are.
 */
#ifndef FPL_CUDA_PRODUCT_H
#define FPL_CUDA_PRODUCT_H

#include "carrier.h"
#include "device.h"

/* What is known of a triangular operand or result; the chain passes over what is zero by meaning. */
enum fpl_cuda_triangle {
    FPL_WHOLE,
    FPL_LOWER_RESULT, /* C(i, j) is asked for where j <= i only; the rest of C holds anything */
    FPL_LOWER_A,      /* A(i, k) = 0 for k > i */
    FPL_UPPER_A       /* A(i, k) = 0 for k < i */
};

struct fpl_cuda_matrices {
    int64_t row, col, outer, inner; /* strides */
};

struct fpl_cuda_product {
    int64_t M, N, K, batch, inner;
    const float *a, *b; /* or elements of `carrier` */
    float *c;
    struct fpl_cuda_matrices a_at, b_at, c_at; /* c_at.col is 1 */
    int accumulate;
    enum fpl_cuda_triangle triangle;
    /* device [batch] each: only matrices whose flag is raised in one of them; both NULL: all.  Own kernels.
     */
    const int32_t *only[2];
    enum fpl_cuda_carrier carrier; /* of a and b; own kernels take fp32 */
    int64_t align; /* a power of two that divides all strides and sizes of the layer, for cublaslt.h */
};

/* By own kernels; cublaslt.h has the other way. */
void fpl_cuda_multiply(struct fpl_device *dev, const struct fpl_cuda_product *p);

static inline int64_t fpl_cuda_smaller(int64_t a, int64_t b) { return a < b ? a : b; }

#if defined(__CUDACC__) || FPL_HOST_EXECUTION
__host__ __device__ static inline int64_t fpl_matrix_at(const struct fpl_cuda_matrices *m, int64_t inner,
                                                        int64_t z) {
    return z / inner * m->outer + z % inner * m->inner;
}
#endif

#endif
