/* base_law.c - laws that are nothing but a base loss of N and D (base.h).
 *
 *   ln L = ln base(N, D)
 *
 * chinchilla-nd, farseer and, with another model size, average-n share these functions; the law's row
 * names its base, its parameters stand in the base's order.
 */
#include "../../formats/clones.h"
#include "base.h"

static FPL_CLONES void relative(const struct fpl_block *at, int params, const struct fpl_values *out) {
    for (int k = 0; k < at->count; k++) {
        const lanes by = 1.0 / out->value[k];
        out->value[k] = log_of(out->value[k]);
        for (int j = 0; j < params; j++) out->grad[j * out->stride + k] *= by;
    }
}

void fpl_levels_rows(const struct fpl_law *law, const double *t, const struct fpl_block *at,
                     const struct fpl_values *out) {
    lanes by_d[FPL_BLOCK_LANES];
    law->levels->rows(t, at, out, by_d);
    relative(at, law->levels->params, out);
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
