/* loss.c - a fit's loss at a point, value only: what drawings need thousands of times, where
 * predict.c would evaluate every resample. */
#include "law_internal.h"

#include <math.h>

double fpl_fit_loss(const struct fpl_fit *fit, const struct fpl_point_at *at) {
    if (fit == NULL || fit->law->log_loss == NULL) return (double)NAN;
    double theta[FPL_LAW_PARAMS];
    struct fpl_law_at point;
    fit->law->internal(fit->law, fit->value, &fit->centre, theta);
    for (int i = 0; i < fit->law->params; i++)
        if (!fit->active[i]) theta[i] = 0.0;
    const struct fpl_question q = fpl_question_of_point(at);
    fpl_law_place(fit->law, &q, &fit->centre, &point);
    return exp(fit->law->log_loss(fit->law, theta, &point, NULL));
}
