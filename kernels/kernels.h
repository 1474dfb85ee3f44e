/* kernels.h - the array operations that training needs, as one table per backend.
 *
 * Every operation takes R replicas: runs of one shape that differ in precision, learning
 * rate, decay and seed.  A tensor "[R, n, C]" is contiguous, row-major, replica outermost.
 * A replica's result has the same bits whatever R is and wherever in the pack it stands.
 *
 * Memory: pointers come from alloc() of the same device and may not be readable by the
 * host; upload() and download() copy.  Arguments that are small per-replica tables
 * (struct fpl_operand, segments, learning rates) are host memory, read during the call.
 * No output may overlap an input unless the comment of the operation says so.
 *
 * Errors: operations return nothing; a failure (scratch memory, a launch) is kept in the
 * device, further operations become no-ops, and check() returns it.  Callers check once
 * per step.
 *
 * Determinism: no operation depends on thread count, on the instruction set (AVX-512,
 * AVX2, baseline give the same bits) or on earlier calls.  float32 products of the `fp32`
 * accumulator are one fused-multiply-add chain per output element in increasing k, start +0
 * (or the old value where `accumulate` is set), so tiling does not change bits either.  A GPU's
 * matrix units add in an order of their own, the same in every pack: kernels/cuda/cublaslt.h has
 * the bound, and describe() tells which of the two a run has had.
 * Sums over rows or elements use fixed tiles and lanes, stated in kernels/cpu.
 *
 * Letters: R replicas, B sequences of a micro-batch, T positions, n = B T rows, C width,
 * H heads, D = C/H head width, F feed-forward width, V vocabulary.
 *
 * fpl_real is float in the program.  Tests compile the model a second time with
 * FPL_REAL=double against a plain double-precision table, to check gradients.
 */
#ifndef FPL_KERNELS_H
#define FPL_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "../formats/accumulator.h"
#include "../formats/error.h"
#include "../formats/measure.h"
#include "../formats/quantizer.h"

#ifndef FPL_REAL
#define FPL_REAL float
#endif
typedef FPL_REAL fpl_real;

struct fpl_device; /* one backend instance: threads or a GPU, scratch, caches, first error */

struct fpl_device_options {
    int threads; /* CPU: OpenMP threads inside one operation, >= 1 */
    int number;  /* of the device among those of devices(), from 0; ignored where that is NULL */
};

enum fpl_role { FPL_FORWARD, FPL_DGRAD, FPL_WGRAD };

/* One operand of a quantized product, per replica. */
struct fpl_operand {
    struct fpl_quantizer_plan plan;
    struct fpl_random_at at; /* used by stochastic rounding only */
    float *delay;            /* device: state of delayed scaling, see below; NULL where plan.history is 0 */
    int32_t observe;         /* 1: this call's amax counts for later steps (training, not evaluation) */
    int32_t hadamard;        /* 16 or 32: transformed along the reduction axis before it is
                                quantized, identity plans too (formats/hadamard.h); 0: not */
};

/* Delayed scaling (Transformer Engine, DelayedScaling with amax_compute_algo "max"): the scale
 * of a step comes from the largest amax of the last H steps, so that a tensor need not be read
 * before it is quantized.  State of one operand, FPL_DELAY_HEAD + H floats:
 *   [0] largest finite magnitude of the present step, over all its micro-batches
 *   [1] the amax in use, largest of the window; 0: none known
 *   [2 ..] the window, the amax of step s at s mod H
 * An operation with plan.history > 0 sets plan.delayed_amax = [1] and, where `observe` is set,
 * raises [0]; delay() ends a step.  All micro-batches of a step therefore use one scale, an
 * evaluation uses the scale of the step that would come next and leaves no trace, and nothing
 * depends on how a step is divided.  An operand without a past (the first step, or a window of
 * zeros) takes its own amax of each call; Transformer Engine starts from scale 1, or from a
 * calibration on the first batch, which this is. */
enum { FPL_DELAY_HEAD = 2 };
struct fpl_delay {
    int64_t offset; /* of the operand's state, in floats */
    int32_t length; /* H */
};

/* A linear layer's product with quantized operands:
 *   FPL_FORWARD  y[n, O]  = Q(x)[n, I]  Q(w)[O, I]^T      reduction over I
 *   FPL_DGRAD    dx[n, I] = Q(dy)[n, O] Q(w)[O, I]        reduction over O
 *   FPL_WGRAD    dw[O, I] (+)= Q(dy)[n, O]^T Q(x)[n, I]   reduction over n
 * Q sees each operand with its reduction axis as columns (quantizer.h), so 1xB blocks of
 * w run along I in the forward product and along O in dgrad, and blocks of wgrad run over
 * the rows (tokens) of this call in order. */
