/* table.c - the reference operations as a backend for FPL_REAL=double.
 *
 * Compiled with -DFPL_REAL=double, as are the copies of the model that run on it.  Memory is
 * the host's; a failed allocation is kept and every later operation refuses, as kernels.h
 * asks.  The float-only entry `quantize` is fpl_quantize_reference.
 */
#include "reference.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(fpl_real) == sizeof(double), "compile table.c with FPL_REAL=double");

struct fpl_device {
    int failed;
};

enum fpl_code ref_device_open(struct fpl_device **dev, const struct fpl_device_options *options,
                              struct fpl_error *err) {
    (void)options;
    *dev = calloc(1, sizeof **dev);
    return *dev ? FPL_OK : fpl_fail(err, FPL_SYSTEM, "reference: no memory for a device");
}

void ref_device_close(struct fpl_device *dev) { free(dev); }

void ref_device_describe(const struct fpl_device *dev, char *buf, size_t size) {
    (void)dev;
    snprintf(buf, size, "double; plain loops");
}

enum fpl_code ref_device_check(struct fpl_device *dev, struct fpl_error *err) {
    return dev->failed ? fpl_fail(err, FPL_SYSTEM, "reference: no memory") : FPL_OK;
}

void *ref_device_alloc(struct fpl_device *dev, size_t bytes) {
    const size_t whole = (bytes + 63) / 64 * 64;
    void *p = aligned_alloc(64, whole ? whole : 64);
    if (p)
        memset(p, 0, whole ? whole : 64);
    else
        dev->failed = 1;
    return p;
}

void ref_device_release(struct fpl_device *dev, void *p) {
    (void)dev;
    free(p);
}

void ref_device_copy(struct fpl_device *dev, void *to, const void *from, size_t bytes) {
    (void)dev;
    if (bytes) memcpy(to, from, bytes);
}

void ref_device_zero(struct fpl_device *dev, void *p, size_t bytes) {
    (void)dev;
    if (bytes) memset(p, 0, bytes);
}

static void embedding_forward(struct fpl_device *dev, int R, int64_t n, int64_t C, int64_t V,
                              const int32_t *tokens, const double *table, double *out) {
    (void)dev;
    ref_embedding_forward(R, n, C, V, tokens, table, out);
}

static void embedding_backward(struct fpl_device *dev, int R, int64_t n, int64_t C, int64_t V,
                               const int32_t *tokens, const double *dout, double *dtable) {
    (void)dev;
    ref_embedding_backward(R, n, C, V, tokens, dout, dtable);
}

static void rmsnorm_forward(struct fpl_device *dev, int R, int64_t n, int64_t C, double eps, const double *x,
                            const double *delta, const double *gain, double *h, double *y, double *rstd) {
    (void)dev;
    ref_rmsnorm_forward(R, n, C, eps, x, delta, gain, h, y, rstd);
}

static void rmsnorm_backward(struct fpl_device *dev, int R, int64_t n, int64_t C, const double *dy,
                             const double *h, const double *gain, const double *rstd, const double *dh_in,
                             double *dh, double *dgain) {
    (void)dev;
    ref_rmsnorm_backward(R, n, C, dy, h, gain, rstd, dh_in, dh, dgain);
}

static void attention_forward(struct fpl_device *dev, int R, int64_t B, int64_t T, int64_t H, int64_t D,
                              const double *cosines, const double *sines, double *qkv, double *probs,
                              double *out, const struct fpl_attention *quantized) {
    (void)dev;
    ref_attention_forward(R, B, T, H, D, cosines, sines, qkv, probs, out, quantized);
}

static void attention_backward(struct fpl_device *dev, int R, int64_t B, int64_t T, int64_t H, int64_t D,
                               const double *cosines, const double *sines, const double *qkv,
                               const double *probs, const double *out, const double *dout, double *dqkv,
                               const struct fpl_attention *quantized) {
    (void)dev;
    (void)out;
    ref_attention_backward(R, B, T, H, D, cosines, sines, qkv, probs, dout, dqkv, quantized);
}

