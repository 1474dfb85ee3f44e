/* cublaslt.h - products by cuBLASLt, where the library is found.
 *
 * cublaslt_library.cu finds and opens it; cublaslt.cu chooses an algorithm for each shape and runs it.
 *
 * Bits.  For a shape (M, N, K, strides, types, whether it accumulates) the algorithm is chosen once, as if
 * for one matrix: the first of cuBLASLt's list without a split reduction and fit for strided batches, under
 * one fixed workspace and under alignments that the shape alone implies.  It is kept for every number of
 * replicas, each of which is a matrix of its own to it.  So the bits of a replica depend on the shape, the
 * library's version and the GPU's model, which records name, and on nothing else.
 *
 * They are not the bits of the CPU backend: products are exact in both, but a matrix unit adds them in an
 * order and with a truncation of its own (formats.md, section 3, "fp32" accumulator).  The bound that holds
 * for any order, with sums truncated to 24 bits at least as matrix units do (arXiv 2512.07004):
 *   |result - exact| <= gamma (|old| + sum_k |a_k b_k|),  gamma = 2 (K + 2) u / (1 - 2 (K + 2) u),  u =
 * 2^-23, plus (K + 2) 2^-149 for underflow.  Rounding, scaling and random bits of the operands are the CPU's.
 */
#ifndef FPL_CUBLASLT_H
#define FPL_CUBLASLT_H

#include "cublaslt_abi.h"
#include "product.h"

struct fpl_cuda_lt; /* handle, workspace and chosen algorithms of one device */

/* The library's table of calls, opened when first asked for; NULL where there is none, `why` then says where
 * it was sought; failed: FPLAW_CUBLASLT names a file that cannot be used. */
struct fpl_lt_library {
    struct fpl_lt call;
    int found, failed;
    char path[512], why[512];
};
const struct fpl_lt_library *fpl_lt_library(void);

/* "cuBLASLt 13.1.0 (PATH)" or why not. */
void fpl_lt_about(char *buf, size_t size);

/* Sets dev->lt, to NULL where there is no library; keeps an error where FPLAW_CUBLASLT asked for one. */
void fpl_cuda_lt_open(struct fpl_device *dev);
void fpl_cuda_lt_close(struct fpl_device *dev);
/* "cublasLt-13.1.0" or "own" */
void fpl_cuda_lt_describe(const struct fpl_device *dev, char *buf, size_t size);

/* 1 if there is an algorithm for this shape and carrier; operands' addresses are not looked at. */
int fpl_cuda_lt_can(struct fpl_device *dev, const struct fpl_cuda_product *p);

/* C = (C +) A B for a shape that fpl_cuda_lt_can accepts; listed (work.h). */
void fpl_cuda_lt_multiply(struct fpl_device *dev, const struct fpl_cuda_product *p);

/* One call of the library: so many matrices of a plan. */
struct fpl_cuda_lt_call {
    int32_t plan, matrices, accumulate, padding;
    const void *a, *b; /* in the library's order: its first operand is b */
    float *c;
};
/* Into the stream; 0 keeps an error. */
int fpl_cuda_lt_issue(struct fpl_device *dev, const struct fpl_cuda_lt_call *call);

#endif