struct fpl_gemm {
    enum fpl_role role;
    int R;
    int64_t n, O, I;
    const fpl_real *a;                 /* x, dy, dy of the three roles; [R, n, I] or [R, n, O] */
    const fpl_real *b;                 /* w, w, x; [R, O, I] or [R, n, I] */
    fpl_real *out;                     /* [R, n, O], [R, n, I], [R, O, I] */
    int accumulate;                    /* add to out instead of overwriting it */
    const struct fpl_operand *qa, *qb; /* host [R] each */
    /* How products are summed (accumulator.h), host [R]; NULL: fp32 for all.  For fp32
     * `accumulate` starts the chain from the old value; all others sum from +0 and then add
     * the finished product to it in float32. */
    const struct fpl_accumulator_plan *accumulator;
    uint64_t weights_version; /* raised whenever w changes; 0: do not cache Q(w) between calls */
    int64_t *nonfinite;       /* device [R]: raised by the number of non-finite inputs of quantized
                                 operands; NULL: not counted. Identity operands are not inspected. */
};

/* A tensor [R, size] inside a flat buffer that holds all parameters (or gradients, or
 * moments): replica r starts at offset + r * size. */
struct fpl_segment {
    int64_t offset, size;
    int decay;    /* weight decay applies */
    int64_t cols; /* as a matrix: [size / cols, cols]; 0: one row */
};

/* Formats of the optimizer's state.  Each tensor is quantized as a matrix of its own,
 * [size / cols, cols] with columns as the reduction axis, so blocks and tensor scales never
 * span two parameters.  Random bits: element = index in the tensor, stream = at.stream + (index
 * of the segment << 8), see FPL_STREAM_OPTIMIZER in random.h; state of delayed scaling at
 * delay + index * (FPL_DELAY_HEAD + H).  What is stored is the dequantized value.  One step, in
 * this order:
 *   1  g = Q_grad(g): the whole step's gradient, summed in float32 over the micro-batches,
 *      before its norm is taken, so that clipping sees what the optimizer sees
 *   2  the norm, the clip factor
 *   3  m, v, p by AdamW in float32 from the stored m, v, p: the update of p uses the new moments
 *      before they are rounded, as optimizers with states of 8 bits do (arXiv 2110.02861,
 *      2310.18313)
 *   4  m = Q_m(m), v = Q_v(v), p = Q_master(p), in place
 * Initial weights are rounded by Q_master too, with the random bits of step 2^32 - 1, which no
 * run reaches. */
enum fpl_optimizer_slot { FPL_OPT_M, FPL_OPT_V, FPL_OPT_MASTER, FPL_OPT_GRAD, FPL_OPT_SLOTS };

/* Per-replica options of one optimizer step; host arrays [R]. */
struct fpl_adamw {
    int R;
    const float *lr, *decay; /* decoupled: p -= lr * decay * p */
    double beta1, beta2, eps;
    int64_t step;          /* 1, 2, ...: bias correction */
    double clip;           /* global norm above which gradients are scaled down; 0: never */
    const double *sqnorm;  /* device [R]: squared norms, from sqnorm() */
    const int32_t *active; /* host [R]: 0 leaves the replica untouched; NULL: all active */
    const struct fpl_operand *qm, *qv, *qmaster; /* of step 4, host [R] each; NULL: high precision */
    int64_t *nonfinite;                          /* device [R], as in struct fpl_gemm */
};

/* The operands of attention's products, each with its reduction axis as columns, per head and
 * sequence: a quantizer sees one matrix [T, D], [D, T] or [T, T].
 *
 *   product             operands                     columns   element index within the head
 *   S   = q k^T         q [T, D], k [T, D]           D         t D + d
 *   out = P v           P [T, T], v^T [D, T]         keys      i T + j; t D + d
 *   dv  = P^T dout      P^T [T, T], dout^T [D, T]    queries   i T + j; t D + d
 *   dP  = dout v^T      dout [T, D], v [T, D]        D         t D + d
 *   dq  = dS k          dS [T, T], k^T [D, T]        keys      i T + j; t D + d
 *   dk  = dS^T q        dS^T [T, T], q^T [D, T]      queries   i T + j; t D + d
 *
 * q and k are the rotated ones, P = softmax(S / sqrt D), dS = P (dP - sum_j P dP) before the
 * factor 1/sqrt(D).  The softmax and its derivative use P in float32, and gradients pass
 * straight through (as NVFP4 attention-aware training does, and FP8 attention, which
 * recomputes P): only products see rounded operands.  Entries above the diagonal of P and dS
 * are zeros before and after.  Which of the twelve to quantize is the recipe's choice:
 * SageBwd (arXiv 2505.11594, 2603.02170) quantizes all but dP = dout v^T, whose error the
 * softmax's derivative magnifies; Transformer Engine's FP8 attention all twelve, dout and dS in
 * a format of larger range.  Random bits: element = (sequence of the step * H + head) * (size of
 * the head's matrix) + index, stream of FPL_STREAM_ATTENTION (random.h). */
