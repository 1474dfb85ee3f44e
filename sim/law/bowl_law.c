/* bowl_law.c - the landscape of learning rate and batch at one model and data size.
 *
 *   ln L = ln L_opt + k1 K(u + r1 v; s1) + k2 K(v + r2 u; s2)
 *   u = ln(lr/lr_opt), v = ln(batch/batch_opt),  K of bowl.c
 *
 * Convex everywhere by construction.  A table with several (N, D) is refused: `joint` fits those.  The
 * preset is the bowl of the 1,911 published runs of Step Law at N = 4e8, D = 2.5e10, fitted to them by
 * the joint law (shared notes, section 4): a computed one, not the paper's.
 */
#include <math.h>

#include "problem.h"

enum { L_OPT, LR_OPT, BATCH_OPT, K1, R1, S1, K2, R2, S2, PARAMS };

static const struct fpl_law_param params[PARAMS] = {
    {"loss_opt", "nats", -5.0, 5.0, 1.0, 0.0, 0.0, 0, "loss at the optimum"},
    {"lr_opt", "", -60.0, 20.0, 1.5, 0.0, 0.0, 0, "optimal peak learning rate"},
    {"batch_opt", "tokens", -20.0, 60.0, 1.5, 0.0, 0.0, 0, "optimal batch"},
    {"bowl_k1", "", -14.0, 3.0, 3.0, 0.0, 0.0, 0, "curvature along the first direction"},
    {"bowl_r1", "", -3.0, 3.0, 0.7, 1.0, 0.0, 1, "first direction: ln lr + r1 ln batch"},
    {"bowl_s1", "", -3.0, 3.0, 0.7, 1.0, 0.0, 1, "its skew"},
    {"bowl_k2", "", -14.0, 3.0, 3.0, 0.0, 0.0, 0, "curvature along the second direction"},
    {"bowl_r2", "", -3.0, 3.0, 0.7, 1.0, 0.0, 1, "second direction: ln batch + r2 ln lr"},
    {"bowl_s2", "", -3.0, 3.0, 0.7, 1.0, 0.0, 1, "its skew"},
};

static const struct fpl_form forms[PARAMS] = {
    [L_OPT] = {.log = 1}, [LR_OPT] = {.log = 1}, [BATCH_OPT] = {.log = 1},
    [K1] = {.log = 1},    [K2] = {.log = 1},
};

static void place(const struct fpl_law *law, const struct fpl_question *q, struct fpl_law_at *at) {
    fpl_place_classic(law, q, at);
    at->n = at->d = 0.0;
    at->quantized = 0;
}

static void zero(double *grad) {
    for (int j = 0; grad != NULL && j < PARAMS; j++) grad[j] = 0.0;
}

static double log_lr(const struct fpl_law *law, const double *t, const struct fpl_law_at *at, double *grad) {
    (void)law;
    (void)at;
    zero(grad);
    if (grad != NULL) grad[LR_OPT] = 1.0;
    return t[LR_OPT];
}

static double log_batch(const struct fpl_law *law, const double *t, const struct fpl_law_at *at,
                        double *grad) {
    (void)law;
    (void)at;
    zero(grad);
    if (grad != NULL) grad[BATCH_OPT] = 1.0;
    return t[BATCH_OPT];
}

static double log_loss(const struct fpl_law *law, const double *t, const struct fpl_law_at *at,
                       double *grad) {
    (void)law;
    const double u = isnan(at->x) ? 0.0 : at->x - t[LR_OPT], v = isnan(at->y) ? 0.0 : at->y - t[BATCH_OPT];
    if (grad == NULL) return t[L_OPT] + fpl_bowl(t + K1, u, v, NULL, NULL, NULL);
    double du, dv;
    const double q = fpl_bowl(t + K1, u, v, &du, &dv, grad + K1);
    grad[L_OPT] = 1.0;
    grad[LR_OPT] = isnan(at->x) ? 0.0 : -du;
    grad[BATCH_OPT] = isnan(at->y) ? 0.0 : -dv;
    return t[L_OPT] + q;
}

/* The quadratic bowl of a regression, with several first directions and skews. */
static int start(const struct fpl_problem *problem, double (*theta)[FPL_LAW_PARAMS], int room) {
    static const double r1s[] = {0.5, 0.0, 1.0, -0.5}, skews[][2] = {{0.6, -0.6}, {0.0, 0.0}, {-0.6, 0.6}};
    double p[6], h[3];
    int count = 0;
    fpl_start_bowl(problem, p, h);
    for (int r = 0; r < 4; r++)
        for (int s = 0; s < 3 && count < room; s++) {
            double *t = theta[count++];
            t[L_OPT] = log(problem->least_loss);
            t[LR_OPT] = p[0];
            t[BATCH_OPT] = p[3];
            fpl_bowl_of_form(h, r1s[r], t + K1);
            t[S1] = skews[s][0];
            t[S2] = skews[s][1];
        }
    return count;
}

static const struct fpl_takes takes[] = {{FPL_VAR_LR, FPL_REQUIRED | FPL_SETTING},
                                         {FPL_VAR_BATCH, FPL_REQUIRED | FPL_SETTING},
                                         {FPL_VARIABLES, 0}};

static const struct fpl_preset presets[] = {
    {"steplaw",
     "computed from the runs of arXiv 2503.04715 at N = 4e8, D = 2.5e10",
     {2.3245, 0.0021702672326500, 499332.81007037, 0.00307, 0.582, 1.075, 0.00514, -0.815, -0.540},
     {0, 0},
     {0, 0}},
};

const struct fpl_law fpl_law_bowl = {
    .name = "bowl",
    .citation = "runs of arXiv 2503.04715; form of this project",
    .formula = "ln L = ln loss_opt + k1 K(u + r1 v; s1) + k2 K(v + r2 u; s2), u = ln lr/lr_opt, v = ln "
               "batch/batch_opt",
    .params = PARAMS,
    .param = params,
    .use = FPL_NEED_LR | FPL_ONLY_NEAR_BEST | FPL_ANY_FORMAT | FPL_ONE_CELL,
    .floor_at = -1,
    .penalty_at = -1,
    .shift_at = -1,
    .bowl_at = K1,
    .form = forms,
    .publish = fpl_publish,
    .internal = fpl_internal,
    .place = place,
    .log_loss = log_loss,
    .log_lr = log_lr,
    .log_batch = log_batch,
    .start = start,
    .takes = takes,
    .cell_keys = 0,
    .tellers = fpl_tellers_bowl,
    .presets = presets,
    .preset_count = 1,
};
