/* kumar_ptq.c - the rise of the loss by quantization after training (arXiv 2411.04330).
 *
 *   delta = C_T D^gD / N^gN exp(-P/gP)
 *
 * P bits of the weights after training.  It grows with data: overtrained models lose more.  Its logarithm
 * is linear in ln C_T, gD, gN and 1/gP, so a fit has one minimum; theta holds ln C_T at the centre
 * and at 4 bits.
 */
#include <math.h>

#include "problem.h"

enum { C_T, G_D, G_N, G_P, PARAMS };

#define BITS_ORIGIN 4.0

static const struct fpl_law_param params[PARAMS] = {
    {"C_T", "nats", -60.0, 60.0, 3.0, 0.0, 0.0, 0, "prefactor"},
    {"gD", "", -4.0, 4.0, 0.5, 0.0, 0.0, 0, "exponent of data size"},
    {"gN", "", -4.0, 4.0, 0.5, 0.0, 0.0, 0, "exponent of model size"},
    {"gP", "bits", -5.0, 5.0, 1.0, 0.0, 0.0, 0, "bits that reduce it by a factor e"},
};

static void publish(const struct fpl_law *law, const double *t, const struct fpl_centre *c, double *p) {
    (void)law;
    p[G_D] = t[G_D];
    p[G_N] = t[G_N];
    p[G_P] = exp(t[G_P]);
    p[C_T] = exp(t[C_T] - t[G_D] * c->d + t[G_N] * c->n + BITS_ORIGIN / p[G_P]);
}

static void internal(const struct fpl_law *law, const double *p, const struct fpl_centre *c, double *t) {
    (void)law;
    t[G_D] = p[G_D];
    t[G_N] = p[G_N];
    t[G_P] = log(p[G_P]);
    t[C_T] = log(p[C_T]) + p[G_D] * c->d - p[G_N] * c->n - BITS_ORIGIN / p[G_P];
}

static void place(const struct fpl_law *law, const struct fpl_question *q, struct fpl_law_at *at) {
    fpl_place_classic(law, q, at);
    at->z[0] = q->value[FPL_VAR_BITS];
    at->quantized = 0;
}

static double log_delta(const struct fpl_law *law, const double *t, const struct fpl_law_at *at,
                        double *grad) {
    (void)law;
    const double bits = (at->z[0] - BITS_ORIGIN) * exp(-t[G_P]);
    if (grad != NULL) {
        grad[C_T] = 1.0;
        grad[G_D] = at->d;
        grad[G_N] = -at->n;
        grad[G_P] = bits;
    }
    return t[C_T] + t[G_D] * at->d - t[G_N] * at->n - bits;
}

static int start(const struct fpl_problem *problem, double (*theta)[FPL_LAW_PARAMS], int room) {
    double mean = 0.0;
    for (size_t i = 0; i < problem->count; i++) mean += problem->row[i].target / (double)problem->count;
    const int count = room < 3 ? room : 3;
    for (int i = 0; i < count; i++) {
        theta[i][C_T] = mean;
        theta[i][G_D] = theta[i][G_N] = 0.0;
        theta[i][G_P] = 1.0 * i - 1.0;
    }
    return count;
}

static const struct fpl_takes takes[] = {
    {FPL_VAR_N, FPL_REQUIRED}, {FPL_VAR_D, FPL_REQUIRED}, {FPL_VAR_BITS, FPL_REQUIRED}, {FPL_VARIABLES, 0}};

static const struct fpl_preset presets[] = {
    {"paper", "arXiv 2411.04330", {0.0598, 0.5068, 0.3439, 0.5907}, {0, 0}, {0, 0}},
};

const struct fpl_law fpl_law_kumar_ptq = {
    .name = "kumar-ptq",
    .citation = "arXiv 2411.04330",
    .formula = "delta = C_T D^gD / N^gN exp(-bits/gP)",
    .params = PARAMS,
    .param = params,
    .use = FPL_TARGET_DELTA | FPL_TAKE_FORMAT,
    .floor_at = -1,
    .penalty_at = -1,
    .shift_at = -1,
    .publish = publish,
    .internal = internal,
    .place = place,
    .log_loss = log_delta,
    .start = start,
    .takes = takes,
    .cell_keys = 2,
    .presets = presets,
    .preset_count = 1,
};
