/* perturbed.c - the operations of a training step with float32-sized errors (see perturbed.h).
 *
 * Compiled with FPL_REAL=double.  Formulas as in reference.c; where an implementation may
 * choose between forms of one formula, the form with more roundings is taken.  Memory and
 * the rest of a device are the reference table's.
 */
#include "perturbed.h"

#include <stdlib.h>

#include "perturbed_internal.h"
#include "reference.h"

_Static_assert(sizeof(fpl_real) == sizeof(double), "compile perturbed.c with FPL_REAL=double");

/* ---- rows ---------------------------------------------------------------------------------------- */

static void embedding_forward(struct fpl_device *dev, int R, int64_t n, int64_t C, int64_t V,
                              const int32_t *tokens, const double *table, double *out) {
    (void)dev;
    for (int64_t i = 0; i < R * n * C; i++) {
        const int64_t row = i / C;
        put(out + i, get(table + (row / n * V + tokens[row]) * C + i % C));
    }
}

static void embedding_backward(struct fpl_device *dev, int R, int64_t n, int64_t C, int64_t V,
                               const int32_t *tokens, const double *dout, double *dtable) {
    (void)dev;
    for (int64_t i = 0; i < R * n * C; i++) {
        const int64_t row = i / C;
        double *to = dtable + (row / n * V + tokens[row]) * C + i % C;
        put(to, b_add(get(to), get(dout + i)));
    }
}

static struct bounded root(struct bounded x) { return rounded(sqrt(x.v), sqrt(x.v) - sqrt(x.v - x.e)); }

static void rmsnorm_forward(struct fpl_device *dev, int R, int64_t n, int64_t C, double eps, const double *x,
                            const double *delta, const double *gain, double *h, double *y, double *rstd) {
    (void)dev;
    for (int64_t row = 0; row < R * n; row++) {
        struct b_sum squares = {0};
        for (int64_t i = row * C; i < (row + 1) * C; i++) {
            const struct bounded v = delta ? b_add(get(x + i), get(delta + i)) : get(x + i);
            if (delta) put(h + i, v);
            put(y + i, v);
            b_sum_add(&squares, b_mul(v, v));
        }
        const struct bounded mean = b_mul(b_sum_result(&squares), rounded(1 / (double)C, 0));
        put(rstd + row, b_div(exactly(1), root(b_add(mean, rounded(eps, 0)))));
        for (int64_t i = row * C; i < (row + 1) * C; i++)
            put(y + i, b_mul(b_mul(get(y + i), get(rstd + row)), get(gain + row / n * C + i % C)));
    }
}

static void rmsnorm_backward(struct fpl_device *dev, int R, int64_t n, int64_t C, const double *dy,
                             const double *h, const double *gain, const double *rstd, const double *dh_in,
                             double *dh, double *dgain) {
    (void)dev;
    struct b_sum *sums = harness_alloc(R * C, sizeof *sums);
    for (int64_t i = 0; i < R * C; i++) b_sum_add(&sums[i], get(dgain + i));
    for (int64_t row = 0; row < R * n; row++) {
        const struct bounded s = get(rstd + row);
        const int64_t own = row / n * C;
        struct b_sum dot = {0};
        for (int64_t i = row * C; i < (row + 1) * C; i++) {
            const struct bounded g = get(gain + own + i % C), d = get(dy + i), v = get(h + i);
            b_sum_add(&dot, b_mul(b_mul(g, d), v));
            b_sum_add(&sums[own + i % C], b_mul(b_mul(d, v), s));
        }
        const struct bounded mean = b_mul(b_sum_result(&dot), rounded(1 / (double)C, 0));
        const struct bounded through = b_mul(b_mul(b_mul(mean, s), s), s);
        for (int64_t i = row * C; i < (row + 1) * C; i++) {
            struct b_sum sum = {0};
            struct bounded pull = b_mul(get(h + i), through);
            pull.v = -pull.v;
            b_sum_add(&sum, b_mul(b_mul(s, get(gain + own + i % C)), get(dy + i)));
            b_sum_add(&sum, pull);
            b_sum_add(&sum, dh_in ? get(dh_in + i) : exactly(0));
            put(dh + i, b_sum_result(&sum));
        }
    }
    for (int64_t i = 0; i < R * C; i++) put(dgain + i, b_sum_result(&sums[i]));
    free(sums);
}

