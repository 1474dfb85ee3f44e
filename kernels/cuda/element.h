/* element.h - one element through its quantizer, in the words that all quantizing kernels share.
 *
 * What decides bits is formats/scale.h and formats/round.h; here is only which of the two rounders is
 * taken (round_fast.h gives the same bits), where random bits come from, and how non-finite inputs are
 * counted.  A launch may serve several matrices of one replica, the heads of attention: matrix z belongs
 * to replica z / heads, and its random bits begin (z mod heads) matrices further on.
 */
#ifndef FPL_CUDA_ELEMENT_H
#define FPL_CUDA_ELEMENT_H

#include "operand.h"
#include "round_fast.h"

__device__ static inline int fpl_is_finite(float x) {
    return (fpl_float_bits(x) & 0x7f800000u) != 0x7f800000u;
}

__device__ static inline uint32_t fpl_element_random(const struct fpl_cuda_operand *q,
                                                     const struct fpl_cuda_at *at, int64_t i) {
    if (!fpl_is_stochastic(q->plan.round.mode)) return 0;
    return fpl_random_bits(q->seed, at->step, at->stream, at->element + (uint64_t)i, q->plan.round.sr_bits);
}

/* fpl_quantize_element and the post-rounding, with the fast rounder where it is the same. */
__device__ static inline float fpl_element_quantized(const struct fpl_quantizer_plan *p,
                                                     const struct fpl_group_scale *g, int fast, float x,
                                                     uint32_t random) {
    float out;
    if (fast && fpl_is_finite(x)) {
        out = fpl_round_fast(&p->round, fpl_scaled(g, x), random) * g->dequant * g->dequant_2;
        if (!fpl_is_finite(out)) out = out < 0.0f ? -FPL_FLOAT_MAX : FPL_FLOAT_MAX;
    } else {
        out = fpl_quantize_element(p, g, x, random);
    }
    return fpl_round_value(&p->post, out, 0);
}

/* The plan as this call uses it: delayed scaling takes its amax from the operand's state. */
__device__ static inline struct fpl_quantizer_plan fpl_plan_now(const struct fpl_cuda_operand *q) {
    struct fpl_quantizer_plan p = q->plan;
    if (p.history > 0 && q->delay != NULL) p.delayed_amax = q->delay[1];
    return p;
}

/* The replica of matrix z; `at` moves to the matrix's first element. */
__device__ static inline int64_t fpl_replica_of(int64_t heads, int64_t size, int64_t z,
                                                struct fpl_cuda_at *at) {
    at->element += (uint64_t)(z % heads * size);
    return z / heads;
}

/* Every lane of every warp gets here. */
__device__ static inline void fpl_count_nonfinite(int64_t *nonfinite, int64_t r, int bad) {
    for (int by = FPL_WARP / 2; by > 0; by /= 2) bad += __shfl_xor_sync(FPL_ALL_LANES, bad, by);
    if (bad != 0 && nonfinite != NULL && (threadIdx.x + threadIdx.y * blockDim.x) % FPL_WARP == 0)
        atomicAdd((unsigned long long *)&nonfinite[r], (unsigned long long)bad);
}

#endif