enum fpl_attention_slot {
    FPL_ATTN_S_Q,
    FPL_ATTN_S_K,
    FPL_ATTN_OUT_P,
    FPL_ATTN_OUT_V,
    FPL_ATTN_DV_P,
    FPL_ATTN_DV_DOUT,
    FPL_ATTN_DP_DOUT,
    FPL_ATTN_DP_V,
    FPL_ATTN_DQ_DS,
    FPL_ATTN_DQ_K,
    FPL_ATTN_DK_DS,
    FPL_ATTN_DK_Q,
    FPL_ATTN_SLOTS
};

struct fpl_diagnosis;

struct fpl_attention {
    const struct fpl_operand *slot[FPL_ATTN_SLOTS]; /* host [R] each; at.element is not used */
    int64_t first_sequence;                         /* of this micro-batch in the step */
    int64_t *nonfinite;                             /* device [R], as in struct fpl_gemm */
    struct fpl_diagnosis *diagnosis;                /* host [FPL_ATTN_SLOTS][R], added to; NULL: none */
};

/* What quantizing did to an operand, as sums that calls add to; measure.h has the definitions,
 * the ratios and the order of summation (the operand in memory order, one call after the other). */
struct fpl_diagnosis {
    struct fpl_measure sums; /* groups and tensors are not counted here */
    struct fpl_exponents exponents;
};

struct fpl_kernels {
    const char *name; /* "cpu", "cuda" */

    enum fpl_code (*open)(struct fpl_device **dev, const struct fpl_device_options *options,
                          struct fpl_error *err);
    void (*close)(struct fpl_device *dev);
    /* What really runs, for records: "avx512; gemm=own"; comma-free, one line. */
    void (*describe)(const struct fpl_device *dev, char *buf, size_t size);
    enum fpl_code (*check)(struct fpl_device *dev, struct fpl_error *err);

    /* What a host should know before it spreads runs over it; both may be NULL.
     * devices: how many of them this host has (0: none to be used).  NULL: the host itself is the
     * device, and its cores are the limit to what runs side by side.
     * replicas: how many replicas that need `bytes` of device memory each are worth one call, by
     * the memory that is free now, at least 1.  NULL: packs gain nothing, one replica is best. */
    int (*devices)(void);
    int (*replicas)(struct fpl_device *dev, size_t bytes);
    /* What the device itself tells; both may be NULL: the host is the device.  NaN: it does not tell.
     * joules: spent since some moment that stays the same while the driver does, whoever spent it.
     * peak_bytes: the most memory held since open(). */
    double (*joules)(struct fpl_device *dev);
    double (*peak_bytes)(struct fpl_device *dev);
    /* What the backend found on this host, in one line, for `fplaw --version`; opens no device.
     * NULL: nothing beside its name. */
    void (*about)(char *buf, size_t size);

    /* Memory: zeroed, aligned to 64 bytes; NULL (and a kept FPL_MEMORY) when there is none. */
    void *(*alloc)(struct fpl_device *dev, size_t bytes);
    void (*release)(struct fpl_device *dev, void *p);
    void (*upload)(struct fpl_device *dev, void *to, const void *from_host, size_t bytes);
    void (*download)(struct fpl_device *dev, void *to_host, const void *from, size_t bytes);
    /* As download, but to_host need not hold the bytes before the next download() or check(), so that a
     * step waits once.  Optional: NULL where download() costs no wait. */
    void (*fetch)(struct fpl_device *dev, void *to_host, const void *from, size_t bytes);
    void (*zero)(struct fpl_device *dev, void *p, size_t bytes);

    /* out[R, n, C] = table[R, V, C] rows chosen by tokens[R, n], each in [0, V) */
    void (*embedding_forward)(struct fpl_device *dev, int R, int64_t n, int64_t C, int64_t V,
                              const int32_t *tokens, const fpl_real *table, fpl_real *out);
    /* dtable[R, V, C] += rows of dout, added in increasing row order */
    void (*embedding_backward)(struct fpl_device *dev, int R, int64_t n, int64_t C, int64_t V,
                               const int32_t *tokens, const fpl_real *dout, fpl_real *dtable);

