/* batch.c - what laws of the learning rate against batch share: theta = ln eta_max, ln Bn. */
#include <math.h>

#include "problem.h"

void fpl_place_batch(const struct fpl_law *law, const struct fpl_question *q, struct fpl_law_at *at) {
    fpl_place_classic(law, q, at);
    at->n = at->d = 0.0;
    at->quantized = 0;
}

int fpl_start_batch(const struct fpl_problem *problem, double (*theta)[FPL_LAW_PARAMS], int room) {
    static const double offsets[] = {0.0, -3.0, 3.0, -6.0, 6.0};
    double level = 0.0, batch = 0.0;
    for (size_t i = 0; i < problem->count; i++) {
        level += problem->row[i].target / (double)problem->count;
        batch += problem->row[i].at.y / (double)problem->count;
    }
    const int count = room < 5 ? room : 5;
    for (int i = 0; i < count; i++) {
        theta[i][FPL_BATCH_LR_MAX] = level;
        theta[i][FPL_BATCH_NOISE] = batch + offsets[i];
    }
    return count;
}

double fpl_tell_noise_scale(const struct fpl_fit *fit, const double *t, const struct fpl_question *q) {
    (void)fit;
    (void)q;
    return exp(t[FPL_BATCH_NOISE]);
}
