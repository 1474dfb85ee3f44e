/* ops.h - prototypes of this level's operations; meaning in kernels.h.
 * The prototypes repeat the types of struct fpl_kernels, so a mismatch does not compile. */
#ifndef FPL_VEC_OPS_H
#define FPL_VEC_OPS_H

#include "../cpu.h"
#include "simd.h"

void FPL_VEC(embedding_forward)(struct fpl_device *dev, int R, int64_t n, int64_t C, int64_t V,
                                const int32_t *tokens, const float *table, float *out);
void FPL_VEC(embedding_backward)(struct fpl_device *dev, int R, int64_t n, int64_t C, int64_t V,
                                 const int32_t *tokens, const float *dout, float *dtable);
void FPL_VEC(rmsnorm_forward)(struct fpl_device *dev, int R, int64_t n, int64_t C, double eps, const float *x,
                              const float *delta, const float *gain, float *h, float *y, float *rstd);
void FPL_VEC(rmsnorm_backward)(struct fpl_device *dev, int R, int64_t n, int64_t C, const float *dy,
                               const float *h, const float *gain, const float *rstd, const float *dh_in,
                               float *dh, float *dgain);
void FPL_VEC(attention_forward)(struct fpl_device *dev, int R, int64_t B, int64_t T, int64_t H, int64_t D,
                                const float *cosines, const float *sines, float *qkv, float *probs, float *out,
                                const struct fpl_attention *quantized);
void FPL_VEC(attention_backward)(struct fpl_device *dev, int R, int64_t B, int64_t T, int64_t H, int64_t D,
                                 const float *cosines, const float *sines, const float *qkv,
                                 const float *probs, const float *out, const float *dout, float *dqkv,
                                 const struct fpl_attention *quantized);
int64_t FPL_VEC(attention_kept)(int64_t B, int64_t T, int64_t H, int64_t D, int quantized);
void FPL_VEC(swiglu_forward)(struct fpl_device *dev, int R, int64_t n, int64_t F, const float *gate_up, float *out);
void FPL_VEC(swiglu_backward)(struct fpl_device *dev, int R, int64_t n, int64_t F, const float *gate_up,
                              const float *dout, float *dgate_up);
void FPL_VEC(gemm)(struct fpl_device *dev, const struct fpl_gemm *g);
void FPL_VEC(clip_mask)(struct fpl_device *dev, int R, int64_t rows, int64_t cols, const struct fpl_operand *q,
                        const float *x, float *gradient);
void FPL_VEC(quantize)(struct fpl_device *dev, int R, int64_t rows, int64_t cols, const struct fpl_operand *q,
                       const float *x, float *out, int64_t *nonfinite);
void FPL_VEC(quantize_transposed)(struct fpl_device *dev, int R, int64_t rows, int64_t cols,
                                  const struct fpl_operand *q, const float *x, float *out, int64_t *nonfinite);
void FPL_VEC(cross_entropy)(struct fpl_device *dev, int R, int64_t n, int64_t V, const float *logits,
                            const int32_t *targets, double scale, double *loss, float *dlogits);
void FPL_VEC(sqnorm)(struct fpl_device *dev, int R, const struct fpl_segment *segments, int count,
                     const float *g, double *out);
void FPL_VEC(quantize_tensors)(struct fpl_device *dev, int R, const struct fpl_segment *segments, int count,
                               const struct fpl_operand *q, float *x, int64_t *nonfinite);
void FPL_VEC(diagnose)(struct fpl_device *dev, int R, int64_t lines, int64_t width, int along_lines,
                       const struct fpl_operand *q, const float *x, struct fpl_diagnosis *diagnosis);
void FPL_VEC(adamw)(struct fpl_device *dev, const struct fpl_adamw *a, const struct fpl_segment *segments,
                    int count, float *p, const float *g, float *m, float *v);

#endif
