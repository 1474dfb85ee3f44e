/* qat.c - the rise of the loss by quantization-aware training (arXiv 2505.14302).
 *
 *   delta = k D^gD (log2 G)^gG / N^gN
 *
 * G elements of a quantization group that share one scale.  The error falls with model size and rises
 * with data and with coarser groups.  Its logarithm is linear in ln k and the exponents, so a fit has
 * one minimum.  G = 1 has no error and is outside the law.
 */
#include <math.h>
#include <stdio.h>

#include "problem.h"

enum { K, G_N, G_D, G_G, PARAMS };

static const struct fpl_law_param params[PARAMS] = {
    {"k", "nats", -60.0, 60.0, 3.0, 0.0, 0.0, 0, "prefactor"},
    {"gN", "", -4.0, 4.0, 0.5, 0.0, 0.0, 0, "exponent of model size"},
    {"gD", "", -4.0, 4.0, 0.5, 0.0, 0.0, 0, "exponent of data size"},
    {"gG", "", -8.0, 8.0, 1.0, 0.0, 0.0, 0, "exponent of the group's log2"},
};

#define LOG_ORIGIN 1.9459101490553132 /* ln log2 128 */

static const struct fpl_form forms[PARAMS] = {
    [K] = {.log = 1, .link = {FPL_LINK_N(G_N, 1.0), FPL_LINK_D(G_D, -1.0), FPL_LINK_K(G_G, -LOG_ORIGIN)}},
};

static void place(const struct fpl_law *law, const struct fpl_question *q, struct fpl_law_at *at) {
    fpl_place_classic(law, q, at);
    at->z[0] = log(log2(q->value[FPL_VAR_GROUP])) - LOG_ORIGIN;
    at->quantized = 0;
}

static int refuse(const struct fpl_law *law, const struct fpl_run *r, char *why, size_t size) {
    const double group = fpl_question_of_run(r).value[FPL_VAR_GROUP];
    (void)law;
    return group > 1.0 ? 0 : snprintf(why, size, "group is %g", group);
}

static const char *domain(const struct fpl_fit *fit, const double *t, const struct fpl_law_at *at) {
    (void)fit;
    (void)t;
    return at->z[0] > -HUGE_VAL ? "" : "outside its domain: a group has more than one element";
}

static double log_delta(const struct fpl_law *law, const double *t, const struct fpl_law_at *at,
                        double *grad) {
    (void)law;
    if (grad != NULL) {
        grad[K] = 1.0;
        grad[G_N] = -at->n;
        grad[G_D] = at->d;
        grad[G_G] = at->z[0];
    }
    return t[K] - t[G_N] * at->n + t[G_D] * at->d + t[G_G] * at->z[0];
}

static int start(const struct fpl_problem *problem, double (*theta)[FPL_LAW_PARAMS], int room) {
    (void)room;
    for (int j = 0; j < PARAMS; j++) theta[0][j] = 0.0;
    for (size_t i = 0; i < problem->count; i++)
        theta[0][K] += problem->row[i].target / (double)problem->count;
    return 1;
}

static const struct fpl_takes takes[] = {
    {FPL_VAR_N, FPL_REQUIRED}, {FPL_VAR_D, FPL_REQUIRED}, {FPL_VAR_GROUP, FPL_REQUIRED}, {FPL_VARIABLES, 0}};

static const struct fpl_preset presets[] = {
    {"paper", "arXiv 2505.14302, W4A4", {0.1582, 0.2186, 0.0745, 0.7779}, {0, 0}, {0, 0}},
};

const struct fpl_law fpl_law_qat = {
    .name = "qat",
    .citation = "arXiv 2505.14302",
    .formula = "delta = k D^gD (log2 group)^gG / N^gN",
    .params = PARAMS,
    .param = params,
    .use = FPL_TARGET_DELTA | FPL_TAKE_FORMAT | FPL_ONE_FORMAT,
    .floor_at = -1,
    .penalty_at = -1,
    .shift_at = -1,
    .form = forms,
    .publish = fpl_publish,
    .internal = fpl_internal,
    .place = place,
    .refuse = refuse,
    .domain = domain,
    .log_loss = log_delta,
    .start = start,
    .takes = takes,
    .cell_keys = 2,
    .presets = presets,
    .preset_count = 1,
};