static struct bounded sigmoid(struct bounded a) {
    a.v = -a.v;
    return b_div(exactly(1), b_add(exactly(1), b_exp(a)));
}

static void swiglu_forward(struct fpl_device *dev, int R, int64_t n, int64_t F, const double *gate_up,
                           double *out) {
    (void)dev;
    for (int64_t i = 0; i < R * n * F; i++) {
        const double *at = gate_up + i / F * 2 * F + i % F;
        const struct bounded a = get(at), up = get(at + F);
        put(out + i, b_mul(b_mul(a, sigmoid(a)), up));
    }
}

static void swiglu_backward(struct fpl_device *dev, int R, int64_t n, int64_t F, const double *gate_up,
                            const double *dout, double *dgate_up) {
    (void)dev;
    for (int64_t i = 0; i < R * n * F; i++) {
        const int64_t at = i / F * 2 * F + i % F;
        const struct bounded a = get(gate_up + at), up = get(gate_up + at + F), d = get(dout + i);
        const struct bounded s = sigmoid(a);
        const struct bounded factor = b_add(exactly(1), b_mul(a, b_sub(exactly(1), s)));
        put(dgate_up + at + F, b_mul(b_mul(d, a), s));
        put(dgate_up + at, b_mul(b_mul(b_mul(d, up), s), factor));
    }
}

static void cross_entropy(struct fpl_device *dev, int R, int64_t n, int64_t V, const double *logits,
                          const int32_t *targets, double scale, double *loss, double *dlogits) {
    (void)dev;
    struct bounded *z = harness_alloc(V, sizeof *z);
    for (int64_t row = 0; row < R * n; row++) {
        double max;
        for (int64_t j = 0; j < V; j++) z[j] = get(logits + row * V + j);
        const double target = z[targets[row]].v;
        const struct bounded sum = perturbed_exponentials(z, V, &max);
        /* the loss is put together in double */
        const double e_loss = -log1p(-sum.e / sum.v) + HARNESS_U * (max - target);
        put(loss + row, (struct bounded){log(sum.v) + max - target, e_loss + 0x1p-45});
        for (int64_t j = 0; dlogits && j < V; j++) {
            const struct bounded s = rounded(scale, 0), p = b_mul(b_mul(b_div(z[j], sum), s), exactly(1));
            put(dlogits + row * V + j, j == targets[row] ? b_sub(p, s) : p);
        }
    }
    free(z);
}

static void gemm(struct fpl_device *dev, const struct fpl_gemm *g) {
    (void)dev;
    const struct ref_product p = ref_product_shape(g->role, g->n, g->O, g->I);
    for (int r = 0; r < g->R; r++) {
        const double *a = g->a + r * p.a_size, *b = g->b + r * p.b_size;
        if (!g->qa[r].plan.identity || !g->qb[r].plan.identity) abort();
        for (int64_t at = 0; at < p.out_size; at++) {
            const double *x = a + at / p.cols * p.a_row, *y = b + at % p.cols * p.b_row;
            double *to = g->out + r * p.out_size + at;
            struct b_sum sum = {0};
            b_sum_add(&sum, g->accumulate ? get(to) : exactly(0));
            for (int64_t k = 0; k < p.depth; k++)
                b_sum_add(&sum, b_mul(get(x + k * p.a_col), get(y + k * p.b_col)));
            put(to, b_sum_result(&sum));
        }
    }
}

const struct fpl_kernels perturbed_kernels = {
    .name = "perturbed",
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
    .attention_forward = perturbed_attention_forward,
    .attention_backward = perturbed_attention_backward,
    .attention_kept = ref_attention_kept,
    .swiglu_forward = swiglu_forward,
    .swiglu_backward = swiglu_backward,
    .gemm = gemm,
    .cross_entropy = cross_entropy,
};
