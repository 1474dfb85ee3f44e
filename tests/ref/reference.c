/* reference.c - rows: embedding, RMSNorm, SwiGLU, cross-entropy, norm and optimizer.
 *
 * Formulas, per row of width C:
 *   RMSNorm (arXiv 1910.07467)  s = (mean(h^2) + eps)^-1/2,  y_i = g_i h_i s
 *     dh_i = s g_i dy_i - h_i s^3 / C sum_j g_j dy_j h_j,   dg_i += sum over rows dy_i h_i s
 *   SwiGLU (arXiv 2002.05202)   out = a sigma(a) u
 *     da = dout u sigma(a) (1 + a (1 - sigma(a))),  du = dout a sigma(a)
 *   cross-entropy               loss = log sum_j exp(z_j - max) + max - z_target
 *   AdamW (arXiv 1711.05101)    m, v exponential means of g and g^2, corrected by 1 - beta^t,
 *     p -= lr (m' / (sqrt(v') + eps) + decay p);  then m, v, p through their quantizers
 */
#include "reference.h"

#include <math.h>

void ref_embedding_forward(int R, int64_t n, int64_t C, int64_t V, const int32_t *tokens, const double *table,
                           double *out) {
    for (int64_t row = 0; row < R * n; row++) {
        const double *from = table + (row / n * V + tokens[row]) * C;
        for (int64_t i = 0; i < C; i++) out[row * C + i] = from[i];
    }
}

void ref_embedding_backward(int R, int64_t n, int64_t C, int64_t V, const int32_t *tokens, const double *dout,
                            double *dtable) {
    for (int64_t row = 0; row < R * n; row++) {
        double *to = dtable + (row / n * V + tokens[row]) * C;
        for (int64_t i = 0; i < C; i++) to[i] += dout[row * C + i];
    }
}

void ref_rmsnorm_forward(int R, int64_t n, int64_t C, double eps, const double *x, const double *delta,
                         const double *gain, double *h, double *y, double *rstd) {
    for (int64_t row = 0; row < R * n; row++) {
        const double *g = gain + row / n * C;
        double squares = 0;
        for (int64_t i = row * C; i < (row + 1) * C; i++) {
            const double v = delta ? x[i] + delta[i] : x[i];
            squares += v * v;
            y[i] = v;
            if (delta) h[i] = v;
        }
        rstd[row] = 1 / sqrt(squares / (double)C + eps);
        for (int64_t i = 0; i < C; i++) y[row * C + i] *= g[i] * rstd[row];
    }
}

void ref_rmsnorm_backward(int R, int64_t n, int64_t C, const double *dy, const double *h, const double *gain,
                          const double *rstd, const double *dh_in, double *dh, double *dgain) {
    for (int64_t row = 0; row < R * n; row++) {
        const double *g = gain + row / n * C, *dy_row = dy + row * C, *h_row = h + row * C;
        const double s = rstd[row];
        double dot = 0;
        for (int64_t i = 0; i < C; i++) {
            dot += g[i] * dy_row[i] * h_row[i];
            dgain[row / n * C + i] += dy_row[i] * h_row[i] * s;
        }
        for (int64_t i = 0; i < C; i++) {
            const double residual = dh_in ? dh_in[row * C + i] : 0;
            dh[row * C + i] = residual + s * g[i] * dy_row[i] - h_row[i] * s * s * s * dot / (double)C;
        }
    }
}

static double sigmoid(double a) { return 1 / (1 + exp(-a)); }

void ref_swiglu_forward(int R, int64_t n, int64_t F, const double *gate_up, double *out) {
    for (int64_t row = 0; row < R * n; row++) {
        const double *gate = gate_up + row * 2 * F, *up = gate + F;
        for (int64_t i = 0; i < F; i++) out[row * F + i] = gate[i] * sigmoid(gate[i]) * up[i];
    }
}

void ref_swiglu_backward(int R, int64_t n, int64_t F, const double *gate_up, const double *dout,
                         double *dgate_up) {
    for (int64_t row = 0; row < R * n; row++) {
        const double *gate = gate_up + row * 2 * F, *up = gate + F;
        double *dgate = dgate_up + row * 2 * F, *dup = dgate + F;
        for (int64_t i = 0; i < F; i++) {
            const double a = gate[i], s = sigmoid(a), d = dout[row * F + i], u = up[i];
            dup[i] = d * a * s;
            dgate[i] = d * u * s * (1 + a * sigmoid(-a));
        }
    }
}

void ref_cross_entropy(int R, int64_t n, int64_t V, const double *logits, const int32_t *targets,
                       double scale, double *loss, double *dlogits) {
    for (int64_t row = 0; row < R * n; row++) {
        const double *z = logits + row * V;
        double max = z[0], sum = 0;
        for (int64_t j = 1; j < V; j++) max = z[j] > max ? z[j] : max;
        for (int64_t j = 0; j < V; j++) sum += exp(z[j] - max);
        loss[row] = log(sum) + max - z[targets[row]];
        if (!dlogits) continue;
        for (int64_t j = 0; j < V; j++)
            dlogits[row * V + j] = scale * (exp(z[j] - max) / sum - (j == targets[row] ? 1 : 0));
    }
}

void ref_sqnorm(int R, const struct fpl_segment *segments, int count, const double *g, double *out) {
    for (int r = 0; r < R; r++) {
        out[r] = 0;
        for (int s = 0; s < count; s++) {
            const double *from = g + segments[s].offset + r * segments[s].size;
            for (int64_t i = 0; i < segments[s].size; i++) out[r] += from[i] * from[i];
        }
    }
}

void ref_adamw(const struct fpl_adamw *a, const struct fpl_segment *segments, int count, double *p,
               const double *g, double *m, double *v) {
    const double correct1 = 1 - pow(a->beta1, (double)a->step), correct2 = 1 - pow(a->beta2, (double)a->step);
    for (int r = 0; r < a->R; r++) {
        if (a->active && !a->active[r]) continue;
        const double norm = a->clip > 0 ? sqrt(a->sqnorm[r]) : 0;
        const double shrink = a->clip > 0 && norm > a->clip ? a->clip / norm : 1;
        for (int s = 0; s < count; s++) {
            const double decay = segments[s].decay ? (double)a->decay[r] : 0;
            const int64_t first = segments[s].offset + r * segments[s].size;
            for (int64_t i = first; i < first + segments[s].size; i++) {
                const double gradient = g[i] * shrink;
                m[i] = a->beta1 * m[i] + (1 - a->beta1) * gradient;
                v[i] = a->beta2 * v[i] + (1 - a->beta2) * gradient * gradient;
                const double step = m[i] / correct1 / (sqrt(v[i] / correct2) + a->eps);
                p[i] -= (double)a->lr[r] * (step + decay * p[i]);
            }
        }
    }
    ref_quantize_tensors(a->R, segments, count, a->qm, a->active, m, a->nonfinite);
    ref_quantize_tensors(a->R, segments, count, a->qv, a->active, v, a->nonfinite);
    ref_quantize_tensors(a->R, segments, count, a->qmaster, a->active, p, a->nonfinite);
}
