/* loss.c - a fit's loss, or whatever its law is about, value only: what drawings need thousands of times,
 * where predict.c would evaluate every resample. */
#include "fitting.h"

#include <math.h>
#include <string.h>

#include "manner.h"

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

double fpl_fit_tell(const struct fpl_fit *fit, const struct fpl_question *question, enum fpl_variable which) {
    struct fpl_fit alone = *fit;
    struct fpl_answer a;
    alone.bootstrap = 0;
    alone.vector = NULL;
    if (fpl_fit_ask(&alone, question, &a, NULL) != FPL_OK) return (double)NAN;
    if (which == FPL_VAR_BATCH) return a.batch_tokens.value;
    if (which == FPL_VAR_LR || (fit->law->use & FPL_TARGET_LR) != 0) return a.lr.value;
    return (fit->law->use & FPL_TARGET_DELTA) != 0 ? a.delta.value : a.loss.value;
}

int fpl_fit_describes(const struct fpl_fit *fit, const struct fpl_run *run) {
    char own[FPL_MANNER_TEXT], other[FPL_MANNER_TEXT];
    const int operands = !fpl_law_takes(fit->law, FPL_VAR_PW);
    if (run->status != FPL_RUN_OK) return 0;
    for (size_t i = 0; i < fit->left.count && !fpl_law_takes_schedule(fit->law); i++)
        if (strcmp(fit->left.item[i].run, run->run) == 0) return 0;
    if (!fpl_run_is_quantized(run) || fit->recipe[0] == '\0') return 1;
    if (strcmp(run->recipe, fit->recipe) == 0) return 1;
    fpl_manner_of(fit->recipe, operands, own);
    fpl_manner_of(run->recipe, operands, other);
    return strcmp(own, other) == 0;
}
