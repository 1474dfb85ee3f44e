/* average_n.c - Chinchilla's form for models that are pruned while they train (arXiv 2501.12486).
 *
 *   L = E + A/N_mean^alpha + B/D^beta,     N_mean = parameters averaged over the tokens of training
 *
 * A dense model is the case N_mean = N.  The paper's finding is that one set of constants describes
 * dense and pruned runs alike, so the preset is Chinchilla's.  For the gradual schedule from N0 to N1,
 *
 *   N(t) = N1 + (N0 - N1) (1 - (t - b)/(e - b))^3 for b <= t <= e      (arXiv 1710.01878)
 *
 * over the shares b to e of training, N_mean = b N0 + (e - b) (N1 + (N0 - N1)/4) + (1 - e) N1.
 */
#include <math.h>

#include "base.h"

static const struct fpl_law_param params[] = {
    {"E", "nats", 0.0, 20.0, 1.0, 0.0, 0.0, 0, "loss of infinite model and data"},
    {"A", "nats", -15.0, 8.0, 3.0, 0.0, 0.0, 0, "prefactor of mean model size"},
    {"alpha", "", 0.01, 2.0, 0.5, 0.0, 0.0, 0, "exponent of mean model size"},
    {"B", "nats", -15.0, 8.0, 3.0, 0.0, 0.0, 0, "prefactor of data size"},
    {"beta", "", 0.01, 2.0, 0.5, 0.0, 0.0, 0, "exponent of data size"},
};

double fpl_pruned_mean(double before, double after, double begin, double end) {
    return begin * before + (end - begin) * (after + 0.25 * (before - after)) + (1.0 - end) * after;
}

static void place(const struct fpl_law *law, const struct fpl_question *q, struct fpl_law_at *at) {
    fpl_place_classic(law, q, at);
    at->n = log(q->value[FPL_VAR_N_MEAN]);
    at->quantized = 0;
}

static int start(const struct fpl_problem *problem, double (*theta)[FPL_LAW_PARAMS], int room) {
    struct fpl_levels best[8];
    const int count = fpl_start_levels(problem, NULL, 0, best, room < 8 ? room : 8);
    for (int i = 0; i < count; i++) problem->law->levels->start(&best[i], &problem->centre, theta[i]);
    return count;
}

static const struct fpl_takes takes[] = {
    {FPL_VAR_N_MEAN, FPL_REQUIRED}, {FPL_VAR_D, FPL_REQUIRED}, {FPL_VARIABLES, 0}};

static const struct fpl_preset presets[] = {
    {"refit",
     "arXiv 2404.10102 (Chinchilla's constants; that they hold for N_mean is arXiv 2501.12486)",
     {1.8172, 482.01, 0.3478, 2085.43, 0.3658},
     {0, 0},
     {0, 0}},
};

const struct fpl_law fpl_law_average_n = {
    .name = "average-n",
    .citation = "arXiv 2501.12486",
    .formula = "L = E + A/N_mean^alpha + B/D^beta",
    .params = 5,
    .param = params,
    .use = FPL_ONLY_BEST,
    .floor_at = 0,
    .penalty_at = -1,
    .shift_at = -1,
    .levels = &fpl_base_chinchilla,
    .publish = fpl_levels_publish,
    .internal = fpl_levels_internal,
    .place = place,
    .log_loss = fpl_law_one,
    .rows = fpl_levels_rows,
    .start = start,
    .takes = takes,
    .cell_keys = 2,
    .presets = presets,
    .preset_count = 1,
};
