/* base_law.c - laws that are nothing but a base loss of N and D (base.h).
 *
 *   ln L = ln base(N, D)
 *
 * chinchilla-nd, farseer and, with another model size, average-n share these functions; the law's row
 * names its base, its parameters stand in the base's order.
 */
#include <math.h>

#include "base.h"

double fpl_levels_log_loss(const struct fpl_law *law, const double *t, const struct fpl_law_at *at,
                           double *grad) {
    double by_d;
    const double loss = law->levels->value(t, at, grad, grad != NULL ? &by_d : NULL);
    for (int j = 0; grad != NULL && j < law->levels->params; j++) grad[j] /= loss;
    return log(loss);
}

void fpl_levels_publish(const struct fpl_law *law, const double *theta, const struct fpl_centre *centre,
                        double *published) {
    law->levels->publish(theta, centre, published);
}

void fpl_levels_internal(const struct fpl_law *law, const double *published, const struct fpl_centre *centre,
                         double *theta) {
    law->levels->internal(published, centre, theta);
}

int fpl_levels_start(const struct fpl_problem *problem, double (*theta)[FPL_LAW_PARAMS], int room) {
    struct fpl_levels best[12];
    const int count = fpl_start_levels(problem, NULL, 1, best, room < 12 ? room : 12);
    for (int i = 0; i < count; i++) problem->law->levels->start(&best[i], &problem->centre, theta[i]);
    return count;
}