    /* h = x + delta (delta may be NULL: h is not written and x is used);
     * y = gain * h / sqrt(mean(h^2) + eps); rstd[R, n] kept for the backward pass.
     * h may be x. */
    void (*rmsnorm_forward)(struct fpl_device *dev, int R, int64_t n, int64_t C, double eps,
                            const fpl_real *x, const fpl_real *delta, const fpl_real *gain, fpl_real *h,
                            fpl_real *y, fpl_real *rstd);
    /* dh = d loss/d h through the norm, plus dh_in (the residual path; may be NULL);
     * dgain[R, C] += .  dh may be dh_in. */
    void (*rmsnorm_backward)(struct fpl_device *dev, int R, int64_t n, int64_t C, const fpl_real *dy,
                             const fpl_real *h, const fpl_real *gain, const fpl_real *rstd,
                             const fpl_real *dh_in, fpl_real *dh, fpl_real *dgain);

    /* Causal attention with rotary positions.  qkv[R, n, 3C]: q, k, v of H heads each, as
     * the fused linear layer wrote them.  Heads rotate pairs (i, i + D/2) by the angles of
     * cosines and sines, [T, D/2] each.  In place: q and k are replaced by their rotated
     * values.  out[R, n, C] = softmax(q k^T / sqrt(D), causal) v.
     * kept[R, attention_kept()]: what the backward pass will want; what that is, is the backend's own
     * affair: the probabilities [B, H, T, T], upper triangle zero, on a CPU.
     * quantized: NULL, or the operands' quantizers; the softmax stays in high precision. */
    void (*attention_forward)(struct fpl_device *dev, int R, int64_t B, int64_t T, int64_t H, int64_t D,
                              const fpl_real *cosines, const fpl_real *sines, fpl_real *qkv, fpl_real *kept,
                              fpl_real *out, const struct fpl_attention *quantized);
    /* dqkv[R, n, 3C]: gradients of the values before rotation.  qkv, kept, out: as forward left them. */
    void (*attention_backward)(struct fpl_device *dev, int R, int64_t B, int64_t T, int64_t H, int64_t D,
                               const fpl_real *cosines, const fpl_real *sines, const fpl_real *qkv,
                               const fpl_real *kept, const fpl_real *out, const fpl_real *dout,
                               fpl_real *dqkv, const struct fpl_attention *quantized);
    /* Elements of `kept` per replica; quantized: whether calls will pass quantizers. */
    int64_t (*attention_kept)(int64_t B, int64_t T, int64_t H, int64_t D, int quantized);

    /* out[R, n, F] = silu(gate) * up; gate_up[R, n, 2F] = gate, then up, in each row */
    void (*swiglu_forward)(struct fpl_device *dev, int R, int64_t n, int64_t F, const fpl_real *gate_up,
                           fpl_real *out);
    void (*swiglu_backward)(struct fpl_device *dev, int R, int64_t n, int64_t F, const fpl_real *gate_up,
                            const fpl_real *dout, fpl_real *dgate_up);

    void (*gemm)(struct fpl_device *dev, const struct fpl_gemm *g);

    /* Straight-through gradients with a clip mask (recipe.h, ste=clip): gradient, of the same
     * shape as x[R, rows, cols] with the reduction axis as columns, becomes zero where q's
     * rounding of x, before it is clamped, exceeds the format's largest value
     * (fpl_element_clips of formats/scale.h); other elements keep their bits.  Where
     * q.hadamard is set, that happens to the transformed gradient: groups in which nothing
     * clips keep their bits, others are transformed, masked and transformed back.  q with the
     * random coordinates of the forward product, so that it masks what was clipped there. */
    void (*clip_mask)(struct fpl_device *dev, int R, int64_t rows, int64_t cols, const struct fpl_operand *q,
                      const fpl_real *x, fpl_real *gradient);

    /* Standalone quantizer: x[R, rows, cols] -> out, reduction axis = columns; plans host [R].
     * out may be x. */
    void (*quantize)(struct fpl_device *dev, int R, int64_t rows, int64_t cols, const struct fpl_operand *q,
                     const float *x, float *out, int64_t *nonfinite);

