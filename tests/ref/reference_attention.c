/* reference_attention.c - causal attention with rotary positions, forward and backward.
 *
 * Row b*T + t of qkv holds q, k, v of H heads of width D.  Rotary positions (RoFormer,
 * arXiv 2104.09864, half-split pairs): with c, s the cosine and sine of position t, pair i,
 *   (x_i, x_{i+D/2}) -> (c x_i - s x_{i+D/2},  c x_{i+D/2} + s x_i)
 * whose transpose carries gradients back.  Per head, with P = softmax(q k^T / sqrt(D)):
 *   out = P v,   dv = P^T dout,   dP = dout v^T,
 *   dS_tj = P_tj (dP_tj - sum_k P_tk dP_tk),   dq = dS k / sqrt(D),   dk = dS^T q / sqrt(D).
 * Each of the six products sees its operands through their quantizers (kernels.h, enum
 * fpl_attention_slot); P and dS are what they are without them.
 */
#include "reference.h"

#include <math.h>
#include <stdlib.h>

static void rotate(double *x, const double *c, const double *s, int64_t D, double direction) {
    for (int64_t i = 0; i < D / 2; i++) {
        const double low = x[i], high = x[i + D / 2];
        x[i] = c[i] * low - direction * s[i] * high;
        x[i + D / 2] = c[i] * high + direction * s[i] * low;
    }
}

/* One head of one sequence, in rows of 3C or C. */
struct head {
    int64_t T, C, D, h;
    const struct fpl_attention *quantized; /* NULL: none */
    int replica;
    uint64_t number; /* of the head in the step */
};

static int64_t q_at(const struct head *g, int64_t t) { return t * 3 * g->C + g->h * g->D; }
static int64_t k_at(const struct head *g, int64_t t) { return q_at(g, t) + g->C; }
static int64_t v_at(const struct head *g, int64_t t) { return q_at(g, t) + 2 * g->C; }

static double *grab(int64_t n) {
    double *x = calloc(n ? (size_t)n : 1, sizeof *x);
    if (!x) abort();
    return x;
}

/* What a product sees of x[lines, width]: a copy, quantized; along_lines as in kernels.h. */
static double *seen(const struct head *g, int slot, const double *x, int64_t lines, int64_t width,
                    int along_lines) {
    double *copy = grab(lines * width);
    for (int64_t i = 0; i < lines * width; i++) copy[i] = x[i];
    if (!g->quantized || !g->quantized->slot[slot]) return copy;
    struct fpl_operand q = g->quantized->slot[slot][g->replica];
    q.at.element = g->number * (uint64_t)(lines * width);
    const int64_t bad = ref_quantize_operand(&q, lines, width, along_lines, copy);
    if (g->quantized->nonfinite) g->quantized->nonfinite[g->replica] += bad;
    return copy;
}

/* x[T, D] of q, k or v (which = 0, 1, 2), or of rows of width C (which = 3). */
static double *gather(const struct head *g, const double *rows, int which) {
    double *x = grab(g->T * g->D);
    for (int64_t t = 0; t < g->T; t++)
        for (int64_t i = 0; i < g->D; i++)
            x[t * g->D + i] = rows[which == 3 ? t * g->C + g->h * g->D + i : q_at(g, t) + which * g->C + i];
    return x;
}

static double *gathered(const struct head *g, int slot, const double *rows, int which, int along_lines) {
    double *x = gather(g, rows, which), *copy = seen(g, slot, x, g->T, g->D, along_lines);
    free(x);
    return copy;
}

static double dot(const double *a, const double *b, int64_t D) {
    double sum = 0;
    for (int64_t i = 0; i < D; i++) sum += a[i] * b[i];
    return sum;
}

static void add_scaled(double *to, const double *from, double by, int64_t D) {
    for (int64_t i = 0; i < D; i++) to[i] += by * from[i];
}

static void head_forward(const struct head *g, double *x, const double *cosines, const double *sines,
                         double *P, double *out) {
    const int64_t T = g->T, D = g->D;
    for (int64_t t = 0; t < T; t++) {
        rotate(x + q_at(g, t), cosines + t * (D / 2), sines + t * (D / 2), D, 1);
        rotate(x + k_at(g, t), cosines + t * (D / 2), sines + t * (D / 2), D, 1);
    }
    double *q = gathered(g, FPL_ATTN_S_Q, x, 0, 0), *k = gathered(g, FPL_ATTN_S_K, x, 1, 0);
    for (int64_t t = 0; t < T; t++) {
        double *p = P + t * T, max = 0, sum = 0;
        for (int64_t j = 0; j <= t; j++) {
            p[j] = dot(q + t * D, k + j * D, D) / sqrt((double)D);
            max = j == 0 || p[j] > max ? p[j] : max;
        }
        for (int64_t j = 0; j <= t; j++) sum += p[j] = exp(p[j] - max);
        for (int64_t j = 0; j < T; j++) p[j] = j <= t ? p[j] / sum : 0;
    }
    double *p = seen(g, FPL_ATTN_OUT_P, P, T, T, 0), *v = gathered(g, FPL_ATTN_OUT_V, x, 2, 1);
    for (int64_t t = 0; t < T; t++) {
        double *o = out + t * g->C + g->h * D;
        for (int64_t i = 0; i < D; i++) o[i] = 0;
        for (int64_t j = 0; j <= t; j++) add_scaled(o, v + j * D, p[t * T + j], D);
    }
    free(q);
    free(k);
    free(p);
    free(v);
}

