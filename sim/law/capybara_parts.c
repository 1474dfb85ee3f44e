/* capybara_parts.c - the floating-point quantization law with some of its factors held
 * (arXiv 2501.02423v3, where each factor is found before all are joined).
 *
 *   capybara-e        D^beta/N^alpha / (gamma (E + 1/2)^delta)            mantissa and block the same
 *   capybara-m        D^beta/N^alpha / (gamma (M + 1/2)^nu)               exponent and block the same
 *   capybara-b        D^beta/N^alpha log2(B) / gamma                      format the same
 *   capybara-channel  the whole law at one scale per channel, log2 B = 13.1567 as the paper enters it
 *
 * Held exponents are 0 and held factors 1, so gamma takes them up.  A part is for tables in which what
 * it holds does not vary, and refuses others.
 */
#include "capybara.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define CHANNEL_LOG2_BLOCK 13.1567

#define LEVELS                                                                                               \
    {"n", "nats", -15.0, 8.0, 3.0, 0.0, 0.0, 0, "prefactor of model size"},                                  \
        {"alpha", "", 0.01, 2.0, 0.5, 0.0, 0.0, 0, "exponent of model size"},                                \
        {"d", "nats", -15.0, 8.0, 3.0, 0.0, 0.0, 0, "prefactor of data size"},                               \
        {"beta", "", 0.01, 2.0, 0.5, 0.0, 0.0, 0, "exponent of data size"},                                  \
        {"eps", "nats", 0.0, 20.0, 1.0, 0.0, 0.0, 0, "loss of infinite model and data"}, {                   \
        "gamma", "1/nats", -10.0, 30.0, 3.0, 0.0, 0.0, 0, "inverse strength of the precision penalty"        \
    }
#define HELD(name, meaning)                                                                                  \
    { name, "", 0.0, 0.0, 1.0, 0.0, 0.0, 0, meaning ", held at 0" }
#define FREE(name, meaning)                                                                                  \
    { name, "", 0.0, 12.0, 2.5, 0.0, 0.0, 0, meaning }

static const struct fpl_law_param e_params[] = {LEVELS, FREE("delta", "exponent of exponent bits"),
                                                HELD("nu", "exponent of mantissa bits")};
static const struct fpl_law_param m_params[] = {LEVELS, HELD("delta", "exponent of exponent bits"),
                                                FREE("nu", "exponent of mantissa bits")};
static const struct fpl_law_param b_params[] = {LEVELS, HELD("delta", "exponent of exponent bits"),
                                                HELD("nu", "exponent of mantissa bits")};
static const struct fpl_law_param channel_params[] = {LEVELS, FREE("delta", "exponent of exponent bits"),
                                                      FREE("nu", "exponent of mantissa bits")};

/* ---- where a format stands in a part ----------------------------------------------------------- */

static void place_sizes(const struct fpl_law *law, const struct fpl_question *q, struct fpl_law_at *at) {
    fpl_place_classic(law, q, at);
    at->quantized = 0;
    at->e = at->m = 0.0;
    at->g = 1.0;
}

static void place_e(const struct fpl_law *law, const struct fpl_question *q, struct fpl_law_at *at) {
    place_sizes(law, q, at);
    at->quantized = !isnan(q->value[FPL_VAR_E]);
    if (at->quantized) at->e = log((q->value[FPL_VAR_E] + 0.5) / FPL_E_ORIGIN);
}

static void place_m(const struct fpl_law *law, const struct fpl_question *q, struct fpl_law_at *at) {
    place_sizes(law, q, at);
    at->quantized = !isnan(q->value[FPL_VAR_M]);
    if (at->quantized) at->m = log((q->value[FPL_VAR_M] + 0.5) / FPL_M_ORIGIN);
}

static void place_b(const struct fpl_law *law, const struct fpl_question *q, struct fpl_law_at *at) {
    place_sizes(law, q, at);
    at->quantized = q->value[FPL_VAR_BLOCK] > 1.0;
    if (at->quantized) at->g = log2(q->value[FPL_VAR_BLOCK]);
}

static void place_channel(const struct fpl_law *law, const struct fpl_question *q, struct fpl_law_at *at) {
    place_e(law, q, at);
    if (!at->quantized) return;
    at->m = log((q->value[FPL_VAR_M] + 0.5) / FPL_M_ORIGIN);
    at->g = CHANNEL_LOG2_BLOCK;
}