    /* x[R, rows, cols], whose reduction axis runs over its rows (blocks 1xB are columns of B
     * rows), written with that axis as columns: out[R, cols, rows], not x.  Random bits by the
     * element's index in x.  Optional: NULL where a backend has none. */
    void (*quantize_transposed)(struct fpl_device *dev, int R, int64_t rows, int64_t cols,
                                const struct fpl_operand *q, const float *x, float *out, int64_t *nonfinite);

    /* Both copies of an operand from one read of x[R, rows, cols]: out = quantize() with q, and
     * out_transposed[R, cols, rows] = quantize_transposed() with q_transposed, the same bits as
     * these.  Optional. */
    void (*quantize_both)(struct fpl_device *dev, int R, int64_t rows, int64_t cols,
                          const struct fpl_operand *q, const struct fpl_operand *q_transposed, const float *x,
                          float *out, float *out_transposed, int64_t *nonfinite);

    /* loss[R, n] = -log softmax(logits)[target], per row, in nats; where dlogits is not NULL,
     * dlogits = scale * (softmax - one hot); dlogits may be logits. */
    void (*cross_entropy)(struct fpl_device *dev, int R, int64_t n, int64_t V, const fpl_real *logits,
                          const int32_t *targets, double scale, double *loss, fpl_real *dlogits);

    /* out[R] (double) = sum of squares over all segments of one flat gradient buffer */
    void (*sqnorm)(struct fpl_device *dev, int R, const struct fpl_segment *segments, int count,
                   const fpl_real *g, double *out);

    /* Every tensor of a flat buffer through its replica's quantizer, in place (struct
     * fpl_adamw, step 1); q: host [R], streams as there. */
    void (*quantize_tensors)(struct fpl_device *dev, int R, const struct fpl_segment *segments, int count,
                             const struct fpl_operand *q, fpl_real *x, int64_t *nonfinite);

    /* The end of step `step` (0, 1, ...) of delayed scaling: every state's [0] goes into its
     * window, [1] becomes the window's largest, [0] zero. */
    void (*delay)(struct fpl_device *dev, const struct fpl_delay *states, int count, int64_t step,
                  float *buffer);

    /* What q makes of x[R, lines, width], a whole replica after the other; along_lines: the
     * reduction axis runs over lines (as x and dy lie in wgrad), else within them.  x is
     * quantized anew, exactly as the product with this operand does; diagnosis: host [R]. */
    void (*diagnose)(struct fpl_device *dev, int R, int64_t lines, int64_t width, int along_lines,
                     const struct fpl_operand *q, const fpl_real *x, struct fpl_diagnosis *diagnosis);

    /* Yardsticks of benchmarks: what this device can do at best; either may be NULL.
     * copy: between two buffers of the device.
     * vendor_product: out[M, N] = a[M, K] b[N, K]^T by the vendor's library, from operands that lie
     * ready, sums in float32: bfloat16 on matrix units (bf16 = 1), float32 without them; 0: not
     * to be had. */
    void (*copy)(struct fpl_device *dev, void *to, const void *from, size_t bytes);
    int (*vendor_product)(struct fpl_device *dev, int bf16, int64_t M, int64_t N, int64_t K, const void *a,
                          const void *b, float *out);

    /* AdamW (arXiv 1711.05101) over flat buffers laid out by segments. */
    void (*adamw)(struct fpl_device *dev, const struct fpl_adamw *a, const struct fpl_segment *segments,
                  int count, fpl_real *p, const fpl_real *g, fpl_real *m, fpl_real *v);
};

/* Backends in this build, NULL-terminated; the first is "cpu". */
extern const char *const fpl_backend_names[];
/* The table of a backend at the instruction set of this process; NULL if there is none. */
const struct fpl_kernels *fpl_backend(const char *name);

/* A backend by the text of a command line, "cpu", "cuda" or, one of several devices, "cuda:1".
 * number: -1 where the text gives none.  FPL_INVALID: no such backend in this build (the message
 * names those that are), or no number where it should be one.  Devices are not looked for. */
enum fpl_code fpl_backend_choose(const char *text, const struct fpl_kernels **kernels, int *number,
                                 struct fpl_error *err);

/* FPL_OK where open() would find device `number` (-1: any); else what open() says. */
enum fpl_code fpl_backend_ready(const struct fpl_kernels *kernels, int number, struct fpl_error *err);

/* "avx512", "avx2" or "baseline": chosen at run time from the CPU; the environment variable
 * FPLAW_SIMD=avx2|baseline lowers it (tests, benchmarks). */
const char *fpl_simd_level(void);

/* FPL_INVALID when FPLAW_SIMD holds something else (fpl_simd_level() then ignores it). */
enum fpl_code fpl_simd_check(struct fpl_error *err);

#endif
