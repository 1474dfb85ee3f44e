/* quantize.h - inside of the quantizing kernels: what they share, and the ways of quantize.cu.
 *
 * An element takes the short way (round_quick.h) or the long one (fpl_quantize_element); a quad, four
 * neighbours in memory, decides for all four by its largest magnitude, so that infinities and NaN, which
 * are met nowhere else, cost nothing.
 *
 * Random bits.  A Philox block serves eight neighbouring elements, two quads: lanes that hold the two make
 * one block each for two pairs of quads and exchange halves.  Where the first element is no multiple of
 * eight, all go the long way.
 */
#ifndef FPL_CUDA_QUANTIZE_H
#define FPL_CUDA_QUANTIZE_H

#include "element.h"
#include "reduce.h"

/* One launch's worth: replicas that go the same way. */
struct fpl_cuda_job {
    struct fpl_device *dev;
    int R;
    int64_t matrices; /* R times heads */
    const struct fpl_operand *q;
    struct fpl_cuda_view view; /* of memory: col_stride 1, once a way has been chosen */
    const struct fpl_cuda_operand *operands;
    struct fpl_cuda_at at;
    const unsigned *tensor; /* amax bits of each matrix, NULL: not asked for */
    const float *x;
    void *out;
    enum fpl_cuda_carrier carrier;
    float *factor; /* what stays behind goes there (carried.h); NULL: nothing does */
    int64_t *nonfinite;
};

/* ---- the ways; each takes shapes that it says it can ----------------------------------------------- */

/* quantize_runs.cu: groups of `height` lines by `width` elements of the contiguous axis, read once. */
int fpl_cuda_can_hold(const struct fpl_cuda_job *j, int64_t height, int64_t width);
void fpl_cuda_quantize_held(const struct fpl_cuda_job *j, int64_t height, int64_t width);

/* quantize_flat.cu: one scale for a whole matrix, or none. */
void fpl_cuda_quantize_flat(const struct fpl_cuda_job *j);

/* quantize_down.cu: groups one element wide across the contiguous axis, `height` lines tall.  transposed: the
 * result is written with the reduction axis contiguous, [matrices, view.rows, view.cols]. */
void fpl_cuda_quantize_down(const struct fpl_cuda_job *j, int64_t height, int transposed);
/* One read of x for the two copies that a backward pass needs of dy: `within`, groups of 16 or 32 along lines
 * or one scale for all, and `down`, written transposed; both float32, views as their reductions have it. */
int fpl_cuda_can_pair(const struct fpl_cuda_job *within, const struct fpl_cuda_job *down);
void fpl_cuda_pair(const struct fpl_cuda_job *within, const struct fpl_cuda_job *down);
/* Groups of a job's plan; 1 x 0 where one scale, or none, serves a whole matrix. */
void fpl_cuda_group_of(const struct fpl_cuda_job *j, int64_t *rows, int64_t *cols);

#if defined(__CUDACC__) || FPL_HOST_EXECUTION

/* What a thread knows of its operand. */
struct fpl_quantizing {
    const struct fpl_cuda_operand *operand;
    struct fpl_quick quick;
    struct fpl_cuda_at at;
    uint64_t seed;
    float s_enc;   /* of two-level scales */
    float delayed; /* amax of delayed scaling; 0: the group's own */
    int fast;      /* the long way may use round_fast.h */
    int bad;       /* non-finite inputs met */
};

/* Matrix z; tensor: amax bits or NULL. */
__device__ static inline struct fpl_quantizing fpl_quantizing_of(const struct fpl_cuda_operand *operands,
                                                                 int64_t heads, int64_t size, int64_t z,
                                                                 struct fpl_cuda_at at,
                                                                 const unsigned *tensor) {
    struct fpl_quantizing t;
    const int64_t r = heads == 1 ? z : fpl_replica_of(heads, size, z, &at);
    t.operand = operands + r;
    t.quick = t.operand->quick;
    t.at = at;
    t.seed = t.operand->seed;
    t.s_enc = tensor != NULL ? fpl_tensor_scale(&t.operand->plan, __uint_as_float(tensor[z])) : 1.0f;
    t.delayed = t.operand->plan.history > 0 && t.operand->delay != NULL ? t.operand->delay[1] : 0.0f;
    /* Neighbouring quads share a block of random bits only where they start at a multiple of eight. */
    if (t.quick.random_bits != 0 && at.element % 8 != 0) t.quick.kind = FPL_QUICK_NONE;
    t.fast = fpl_round_is_fast(&t.operand->plan.round);
    t.bad = 0;
    return t;
}

