/* reference_attention.c - causal attention with rotary positions, forward and backward.
 *
 * Row b*T + t of qkv holds q, k, v of H heads of width D.  Rotary positions (RoFormer,
 * arXiv 2104.09864, half-split pairs): with c, s the cosine and sine of position t, pair i,
 *   (x_i, x_{i+D/2}) -> (c x_i - s x_{i+D/2},  c x_{i+D/2} + s x_i)
 * whose transpose carries gradients back.  Per head, with P = softmax(q k^T / sqrt(D)):
 *   out = P v,   dv = P^T dout,   dP = dout v^T,
 *   dS_tj = P_tj (dP_tj - sum_k P_tk dP_tk),   dq = dS k / sqrt(D),   dk = dS^T q / sqrt(D).
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

/* Where head h of position t lives in the rows of one sequence. */
struct head {
    int64_t T, C, D, h;
};

static int64_t q_at(struct head g, int64_t t) { return t * 3 * g.C + g.h * g.D; }
static int64_t k_at(struct head g, int64_t t) { return q_at(g, t) + g.C; }
static int64_t v_at(struct head g, int64_t t) { return q_at(g, t) + 2 * g.C; }

static double dot(const double *a, const double *b, int64_t D) {
    double sum = 0;
    for (int64_t i = 0; i < D; i++) sum += a[i] * b[i];
    return sum;
}

static void add_scaled(double *to, const double *from, double by, int64_t D) {
    for (int64_t i = 0; i < D; i++) to[i] += by * from[i];
}

static void head_forward(struct head g, double *x, const double *cosines, const double *sines, double *P,
                         double *out) {
    for (int64_t t = 0; t < g.T; t++) {
        rotate(x + q_at(g, t), cosines + t * (g.D / 2), sines + t * (g.D / 2), g.D, 1);
        rotate(x + k_at(g, t), cosines + t * (g.D / 2), sines + t * (g.D / 2), g.D, 1);
    }
    for (int64_t t = 0; t < g.T; t++) {
        double *p = P + t * g.T, *o = out + t * g.C + g.h * g.D;
        double max = 0, sum = 0;
        for (int64_t j = 0; j <= t; j++) {
            p[j] = dot(x + q_at(g, t), x + k_at(g, j), g.D) / sqrt((double)g.D);
            max = j == 0 || p[j] > max ? p[j] : max;
        }
        for (int64_t j = 0; j <= t; j++) sum += p[j] = exp(p[j] - max);
        for (int64_t j = 0; j < g.T; j++) p[j] = j <= t ? p[j] / sum : 0;
        for (int64_t i = 0; i < g.D; i++) o[i] = 0;
        for (int64_t j = 0; j <= t; j++) add_scaled(o, x + v_at(g, j), p[j], g.D);
    }
}

static void head_backward(struct head g, const double *x, const double *cosines, const double *sines,
                          const double *P, const double *dout, double *dx) {
    double *dP = malloc((size_t)g.T * sizeof *dP);
    if (!dP) abort();
    for (int64_t t = 0; t < g.T; t++) {
        const double *p = P + t * g.T, *d = dout + t * g.C + g.h * g.D;
        double mean = 0;
        for (int64_t j = 0; j <= t; j++) {
            dP[j] = dot(d, x + v_at(g, j), g.D);
            mean += p[j] * dP[j];
            add_scaled(dx + v_at(g, j), d, p[j], g.D);
        }
        for (int64_t j = 0; j <= t; j++) {
            const double dS = p[j] * (dP[j] - mean) / sqrt((double)g.D);
            add_scaled(dx + q_at(g, t), x + k_at(g, j), dS, g.D);
            add_scaled(dx + k_at(g, j), x + q_at(g, t), dS, g.D);
        }
    }
    for (int64_t t = 0; t < g.T; t++) {
        rotate(dx + q_at(g, t), cosines + t * (g.D / 2), sines + t * (g.D / 2), g.D, -1);
        rotate(dx + k_at(g, t), cosines + t * (g.D / 2), sines + t * (g.D / 2), g.D, -1);
    }
    free(dP);
}

void ref_attention_forward(int R, int64_t B, int64_t T, int64_t H, int64_t D, const double *cosines,
                           const double *sines, double *qkv, double *probs, double *out) {
    const int64_t C = H * D;
    for (int64_t sequence = 0; sequence < R * B; sequence++) {
        for (int64_t h = 0; h < H; h++)
            head_forward((struct head){T, C, D, h}, qkv + sequence * T * 3 * C, cosines, sines,
                         probs + (sequence * H + h) * T * T, out + sequence * T * C);
    }
}

void ref_attention_backward(int R, int64_t B, int64_t T, int64_t H, int64_t D, const double *cosines,
                            const double *sines, const double *qkv, const double *probs, const double *dout,
                            double *dqkv) {
    const int64_t C = H * D;
    for (int64_t i = 0; i < R * B * T * 3 * C; i++) dqkv[i] = 0;
    for (int64_t sequence = 0; sequence < R * B; sequence++) {
        for (int64_t h = 0; h < H; h++)
            head_backward((struct head){T, C, D, h}, qkv + sequence * T * 3 * C, cosines, sines,
                          probs + (sequence * H + h) * T * T, dout + sequence * T * C,
                          dqkv + sequence * T * 3 * C);
    }
}
