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
 * (or the old value where `accumulate` is set), so tiling does not change bits either.
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

#include "../formats/error.h"
#include "../formats/quantizer.h"

#ifndef FPL_REAL
#define FPL_REAL float
#endif
typedef FPL_REAL fpl_real;

struct fpl_device; /* one backend instance: threads or a GPU, scratch, caches, first error */

struct fpl_device_options {
    int threads; /* CPU: OpenMP threads inside one operation, >= 1 */
};

enum fpl_role { FPL_FORWARD, FPL_DGRAD, FPL_WGRAD };

/* One operand of a quantized product, per replica. */
struct fpl_operand {
    struct fpl_quantizer_plan plan;
    struct fpl_random_at at; /* used by stochastic rounding only */
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
    const fpl_real *a; /* x, dy, dy of the three roles; [R, n, I] or [R, n, O] */
    const fpl_real *b; /* w, w, x; [R, O, I] or [R, n, I] */
    fpl_real *out;     /* [R, n, O], [R, n, I], [R, O, I] */
    int accumulate;    /* add to out instead of overwriting it */
    const struct fpl_operand *qa, *qb; /* host [R] each */
    uint64_t weights_version; /* raised whenever w changes; 0: do not cache Q(w) between calls */
    int64_t *nonfinite; /* device [R]: raised by the number of non-finite inputs of quantized
                           operands; NULL: not counted. Identity operands are not inspected. */
};

/* A tensor [R, size] inside a flat buffer that holds all parameters (or gradients, or
 * moments): replica r starts at offset + r * size. */
struct fpl_segment {
    int64_t offset, size;
    int decay; /* weight decay applies */
};

/* Per-replica options of one optimizer step; host arrays [R]. */
struct fpl_adamw {
    int R;
    const float *lr, *decay; /* decoupled: p -= lr * decay * p */
    double beta1, beta2, eps;
    int64_t step;            /* 1, 2, ...: bias correction */
    double clip;             /* global norm above which gradients are scaled down; 0: never */
    const double *sqnorm;    /* device [R]: squared norms, from sqnorm() */
    const int32_t *active;   /* host [R]: 0 leaves the replica untouched; NULL: all active */
};

struct fpl_kernels {
    const char *name; /* "cpu", "cuda" */

    enum fpl_code (*open)(struct fpl_device **dev, const struct fpl_device_options *options,
                          struct fpl_error *err);
    void (*close)(struct fpl_device *dev);
    /* What really runs, for records: "avx512; gemm=own"; comma-free, one line. */
    void (*describe)(const struct fpl_device *dev, char *buf, size_t size);
    enum fpl_code (*check)(struct fpl_device *dev, struct fpl_error *err);

    /* Memory: zeroed, aligned to 64 bytes; NULL (and a kept error) when there is none. */
    void *(*alloc)(struct fpl_device *dev, size_t bytes);
    void (*release)(struct fpl_device *dev, void *p);
    void (*upload)(struct fpl_device *dev, void *to, const void *from_host, size_t bytes);
    void (*download)(struct fpl_device *dev, void *to_host, const void *from, size_t bytes);
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
                            const fpl_real *x, const fpl_real *delta, const fpl_real *gain,
                            fpl_real *h, fpl_real *y, fpl_real *rstd);
    /* dh = d loss/d h through the norm, plus dh_in (the residual path; may be NULL);
     * dgain[R, C] += .  dh may be dh_in. */
    void (*rmsnorm_backward)(struct fpl_device *dev, int R, int64_t n, int64_t C, const fpl_real *dy,
                             const fpl_real *h, const fpl_real *gain, const fpl_real *rstd,
                             const fpl_real *dh_in, fpl_real *dh, fpl_real *dgain);

    /* Causal attention with rotary positions.  qkv[R, n, 3C]: q, k, v of H heads each, as
     * the fused linear layer wrote them.  Heads rotate pairs (i, i + D/2) by the angles of
     * cosines and sines, [T, D/2] each.  In place: q and k are replaced by their rotated
     * values.  probs[R, B, H, T, T] (upper triangle zero) is kept for the backward pass.
     * out[R, n, C] = softmax(q k^T / sqrt(D), causal) v. */
    void (*attention_forward)(struct fpl_device *dev, int R, int64_t B, int64_t T, int64_t H, int64_t D,
                              const fpl_real *cosines, const fpl_real *sines, fpl_real *qkv,
                              fpl_real *probs, fpl_real *out);
    /* dqkv[R, n, 3C]: gradients of the values before rotation. */
    void (*attention_backward)(struct fpl_device *dev, int R, int64_t B, int64_t T, int64_t H, int64_t D,
                               const fpl_real *cosines, const fpl_real *sines, const fpl_real *qkv,
                               const fpl_real *probs, const fpl_real *dout, fpl_real *dqkv);

    /* out[R, n, F] = silu(gate) * up; gate_up[R, n, 2F] = gate, then up, in each row */
    void (*swiglu_forward)(struct fpl_device *dev, int R, int64_t n, int64_t F, const fpl_real *gate_up,
                           fpl_real *out);
    void (*swiglu_backward)(struct fpl_device *dev, int R, int64_t n, int64_t F, const fpl_real *gate_up,
                            const fpl_real *dout, fpl_real *dgate_up);

    void (*gemm)(struct fpl_device *dev, const struct fpl_gemm *g);

    /* Standalone quantizer: x[R, rows, cols] -> out, reduction axis = columns; plans host [R]. */
    void (*quantize)(struct fpl_device *dev, int R, int64_t rows, int64_t cols,
                     const struct fpl_operand *q, const float *x, float *out, int64_t *nonfinite);

    /* loss[R, n] = -log softmax(logits)[target], per row, in nats; where dlogits is not NULL,
     * dlogits = scale * (softmax - one hot); dlogits may be logits. */
    void (*cross_entropy)(struct fpl_device *dev, int R, int64_t n, int64_t V, const fpl_real *logits,
                          const int32_t *targets, double scale, double *loss, fpl_real *dlogits);

    /* out[R] (double) = sum of squares over all segments of one flat gradient buffer */
    void (*sqnorm)(struct fpl_device *dev, int R, const struct fpl_segment *segments, int count,
                   const fpl_real *g, double *out);

    /* AdamW (arXiv 1711.05101) over flat buffers laid out by segments. */
    void (*adamw)(struct fpl_device *dev, const struct fpl_adamw *a, const struct fpl_segment *segments,
                  int count, fpl_real *p, const fpl_real *g, fpl_real *m, fpl_real *v);
};

/* Backends in this build, NULL-terminated; the first is "cpu". */
extern const char *const fpl_backend_names[];
/* The table of a backend at the instruction set of this process; NULL if there is none. */
const struct fpl_kernels *fpl_backend(const char *name);

/* "avx512", "avx2" or "baseline": chosen at run time from the CPU; the environment variable
 * FPLAW_SIMD=avx2|baseline lowers it (tests, benchmarks). */
const char *fpl_simd_level(void);

/* FPL_INVALID when FPLAW_SIMD holds something else (fpl_simd_level() then ignores it). */
enum fpl_code fpl_simd_check(struct fpl_error *err);

#endif
