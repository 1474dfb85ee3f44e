/* annealing.c - a whole loss curve under any learning-rate schedule (arXiv 2408.11029).
 *
 *   L(s) = L0 + A S1(s)^-alpha - C S2(s)
 *
 * S1 is the sum of the learning rates up to step s, S2 the annealing area, the sum of a momentum of
 * the rate's falls with memory lambda = 0.999 (curve.c).  A falling rate lowers the loss by C S2 at once,
 * at the price of a smaller S1 later.  Valid after warm-up, for one model size and batch.
 *
 * theta = L0, ln(A S1_0^-alpha), alpha, ln C; n stands for ln S1.
 */
#include <math.h>

#include "problem.h"

enum { L0, A, ALPHA, C, PARAMS };

static const struct fpl_law_param params[PARAMS] = {
    {"L0", "nats", 0.0, 20.0, 1.0, 0.0, 0.0, 0, "loss after infinitely many steps, not annealed"},
    {"A", "nats", -15.0, 8.0, 3.0, 0.0, 0.0, 0, "prefactor of the summed rate"},
    {"alpha", "", 0.01, 2.0, 0.5, 0.0, 0.0, 0, "exponent of the summed rate"},
    {"C", "nats", -25.0, 15.0, 3.0, 0.0, 0.0, 0, "gain of annealing"},
};

static const struct fpl_form forms[PARAMS] = {
    [A] = {.log = 1, .link = {FPL_LINK_N(ALPHA, 1.0)}},
    [C] = {.log = 1},
};

static void place(const struct fpl_law *law, const struct fpl_question *q, struct fpl_law_at *at) {
    double lr, sum, area;
    fpl_place_classic(law, q, at);
    fpl_curve_at(q->curve, q->value[FPL_VAR_STEP], &lr, &sum, &area);
    at->n = log(sum);
    at->d = 0.0;
    at->z[0] = area;
    at->quantized = 0;
}

static double log_loss(const struct fpl_law *law, const double *t, const struct fpl_law_at *at,
                       double *grad) {
    (void)law;
    const double a = exp(t[A] - t[ALPHA] * at->n), gain = exp(t[C]) * at->z[0], loss = t[L0] + a - gain;
    if (grad != NULL) {
        const double by = 1.0 / loss;
        grad[L0] = by;
        grad[A] = a * by;
        grad[ALPHA] = -a * at->n * by;
        grad[C] = -gain * by;
    }
    return log(loss);
}

/* Exponents by a grid; L0, A and -C by least squares of relative residuals, which are linear. */
static int start(const struct fpl_problem *problem, double (*theta)[FPL_LAW_PARAMS], int room) {
    static const double alphas[] = {0.1, 0.2, 0.35, 0.5, 0.8, 1.2};
    int count = 0;
    for (int k = 0; k < 6 && count < room; k++) {
        double a[9] = {0.0}, b[3] = {0.0};
        for (size_t i = 0; i < problem->count; i++) {
            const struct fpl_law_at *at = &problem->row[i].at;
            const double w = exp(-problem->row[i].target),
                         f[3] = {w, w * exp(-alphas[k] * at->n), -w * at->z[0]};
            for (int r = 0; r < 3; r++) {
                for (int s = 0; s < 3; s++) a[3 * r + s] += f[r] * f[s];
                b[r] += f[r];
            }
        }
        double x[3];
        fpl_nonnegative(a, b, x, 3);
        double *t = theta[count++];
        t[L0] = x[0];
        t[A] = log(fmax(x[1], 1e-4));
        t[ALPHA] = alphas[k];
        t[C] = log(fmax(x[2], 1e-6));
    }
    return count;
}

static double tell_sum(const struct fpl_fit *fit, const double *t, const struct fpl_question *q) {
    double lr, sum, area;
    (void)fit;
    (void)t;
    fpl_curve_at(q->curve, q->value[FPL_VAR_STEP], &lr, &sum, &area);
    return sum;
}
static double tell_area(const struct fpl_fit *fit, const double *t, const struct fpl_question *q) {
    double lr, sum, area;
    (void)fit;
    (void)t;
    fpl_curve_at(q->curve, q->value[FPL_VAR_STEP], &lr, &sum, &area);
    return area;
}
static double tell_gain(const struct fpl_fit *fit, const double *t, const struct fpl_question *q) {
    return exp(t[C]) * tell_area(fit, t, q);
}

static const struct fpl_teller tellers[] = {
    {"S1", "", "sum of the learning rates", tell_sum},
    {"S2", "", "annealing area", tell_area},
    {"annealing_gain", "nats", "loss that annealing has saved so far", tell_gain},
    {NULL, NULL, NULL, NULL},
};

static const struct fpl_takes takes[] = {{FPL_VAR_STEP, FPL_OPTIONAL | FPL_SETTING}, {FPL_VARIABLES, 0}};

const struct fpl_law fpl_law_annealing = {
    .name = "annealing",
    .citation = "arXiv 2408.11029",
    .formula = "L(s) = L0 + A S1^-alpha - C S2",
    .params = PARAMS,
    .param = params,
    .use = FPL_CURVES | FPL_ANY_FORMAT | FPL_ONE_CELL,
    .floor_at = -1,
    .penalty_at = -1,
    .shift_at = -1,
    .form = forms,
    .publish = fpl_publish,
    .internal = fpl_internal,
    .place = place,
    .log_loss = log_loss,
    .start = start,
    .takes = takes,
    .cell_keys = 0,
    .tellers = tellers,
};