__device__ static inline struct fpl_quick_scale fpl_scale_of_group(const struct fpl_quantizing *t,
                                                                   float amax) {
    const struct fpl_cuda_carriage *c = &t->operand->carriage;
    struct fpl_group_scale g =
        fpl_group_scale(&t->operand->plan, t->delayed > 0.0f ? t->delayed : amax, t->s_enc);
    if (c->misfit != NULL && !(g.dequant >= c->low && g.dequant <= c->high)) *c->misfit = 1;
    if (c->tensor) g.dequant_2 = 1.0f;
    return fpl_quick_scale_of(&t->quick, &g);
}

__device__ static inline uint32_t fpl_larger(uint32_t a, uint32_t b) { return a > b ? a : b; }

/* Bits of the largest magnitude of a quad; *most gets them with infinities and NaN counted as such. */
__device__ static inline uint32_t fpl_quad_amax(const float v[4], uint32_t *most) {
    uint32_t m = 0;
    FPL_UNROLL
    for (int k = 0; k < 4; k++) m = fpl_larger(m, fpl_float_bits(v[k]) & 0x7fffffffu);
    *most = m;
    if (m < 0x7f800000u) return m;
    m = 0;
    FPL_UNROLL
    for (int k = 0; k < 4; k++) m = fpl_larger(m, fpl_float_bits(fpl_finite_magnitude(v[k])));
    return m;
}

/* ---- random bits -----------------------------------------------------------------------------------------
 */

/* The two words that hold the random halves of the quad at element i, a multiple of 4. */
__device__ static inline uint2 fpl_quad_words(const struct fpl_quantizing *t, uint64_t i) {
    uint32_t w[4];
    const uint64_t at = t->at.element + i;
    fpl_random_block(t->seed, at / 8, t->at.step, t->at.stream, w);
    return at & 4u ? make_uint2(w[2], w[3]) : make_uint2(w[0], w[1]);
}

/* Words for quads at i and j of this lane, whose blocks the lane `lane ^ 1` shares: it holds the other quads.
 * Every lane of the warp gets here. */
__device__ static inline void fpl_pair_words(const struct fpl_quantizing *t, uint64_t i, uint64_t j,
                                             uint2 words[2]) {
    const int odd = (int)(i >> 2 & 1u);
    uint32_t w[4];
    fpl_random_block(t->seed, (t->at.element + (odd ? j : i)) / 8, t->at.step, t->at.stream, w);
    /* An even lane made i's block and keeps its first half; an odd one j's, and keeps the second. */
    const uint32_t x = __shfl_xor_sync(FPL_ALL_LANES, odd ? w[0] : w[2], 1);
    const uint32_t y = __shfl_xor_sync(FPL_ALL_LANES, odd ? w[1] : w[3], 1);
    words[0] = odd ? make_uint2(x, y) : make_uint2(w[0], w[1]);
    words[1] = odd ? make_uint2(w[2], w[3]) : make_uint2(x, y);
}

/* ---- a quad
 * ------------------------------------------------------------------------------------------------ */

/* Kept out of line: it is long and rarely run. */
__device__ static FPL_NOINLINE float fpl_element_long(const struct fpl_cuda_operand *q, const int fast,
                                                      struct fpl_group_scale g, float x, uint32_t random) {
    return fpl_element_quantized(&q->plan, &g, fast, x, random);
}

/* Element k of a quad has the k-th half of its two words, of which r bits are taken. */
__device__ static inline uint32_t fpl_quad_random(const struct fpl_quantizing *t, uint2 words, int k) {
    const uint32_t word = k < 2 ? words.x : words.y, low = (1u << t->quick.random_bits) - 1u;
    return t->quick.random_bits == 0 ? 0u : (k & 1 ? word >> 16 : word) & low;
}

/* v, whose largest magnitude has bits `most`, at elements i, i + step, ...; `random` is what quick plans
 * take. KIND: the plan's (FPL_BY_KIND). */
