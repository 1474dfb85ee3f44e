/* operations.h - the CUDA backend's entries of struct fpl_kernels, one declaration each.
 *
 * Signatures, shapes and meaning are those of kernels.h; the file that defines an entry says in
 * which order it adds.
 */
#ifndef FPL_CUDA_OPERATIONS_H
#define FPL_CUDA_OPERATIONS_H

#include "device.h"

/* Lets a kernel take `bytes` of dynamic shared memory; 0 keeps an error that names the kernel. */
template <typename F>
static inline int fpl_cuda_shared(struct fpl_device *dev, F *kernel, size_t bytes, const char *name) {
    if (bytes <= 48 * 1024) return 1;
    return fpl_cuda_ok(
        dev, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes), name);
}

void fpl_cuda_embedding_forward(struct fpl_device *dev, int R, int64_t n, int64_t C, int64_t V,
                                const int32_t *tokens, const float *table, float *out);
void fpl_cuda_embedding_backward(struct fpl_device *dev, int R, int64_t n, int64_t C, int64_t V,
                                 const int32_t *tokens, const float *dout, float *dtable);
void fpl_cuda_rmsnorm_forward(struct fpl_device *dev, int R, int64_t n, int64_t C, double eps, const float *x,
                              const float *delta, const float *gain, float *h, float *y, float *rstd);
void fpl_cuda_rmsnorm_backward(struct fpl_device *dev, int R, int64_t n, int64_t C, const float *dy,
                               const float *h, const float *gain, const float *rstd, const float *dh_in,
                               float *dh, float *dgain);
void fpl_cuda_swiglu_forward(struct fpl_device *dev, int R, int64_t n, int64_t F, const float *gate_up,
                             float *out);
void fpl_cuda_swiglu_backward(struct fpl_device *dev, int R, int64_t n, int64_t F, const float *gate_up,
                              const float *dout, float *dgate_up);
void fpl_cuda_cross_entropy(struct fpl_device *dev, int R, int64_t n, int64_t V, const float *logits,
                            const int32_t *targets, double scale, double *loss, float *dlogits);
void fpl_cuda_sqnorm(struct fpl_device *dev, int R, const struct fpl_segment *segments, int count,
                     const float *g, double *out);
void fpl_cuda_adamw(struct fpl_device *dev, const struct fpl_adamw *a, const struct fpl_segment *segments,
                    int count, float *p, const float *g, float *m, float *v);

void fpl_cuda_quantize_tensors(struct fpl_device *dev, int R, const struct fpl_segment *segments, int count,
                               const struct fpl_operand *q, float *x, int64_t *nonfinite);
int64_t fpl_cuda_attention_kept(int64_t B, int64_t T, int64_t H, int64_t D, int quantized);
void fpl_cuda_attention_forward(struct fpl_device *dev, int R, int64_t B, int64_t T, int64_t H, int64_t D,
                                const float *cosines, const float *sines, float *qkv, float *kept, float *out,
                                const struct fpl_attention *quantized);
void fpl_cuda_attention_backward(struct fpl_device *dev, int R, int64_t B, int64_t T, int64_t H, int64_t D,
                                 const float *cosines, const float *sines, const float *qkv,
                                 const float *kept, const float *out, const float *dout, float *dqkv,
                                 const struct fpl_attention *quantized);
void fpl_cuda_clip_mask(struct fpl_device *dev, int R, int64_t rows, int64_t cols,
                        const struct fpl_operand *q, const float *x, float *gradient);
void fpl_cuda_diagnose(struct fpl_device *dev, int R, int64_t lines, int64_t width, int along_lines,
                       const struct fpl_operand *q, const float *x, struct fpl_diagnosis *diagnosis);
void fpl_cuda_gemm(struct fpl_device *dev, const struct fpl_gemm *g);
void fpl_cuda_quantize(struct fpl_device *dev, int R, int64_t rows, int64_t cols, const struct fpl_operand *q,
                       const float *x, float *out, int64_t *nonfinite);
void fpl_cuda_quantize_transposed(struct fpl_device *dev, int R, int64_t rows, int64_t cols,
                                  const struct fpl_operand *q, const float *x, float *out,
                                  int64_t *nonfinite);
void fpl_cuda_quantize_both(struct fpl_device *dev, int R, int64_t rows, int64_t cols,
                            const struct fpl_operand *within, const struct fpl_operand *along, const float *x,
                            float *out, float *turned, int64_t *nonfinite);
void fpl_cuda_delay(struct fpl_device *dev, const struct fpl_delay *states, int count, int64_t step,
                    float *buffer);

void fpl_cuda_copy(struct fpl_device *dev, void *to, const void *from, size_t bytes);
int fpl_cuda_vendor_product(struct fpl_device *dev, int bf16, int64_t M, int64_t N, int64_t K, const void *a,
                            const void *b, float *out);

/* Raises the state of delayed scaling of each operand that observes; amax: device [R, heads], bits of
 * float32. */
void fpl_cuda_observe(struct fpl_device *dev, int R, int heads, const struct fpl_operand *q,
                      const unsigned *amax);

#endif
