/* farseer.c - loss from model and data size with exponents that change with model size
 * (Farseer, arXiv 2506.10972).
 *
 *   L(N, D) = e^(a3 N^g3 + b3) + e^(a2 N^g2 + b2) D^(-e^(a1 N^g1 + b1))
 *
 * The first term is the loss at infinite data, the second what limited data adds, whose exponent
 * e^(a1 N^g1 + b1) depends on N.  Nine parameters, of which a, b and g of each exponent trade off
 * strongly: base.c fits values, slopes and bends at the data's centre instead.  The published
 * constants could not be confirmed, so there is no preset.
 */
#include "base.h"

/* Bounds are of value, slope and bend of each exponent at the centre, in this order. A bend is hardly
 * told by a handful of model sizes: one pseudo-run each. */
static const struct fpl_law_param params[] = {
    {"a3", "", -8.0, 8.0, 1.0, 0.0, 0.0, 0, "floor: ln of it is a3 N^g3 + b3"},
    {"b3", "", -3.0, 3.0, 0.5, 0.0, 0.0, 0, "its constant"},
    {"g3", "", -1.0, 2.0, 0.7, 0.2, 0.15, 1, "its exponent of model size"},
    {"a2", "", -30.0, 30.0, 3.0, 0.0, 0.0, 0, "data term: ln of its prefactor is a2 N^g2 + b2"},
    {"b2", "", -15.0, 15.0, 0.7, 0.0, 0.0, 0, "its constant"},
    {"g2", "", -1.0, 2.0, 0.7, 0.2, 0.15, 1, "its exponent of model size"},
    {"a1", "", -5.0, 1.0, 1.0, 0.0, 0.0, 0, "exponent of data size: ln of it is a1 N^g1 + b1"},
    {"b1", "", -3.0, 3.0, 0.7, 0.0, 0.0, 0, "its constant"},
    {"g1", "", -1.0, 2.0, 0.7, 0.2, 0.15, 1, "its exponent of model size"},
};

const struct fpl_law fpl_law_farseer = {
    .name = "farseer",
    .citation = "arXiv 2506.10972",
    .formula = "L = e^(a3 N^g3 + b3) + e^(a2 N^g2 + b2) D^(-e^(a1 N^g1 + b1))",
    .params = 9,
    .param = params,
    .use = FPL_ONLY_BEST,
    .floor_at = -1,
    .penalty_at = -1,
    .shift_at = -1,
    .levels = &fpl_base_farseer,
    .publish = fpl_levels_publish,
    .internal = fpl_levels_internal,
    .log_loss = fpl_law_one,
    .rows = fpl_levels_rows,
    .start = fpl_levels_start,
    .takes = fpl_takes_nd,
    .cell_keys = 2,
    .tellers = fpl_tellers_compute,
};