/* dS[T, T] before the factor 1/sqrt(D). */
static double *score_gradients(const struct head *g, const double *x, const double *P, const double *dout) {
    const int64_t T = g->T, D = g->D;
    double *d = gathered(g, FPL_ATTN_DP_DOUT, dout, 3, 0), *v = gathered(g, FPL_ATTN_DP_V, x, 2, 0);
    double *dS = grab(T * T);
    for (int64_t t = 0; t < T; t++) {
        double mean = 0;
        for (int64_t j = 0; j <= t; j++) {
            dS[t * T + j] = dot(d + t * D, v + j * D, D);
            mean += P[t * T + j] * dS[t * T + j];
        }
        for (int64_t j = 0; j <= t; j++) dS[t * T + j] = P[t * T + j] * (dS[t * T + j] - mean);
    }
    free(d);
    free(v);
    return dS;
}

static void head_backward(const struct head *g, const double *x, const double *cosines, const double *sines,
                          const double *P, const double *dout, double *dx) {
    const int64_t T = g->T, D = g->D;
    const double scale = 1 / sqrt((double)D);
    double *dS = score_gradients(g, x, P, dout);
    double *dv_p = seen(g, FPL_ATTN_DV_P, P, T, T, 1), *dv_d = gathered(g, FPL_ATTN_DV_DOUT, dout, 3, 1);
    double *dq_s = seen(g, FPL_ATTN_DQ_DS, dS, T, T, 0), *dq_k = gathered(g, FPL_ATTN_DQ_K, x, 1, 1);
    double *dk_s = seen(g, FPL_ATTN_DK_DS, dS, T, T, 1), *dk_q = gathered(g, FPL_ATTN_DK_Q, x, 0, 1);
    for (int64_t t = 0; t < T; t++) {
        for (int64_t j = 0; j <= t; j++) {
            add_scaled(dx + v_at(g, j), dv_d + t * D, dv_p[t * T + j], D);
            add_scaled(dx + q_at(g, t), dq_k + j * D, scale * dq_s[t * T + j], D);
            add_scaled(dx + k_at(g, j), dk_q + t * D, scale * dk_s[t * T + j], D);
        }
    }
    for (int64_t t = 0; t < T; t++) {
        rotate(dx + q_at(g, t), cosines + t * (D / 2), sines + t * (D / 2), D, -1);
        rotate(dx + k_at(g, t), cosines + t * (D / 2), sines + t * (D / 2), D, -1);
    }
    double *const owned[] = {dS, dv_p, dv_d, dq_s, dq_k, dk_s, dk_q};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) free(owned[i]);
}

static struct head head_of(int64_t B, int64_t T, int64_t H, int64_t D, int64_t sequence, int64_t h,
                           const struct fpl_attention *quantized) {
    const int64_t before = quantized ? quantized->first_sequence : 0;
    return (struct head){.T = T,
                         .C = H * D,
                         .D = D,
                         .h = h,
                         .quantized = quantized,
                         .replica = (int)(sequence / B),
                         .number = (uint64_t)((before + sequence % B) * H + h)};
}

void ref_attention_forward(int R, int64_t B, int64_t T, int64_t H, int64_t D, const double *cosines,
                           const double *sines, double *qkv, double *probs, double *out,
                           const struct fpl_attention *quantized) {
    const int64_t C = H * D;
    for (int64_t sequence = 0; sequence < R * B; sequence++) {
        for (int64_t h = 0; h < H; h++) {
            const struct head g = head_of(B, T, H, D, sequence, h, quantized);
            head_forward(&g, qkv + sequence * T * 3 * C, cosines, sines, probs + (sequence * H + h) * T * T,
                         out + sequence * T * C);
        }
    }
}

void ref_attention_backward(int R, int64_t B, int64_t T, int64_t H, int64_t D, const double *cosines,
                            const double *sines, const double *qkv, const double *probs, const double *dout,
                            double *dqkv, const struct fpl_attention *quantized) {
    const int64_t C = H * D;
    for (int64_t i = 0; i < R * B * T * 3 * C; i++) dqkv[i] = 0;
    for (int64_t sequence = 0; sequence < R * B; sequence++) {
        for (int64_t h = 0; h < H; h++) {
            const struct head g = head_of(B, T, H, D, sequence, h, quantized);
            head_backward(&g, qkv + sequence * T * 3 * C, cosines, sines, probs + (sequence * H + h) * T * T,
                          dout + sequence * T * C, dqkv + sequence * T * 3 * C);
        }
    }
}

int64_t ref_attention_kept(int64_t B, int64_t T, int64_t H, int64_t D, int quantized) {
    (void)D;
    (void)quantized;
    return B * H * T * T;
}
