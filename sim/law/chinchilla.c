/* chinchilla.c - loss from model size and data size (arXiv 2203.15556).
 *
 *   L(N, D) = E + A/N^alpha + B/D^beta
 *
 * theta = E, ln(A/N0^alpha), alpha, ln(B/D0^beta), beta.  The published preset is the refit of
 * the paper's own figure (arXiv 2404.10102): summed Huber with delta 1e-3 on log loss.
 * Of a cell (N, D) only runs at its best learning rate and batch are used, and only runs that
 * quantize nothing: the law knows neither.
 */
#include <math.h>

#include "law_internal.h"

enum { E, A, ALPHA, B, BETA, PARAMS };

static const struct fpl_law_param params[PARAMS] = {
    {"E", "nats", 0.0, 20.0, 1.0, 0.0, 0.0, 0, "loss of infinite model and data"},
    {"A", "nats", -15.0, 8.0, 3.0, 0.0, 0.0, 0, "prefactor of model size"},
    {"alpha", "", 0.01, 2.0, 0.5, 0.0, 0.0, 0, "exponent of model size"},
    {"B", "nats", -15.0, 8.0, 3.0, 0.0, 0.0, 0, "prefactor of data size"},
    {"beta", "", 0.01, 2.0, 0.5, 0.0, 0.0, 0, "exponent of data size"},
};

static void publish(const struct fpl_law *law, const double *t, const struct fpl_centre *c, double *p) {
    (void)law;
    p[E] = t[E];
    p[A] = exp(t[A] + t[ALPHA] * c->n);
    p[ALPHA] = t[ALPHA];
    p[B] = exp(t[B] + t[BETA] * c->d);
    p[BETA] = t[BETA];
}

static void internal(const struct fpl_law *law, const double *p, const struct fpl_centre *c, double *t) {
    (void)law;
    t[E] = p[E];
    t[A] = log(p[A]) - p[ALPHA] * c->n;
    t[ALPHA] = p[ALPHA];
    t[B] = log(p[B]) - p[BETA] * c->d;
    t[BETA] = p[BETA];
}

static double log_loss(const struct fpl_law *law, const double *t, const struct fpl_law_at *at,
                       double *grad) {
    (void)law;
    const double a = exp(t[A] - t[ALPHA] * at->n), b = exp(t[B] - t[BETA] * at->d), loss = t[E] + a + b;
    if (grad != NULL) {
        const double by = 1.0 / loss;
        grad[E] = by;
        grad[A] = a * by;
        grad[ALPHA] = -a * at->n * by;
        grad[B] = b * by;
        grad[BETA] = -b * at->d * by;
    }
    return log(loss);
}

static int start(const struct fpl_problem *problem, double (*theta)[FPL_LAW_PARAMS], int room) {
    struct fpl_levels best[8];
    const int count = fpl_start_levels(problem, NULL, 0, best, room < 8 ? room : 8);
    for (int i = 0; i < count; i++) {
        theta[i][E] = best[i].E;
        theta[i][A] = best[i].a;
        theta[i][ALPHA] = best[i].alpha;
        theta[i][B] = best[i].b;
        theta[i][BETA] = best[i].beta;
    }
    return count;
}

static const struct fpl_preset presets[] = {
    {"refit",
     "arXiv 2404.10102 (refit of arXiv 2203.15556)",
     {1.8172, 482.01, 0.3478, 2085.43, 0.3658},
     {0, 0},
     {0, 0}},
};

const struct fpl_law fpl_law_chinchilla = {
    .name = "chinchilla",
    .citation = "arXiv 2203.15556; refit arXiv 2404.10102",
    .formula = "L = E + A/N^alpha + B/D^beta",
    .params = PARAMS,
    .param = params,
    .use = FPL_ONLY_BEST,
    .floor_at = E,
    .penalty_at = -1,
    .shift_at = -1,
    .publish = publish,
    .internal = internal,
    .log_loss = log_loss,
    .start = start,
    .takes = fpl_takes_nd,
    .cell_keys = 2,
    .tellers = fpl_tellers_compute,
    .presets = presets,
    .preset_count = 1,
};
