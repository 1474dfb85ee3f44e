/* chinchilla.c - loss from model size and data size (arXiv 2203.15556).
 *
 *   L(N, D) = E + A/N^alpha + B/D^beta
 *
 * theta = E, ln(A/N0^alpha), alpha, ln(B/D0^beta), beta.  The published preset is the refit of
 * the paper's own figure (arXiv 2404.10102): summed Huber with delta 1e-3 on log loss.
 * Of a cell (N, D) only runs at its best learning rate and batch are used, and only runs that
 * quantize nothing: the law knows neither.
 */
#include "base.h"

static const struct fpl_law_param params[] = {
    {"E", "nats", 0.0, 20.0, 1.0, 0.0, 0.0, 0, "loss of infinite model and data"},
    {"A", "nats", -15.0, 8.0, 3.0, 0.0, 0.0, 0, "prefactor of model size"},
    {"alpha", "", 0.01, 2.0, 0.5, 0.0, 0.0, 0, "exponent of model size"},
    {"B", "nats", -15.0, 8.0, 3.0, 0.0, 0.0, 0, "prefactor of data size"},
    {"beta", "", 0.01, 2.0, 0.5, 0.0, 0.0, 0, "exponent of data size"},
};

static int start(const struct fpl_problem *problem, double (*theta)[FPL_LAW_PARAMS], int room) {
    struct fpl_levels best[8];
    const int count = fpl_start_levels(problem, NULL, 0, best, room < 8 ? room : 8);
    for (int i = 0; i < count; i++) fpl_base_chinchilla.start(&best[i], &problem->centre, theta[i]);
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
    .params = 5,
    .param = params,
    .use = FPL_ONLY_BEST,
    .floor_at = 0,
    .penalty_at = -1,
    .shift_at = -1,
    .levels = &fpl_base_chinchilla,
    .publish = fpl_levels_publish,
    .internal = fpl_levels_internal,
    .log_loss = fpl_law_one,
    .rows = fpl_levels_rows,
    .start = start,
    .takes = fpl_takes_nd,
    .cell_keys = 2,
    .tellers = fpl_tellers_compute,
    .presets = presets,
    .preset_count = 1,
};
