/* predict_forms.c - what an interval of one law does not say: other forms, and other conventions (predict.h).
 *
 * A bootstrap knows nothing of an error in the law's form.  Where a file holds several laws that answer the
 * same question, those whose residual scale is within half again the least count as fitting within noise,
 * and the range of their losses is told beside each law's own interval.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "predict.h"

#define ABOUT_AS_WELL 1.5

void predict_ask_forms(struct fpl_fit *const *fits, size_t count, const struct fpl_question *question,
                       struct predict_forms *out) {
    double scale[PREDICT_FORMS], loss[PREDICT_FORMS], least = HUGE_VAL;
    const char *law[PREDICT_FORMS];
    size_t asked = 0;
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < count && asked < PREDICT_FORMS; i++) {
        struct fpl_fit_summary s;
        fpl_fit_summarize(fits[i], &s);
        if (strcmp(fpl_law_target(fpl_fit_law(fits[i])), "loss") != 0 || !(s.scale > 0.0) ||
            fpl_fit_state(fits[i]) != FPL_FIT_CONVERGED)
            continue;
        loss[asked] = fpl_fit_tell(fits[i], question, FPL_VARIABLES);
        if (isnan(loss[asked])) continue;
        law[asked] = fpl_law_name(fpl_fit_law(fits[i]));
        scale[asked++] = s.scale;
        least = fmin(least, s.scale);
    }
    for (size_t i = 0; i < asked; i++) {
        if (scale[i] > ABOUT_AS_WELL * least) continue;
        out->loss[0] = out->count == 0 ? loss[i] : fmin(out->loss[0], loss[i]);
        out->loss[1] = out->count == 0 ? loss[i] : fmax(out->loss[1], loss[i]);
        out->law[out->count++] = law[i];
    }
}

void predict_schedule_warning(const struct predict_question *p, const struct fpl_fit *fit, char *text,
                              size_t size) {
    const char *own = fpl_fit_schedule(fit);
    text[0] = '\0';
    if (p->schedule_name == NULL || own[0] == '\0' || fpl_law_takes_schedule(fpl_fit_law(fit)) ||
        strcmp(p->schedule_name, own) == 0)
        return;
    snprintf(
        text, size,
        "schedule=%.40s is asked for, the law's runs had %s: neither its loss nor its optimum carries over",
        p->schedule_name, own);
}