/* One scale per row of the operand ("channel"); a table without granularity says nothing against it. */
static int refuse_channel(const struct fpl_law *law, const struct fpl_run *r, char *why, size_t size) {
    (void)law;
    if (isnan(r->E) || r->granularity[0] == '\0' || strcmp(r->granularity, "row") == 0) return 0;
    return snprintf(why, size, "scale is per %s, not per channel", r->granularity);
}

/* ---- rows ------------------------------------------------------------------------------------------ */

static const struct fpl_takes e_takes[] = {
    {FPL_VAR_N, FPL_REQUIRED}, {FPL_VAR_D, FPL_REQUIRED}, {FPL_VAR_E, FPL_FORMAT}, {FPL_VARIABLES, 0}};
static const struct fpl_takes m_takes[] = {
    {FPL_VAR_N, FPL_REQUIRED}, {FPL_VAR_D, FPL_REQUIRED}, {FPL_VAR_M, FPL_FORMAT}, {FPL_VARIABLES, 0}};
static const struct fpl_takes b_takes[] = {
    {FPL_VAR_N, FPL_REQUIRED}, {FPL_VAR_D, FPL_REQUIRED}, {FPL_VAR_BLOCK, FPL_FORMAT}, {FPL_VARIABLES, 0}};
static const struct fpl_takes channel_takes[] = {{FPL_VAR_N, FPL_REQUIRED},
                                                 {FPL_VAR_D, FPL_REQUIRED},
                                                 {FPL_VAR_E, FPL_FORMAT},
                                                 {FPL_VAR_M, FPL_FORMAT},
                                                 {FPL_VARIABLES, 0}};

#define SHARED                                                                                               \
    .citation = "arXiv 2501.02423v3", .params = 8, .floor_at = 4, .penalty_at = 5, .shift_at = -1,           \
    .publish = fpl_capybara_publish, .internal = fpl_capybara_internal, .log_loss = fpl_law_one,             \
    .rows = fpl_capybara_rows, .log_dcrit = fpl_capybara_log_dcrit, .start = fpl_capybara_start,             \
    .cell_keys = 2
#define USE (FPL_NEED_FORMAT | FPL_ONLY_BEST)

const struct fpl_law fpl_law_capybara_e = {
    SHARED,
    .name = "capybara-e",
    .formula = "L = n/N^alpha + d/D^beta + eps + D^beta/N^alpha / (gamma (E+0.5)^delta)",
    .param = e_params,
    .use = USE | FPL_ONE_FORMAT,
    .place = place_e,
    .takes = e_takes,
};

const struct fpl_law fpl_law_capybara_m = {
    SHARED,
    .name = "capybara-m",
    .formula = "L = n/N^alpha + d/D^beta + eps + D^beta/N^alpha / (gamma (M+0.5)^nu)",
    .param = m_params,
    .use = USE | FPL_ONE_FORMAT,
    .place = place_m,
    .takes = m_takes,
};

const struct fpl_law fpl_law_capybara_b = {
    SHARED,
    .name = "capybara-b",
    .formula = "L = n/N^alpha + d/D^beta + eps + D^beta/N^alpha log2(B) / gamma",
    .param = b_params,
    .use = USE | FPL_ONE_FORMAT,
    .place = place_b,
    .takes = b_takes,
};

/* The paper's constants hold at every block, so at this one. */
static const struct fpl_preset channel_presets[] = {
    {"paper",
     "arXiv 2501.02423v3, log2 B = 13.1567",
     {69.2343, 0.2368, 68973.0621, 0.5162, 1.9061, 11334.5197, 3.1926, 2.9543},
     {40e6, 680e6},
     {10e9, 105e9}},
};

const struct fpl_law fpl_law_capybara_channel = {
    SHARED,
    .name = "capybara-channel",
    .formula = "L = n/N^alpha + d/D^beta + eps + D^beta/N^alpha 13.1567/(gamma (E+0.5)^delta (M+0.5)^nu)",
    .param = channel_params,
    .use = USE,
    .place = place_channel,
    .refuse = refuse_channel,
    .scaling = "row",
    .takes = channel_takes,
    .presets = channel_presets,
    .preset_count = 1,
};
