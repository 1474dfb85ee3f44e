/* plan_optima.c - learning rates and batches of a plan from a law other than the one it is made with.
 *
 * The law of --optima is asked at each row's N, D and format.  Its interval is its own; the
 * uncertainty of N and D is not in it.  A batch outside --batch-min and --batch-max is moved to the
 * limit, where the learning rate given is still that of the law's own batch, unless the law knows better.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "plan.h"

static void add_note(struct fpl_plan_row *row, const char *text) {
    const size_t used = strlen(row->note);
    if (text[0] != '\0')
        snprintf(row->note + used, sizeof row->note - used, "%s%s", used > 0 ? "; " : "", text);
}

static double limited(const struct fpl_plan_limits *l, double batch) {
    if (l->batch_min > 0.0 && batch < l->batch_min) return l->batch_min;
    return l->batch_max > 0.0 && batch > l->batch_max ? l->batch_max : batch;
}

void plan_take_optima(const struct plan_asked *a, const struct fpl_fit *fit, const struct fpl_fit *optima,
                      struct fpl_plan *plan) {
    const char *own = fpl_fit_schedule(fit), *theirs = fpl_fit_schedule(optima);
    const int formats = fpl_fit_knows_formats(optima);
    for (size_t i = 0; i < plan->rows; i++) {
        struct fpl_plan_row *r = &plan->row[i];
        const double none = (double)NAN;
        struct fpl_point_at at = {r->at.N, r->at.D, none, none, none, none, none};
        struct fpl_answer answer;
        char text[160];
        if (!r->possible) continue;
        if (formats) at.E = r->format->E, at.M = r->format->M, at.block = r->format->block;
        if (fpl_fit_predict(optima, &at, &answer, NULL) != FPL_OK) continue;
        r->lr = answer.lr;
        r->batch_tokens = answer.batch_tokens;
        r->at.lr = answer.lr.value;
        r->at.batch_tokens = limited(&a->limits, answer.batch_tokens.value);
        snprintf(text, sizeof text, "lr and batch are those of %.60s%s", a->optima,
                 !formats && !isnan(r->format->E) ? ", which knows no formats" : "");
        add_note(r, text);
        if (own[0] != '\0' && theirs[0] != '\0' && strcmp(own, theirs) != 0) {
            snprintf(text, sizeof text, "measured under schedule %s, the loss under %s", theirs, own);
            add_note(r, text);
        }
        if (r->at.batch_tokens == answer.batch_tokens.value || isnan(answer.batch_tokens.value)) continue;
        r->batch_tokens = (struct fpl_estimate){r->at.batch_tokens, none, none};
        at.batch_tokens = r->at.batch_tokens;
        struct fpl_fit_vector v;
        fpl_fit_vector_at(optima, -1, &v);
        r->at.lr = fpl_vector_lr(&v, &at);
        r->lr = (struct fpl_estimate){r->at.lr, none, none};
        add_note(r, "the batch is at its limit, not at that law's optimum");
    }
}
