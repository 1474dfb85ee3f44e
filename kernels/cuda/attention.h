/* attention.h - the two ways of attention.cu, chosen replica by replica.
 *
 * Fused (attention_fused.cu): no matrix [T, T] ever leaves a multiprocessor; forward keeps two numbers a
 * query, from which backward makes the probabilities again (FlashAttention, arXiv 2205.14135, 2307.08691;
 * the online maximum and sum: arXiv 1805.02867).  For heads up to FPL_FUSED_WIDTH whose replica quantizes
 * none of the twelve operands.
 *
 * Batched (attention.cu): products of whole matrices and a softmax between them, P kept.  For quantized
 * operands, whose blocks and scales see whole rows of P and dS, and for wider heads.
 *
 * FPLAW_CUDA_ATTENTION=batched in the environment sends everything the second way, for comparisons.
 */
#ifndef FPL_CUDA_ATTENTION_H
#define FPL_CUDA_ATTENTION_H

#include "device.h"

enum { FPL_FUSED_WIDTH = 64, FPL_FUSED_KEPT = 2 /* floats a query */ };

/* A range of replicas. */
struct fpl_cuda_heads {
    int64_t T, H, D;
    int64_t each;  /* heads of one replica's sequences, B H */
    int64_t count; /* heads in all */
    int64_t kept;  /* floats of `kept` from one replica to the next */
    float scale;   /* 1 / sqrt D */
    const float *cosines, *sines;
};

/* qkv: rotated already. */
void fpl_cuda_fused_forward(struct fpl_device *dev, const struct fpl_cuda_heads *heads, const float *qkv,
                            float *kept, float *out);
void fpl_cuda_fused_backward(struct fpl_device *dev, const struct fpl_cuda_heads *heads, const float *qkv,
                             const float *kept, const float *out, const float *dout, float *dqkv);

#endif