static void swiglu_forward(struct fpl_device *dev, int R, int64_t n, int64_t F, const double *gate_up,
                           double *out) {
    (void)dev;
    ref_swiglu_forward(R, n, F, gate_up, out);
}

static void swiglu_backward(struct fpl_device *dev, int R, int64_t n, int64_t F, const double *gate_up,
                            const double *dout, double *dgate_up) {
    (void)dev;
    ref_swiglu_backward(R, n, F, gate_up, dout, dgate_up);
}

static void gemm(struct fpl_device *dev, const struct fpl_gemm *g) {
    (void)dev;
    ref_gemm(g->role, g->R, g->n, g->O, g->I, g->a, g->b, g->out, g->accumulate, g->qa, g->qb, g->nonfinite);
}

static void quantize(struct fpl_device *dev, int R, int64_t rows, int64_t cols, const struct fpl_operand *q,
                     const float *x, float *out, int64_t *nonfinite) {
    (void)dev;
    for (int r = 0; r < R; r++) {
        const int64_t bad = fpl_quantize_reference(&q[r].plan, rows, cols, cols, 1, x + r * rows * cols,
                                                   out + r * rows * cols, NULL, &q[r].at);
        if (nonfinite && !q[r].plan.identity) nonfinite[r] += bad;
    }
}

static void clip_mask(struct fpl_device *dev, int R, int64_t rows, int64_t cols, const struct fpl_operand *q,
                      const double *x, double *gradient) {
    (void)dev;
    ref_clip_mask(R, rows, cols, q, x, gradient);
}

static void cross_entropy(struct fpl_device *dev, int R, int64_t n, int64_t V, const double *logits,
                          const int32_t *targets, double scale, double *loss, double *dlogits) {
    (void)dev;
    ref_cross_entropy(R, n, V, logits, targets, scale, loss, dlogits);
}

static void sqnorm(struct fpl_device *dev, int R, const struct fpl_segment *segments, int count,
                   const double *g, double *out) {
    (void)dev;
    ref_sqnorm(R, segments, count, g, out);
}

static void quantize_tensors(struct fpl_device *dev, int R, const struct fpl_segment *segments, int count,
                             const struct fpl_operand *q, double *x, int64_t *nonfinite) {
    (void)dev;
    ref_quantize_tensors(R, segments, count, q, NULL, x, nonfinite);
}

static void delay(struct fpl_device *dev, const struct fpl_delay *states, int count, int64_t step,
                  float *buffer) {
    (void)dev;
    ref_delay(states, count, step, buffer);
}

static void adamw(struct fpl_device *dev, const struct fpl_adamw *a, const struct fpl_segment *segments,
                  int count, double *p, const double *g, double *m, double *v) {
    (void)dev;
    ref_adamw(a, segments, count, p, g, m, v);
}

const struct fpl_kernels reference_kernels = {
    .name = "reference",
    .open = ref_device_open,
    .close = ref_device_close,
    .describe = ref_device_describe,
    .check = ref_device_check,
    .alloc = ref_device_alloc,
    .release = ref_device_release,
    .upload = ref_device_copy,
    .download = ref_device_copy,
    .zero = ref_device_zero,
    .embedding_forward = embedding_forward,
    .embedding_backward = embedding_backward,
    .rmsnorm_forward = rmsnorm_forward,
    .rmsnorm_backward = rmsnorm_backward,
    .attention_forward = attention_forward,
    .attention_backward = attention_backward,
    .attention_kept = ref_attention_kept,
    .swiglu_forward = swiglu_forward,
    .swiglu_backward = swiglu_backward,
    .gemm = gemm,
    .clip_mask = clip_mask,
    .quantize = quantize,
    .cross_entropy = cross_entropy,
    .sqnorm = sqnorm,
    .quantize_tensors = quantize_tensors,
    .delay = delay,
    .adamw = adamw,
};