template <int KIND>
__device__ static inline void fpl_four_quantized(struct fpl_quantizing *t, const struct fpl_quick_scale *s,
                                                 const float v[4], uint32_t most, int64_t i, int64_t step,
                                                 const uint32_t random[4], float out[4]) {
    if (fpl_quick_reaches(s, fpl_bits_float(most))) {
        FPL_UNROLL
        for (int k = 0; k < 4; k++) out[k] = fpl_quick_element<KIND>(&t->quick, s, v[k], random[k]);
        return;
    }
    const struct fpl_group_scale g = fpl_quick_full(&t->quick, s);
    FPL_ROLLED
    for (int k = 0; k < 4; k++) { /* one call in the program, and no array with an index */
        const float x = k == 0 ? v[0] : k == 1 ? v[1] : k == 2 ? v[2] : v[3];
        const float y =
            fpl_element_long(t->operand, t->fast, g, x, fpl_element_random(t->operand, &t->at, i + k * step));
        t->bad += !fpl_is_finite(x) && !t->operand->plan.identity;
        out[0] = k == 0 ? y : out[0];
        out[1] = k == 1 ? y : out[1];
        out[2] = k == 2 ? y : out[2];
        out[3] = k == 3 ? y : out[3];
    }
}

/* A quad, neighbours in memory, the short way; 0: that is not possible, and nothing is written. */
template <int KIND, typename Out>
__device__ static inline int fpl_quad_quick(const struct fpl_quantizing *t, const struct fpl_quick_scale *s,
                                            const float v[4], uint32_t most, int64_t i, uint2 words,
                                            Out out) {
    float y[4];
    if (!fpl_quick_reaches(s, fpl_bits_float(most))) return 0;
    FPL_UNROLL
    for (int k = 0; k < 4; k++)
        y[k] = fpl_quick_element<KIND>(&t->quick, s, v[k], fpl_quad_random(t, words, k));
    fpl_store_four(out, i, y);
    return 1;
}

/* The same the long way, read again, when no registers are held any more. */
template <typename Out>
__device__ static inline void fpl_quad_long(struct fpl_quantizing *t, const struct fpl_quick_scale *s,
                                            const float *x, int64_t i, Out out) {
    const struct fpl_group_scale g = fpl_quick_full(&t->quick, s);
    FPL_ROLLED
    for (int k = 0; k < 4; k++) {
        const float v = x[i + k];
        t->bad += !fpl_is_finite(v) && !t->operand->plan.identity;
        fpl_store(out, i + k,
                  fpl_element_long(t->operand, t->fast, g, v, fpl_element_random(t->operand, &t->at, i + k)));
    }
}

/* Bits of |v|, infinities and NaN too. */
__device__ static inline uint32_t fpl_magnitude_bits(float v) { return fpl_float_bits(v) & 0x7fffffffu; }

/* A scale that another lane made. */
__device__ static inline struct fpl_quick_scale fpl_scale_from(const struct fpl_quick_scale *mine, int lane) {
    struct fpl_quick_scale s;
    s.forward = __shfl_sync(FPL_ALL_LANES, mine->forward, lane);
    s.back = __shfl_sync(FPL_ALL_LANES, mine->back, lane);
    s.back_2 = __shfl_sync(FPL_ALL_LANES, mine->back_2, lane);
    s.quick = __shfl_sync(FPL_ALL_LANES, mine->quick, lane);
    return s;
}

/* body<KIND>(...) for the plan's kind: one for all threads of a block, so what other kinds would need takes
 * no registers.  Plans without a short way take any: none of their scales is quick. */
#define FPL_BY_KIND(kind, body, ...)                                                                         \
    if ((kind) % FPL_QUICK_POST == FPL_QUICK_NEAREST)                                                        \
        body<FPL_QUICK_NEAREST>(__VA_ARGS__);                                                                \
    else if ((kind) % FPL_QUICK_POST == FPL_QUICK_DOWN)                                                      \
        body<FPL_QUICK_DOWN>(__VA_ARGS__);                                                                   \
    else                                                                                                     \
        body<FPL_QUICK_BITS>(__VA_ARGS__)

__device__ static inline void fpl_load_four(const float *x, float v[4]) {
    const float4 f = *reinterpret_cast<const float4 *>(x);
    v[0] = f.x, v[1] = f.y, v[2] = f.z, v[3] = f.w;
}

#endif
#endif
