/* joint_rows.c - values and gradients of joint, a block of rows at a time: base, penalty, bowl (joint.c has
 * the formula).  Rows that are not quantized cost nothing for the penalty.
 */
#include "joint.h"

#include <math.h>
#include <string.h>

#include "../../formats/clones.h"
#include "bowl.h"

/* The penalty of every row in nats; 0 where nothing is quantized. */
static FPL_CLONES void penalties(const struct fpl_block *at, const double t[3], double alpha, double beta,
                                 lanes *out) {
    const double t0 = t[0], t1 = t[1], t2 = t[2];
    for (int k = 0; k < at->count; k++)
        out[k] = at->g[k] * exp_of(beta * at->d[k] - alpha * at->n[k] - t0 - t1 * at->e[k] - t2 * at->m[k]);
}

/* From the base in out->value and the penalty to ln(base + penalty) + bowl, with the gradient of the tail but
 * for the penalty's; by: 1/(base + penalty); du: slope of the bowl in ln lr. */
static FPL_CLONES void add_bowl(const struct fpl_block *at, const double *tail, const lanes *penalty,
                                const struct fpl_values *out, lanes *grad, lanes *by, lanes *du) {
    const double k1 = exp(tail[K1]), k2 = exp(tail[K2]), shift = tail[SHIFT], lr_c = tail[LR_C],
                 lr_n = tail[LR_N], lr_d = tail[LR_D], batch_c = tail[BATCH_C], batch_n = tail[BATCH_N],
                 batch_d = tail[BATCH_D];
    const double bowl[6] = {tail[K1], tail[R1], tail[S1], tail[K2], tail[R2], tail[S2]};
    const lanes none = all_of(0.0);
    const int s = out->stride;
    for (int k = 0; k < at->count; k++) {
        const lanes n = at->n[k], d = at->d[k], base = out->value[k] + penalty[k];
        const lane_mask has_x = at->x[k] == at->x[k], has_y = at->y[k] == at->y[k]; /* NaN: its optimum */
        const lanes u = lanes_if(has_x, at->x[k] - (lr_c + lr_n * n + lr_d * d) + shift * penalty[k], none),
                    v = lanes_if(has_y, at->y[k] - (batch_c + batch_n * n + batch_d * d), none);
        struct fpl_bowl_slopes to;
        out->value[k] = log_of(base) + bowl_of(bowl, k1, k2, u, v, &to);
        by[k] = 1.0 / base;
        du[k] = lanes_if(has_x, to.du, none);
        const lanes dv = lanes_if(has_y, to.dv, none);
        grad[LR_C * s + k] = -du[k];
        grad[LR_N * s + k] = -du[k] * n;
        grad[LR_D * s + k] = -du[k] * d;
        grad[BATCH_C * s + k] = -dv;
        grad[BATCH_N * s + k] = -dv * n;
        grad[BATCH_D * s + k] = -dv * d;
        grad[K1 * s + k] = to.dt[0];
        grad[R1 * s + k] = to.dt[1];
        grad[S1 * s + k] = to.dt[2];
        grad[K2 * s + k] = to.dt[3];
        grad[R2 * s + k] = to.dt[4];
        grad[S2 * s + k] = to.dt[5];
    }
}

static FPL_CLONES void scale_columns(int count, int params, const lanes *by, const struct fpl_values *out) {
    for (int j = 0; j < params; j++)
        for (int k = 0; k < count; k++) out->grad[j * out->stride + k] *= by[k];
}

/* The penalty's own gradient and what it adds to those of the exponents. */
static FPL_CLONES void add_penalty(const struct fpl_block *at, double shift, const lanes *penalty,
                                   const lanes *by, const lanes *du, lanes *by_alpha, lanes *by_beta,
                                   lanes *grad, int s) {
    for (int k = 0; k < at->count; k++) {
        const lanes p = penalty[k] * (by[k] + du[k] * shift);
        by_alpha[k] -= p * at->n[k];
        by_beta[k] += p * at->d[k];
        grad[GAMMA * s + k] = -p;
        grad[DELTA * s + k] = -p * at->e[k];
        grad[NU * s + k] = -p * at->m[k];
        grad[SHIFT * s + k] = du[k] * penalty[k];
    }
}

static void clear_column(lanes *column, int count) { memset(column, 0, (size_t)count * sizeof *column); }

void fpl_joint_rows(const struct fpl_law *law, const double *t, const struct fpl_block *at,
                    const struct fpl_values *out) {
    const double *tail = t + law->penalty_at;
    const int alpha = joint_alpha(law), beta = joint_beta(law), s = out->stride;
    lanes *grad = out->grad + law->penalty_at * s;
    lanes penalty[FPL_BLOCK_LANES], by[FPL_BLOCK_LANES], du[FPL_BLOCK_LANES], by_d[FPL_BLOCK_LANES];
    law->base->rows(t, at, out, by_d);
    for (int j = law->base->params; j < law->penalty_at; j++) /* exponents of the penalty alone */
        clear_column(out->grad + j * s, at->count);
    if (at->quantized)
        penalties(at, tail, t[alpha], t[beta], penalty);
    else
        clear_column(penalty, at->count);
    add_bowl(at, tail, penalty, out, grad, by, du);
    scale_columns(at->count, law->base->params, by, out);
    if (at->quantized) {
        add_penalty(at, tail[SHIFT], penalty, by, du, out->grad + alpha * s, out->grad + beta * s, grad, s);
    } else {
        const int silent[] = {GAMMA, DELTA, NU, SHIFT};
        for (int j = 0; j < 4; j++) clear_column(grad + silent[j] * s, at->count);
    }
}
