/* plan_next.c - `fplaw plan --next`: the proposals as a study file, and what they should tell. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/file.h"
#include "../base/number.h"
#include "plan.h"

static enum fpl_code optional(const char *option, const char *text, double *out, struct fpl_error *err) {
    if (text == NULL) return FPL_OK;
    if (fpl_number_parse(text, out, err) != FPL_OK) return fpl_fail_at(err, "plan: --%s", option);
    if (*out > 0.0) return FPL_OK;
    return fpl_fail(err, FPL_INVALID, "plan: --%s: found %.40s, accepted is a number above 0", option, text);
}

static enum fpl_code options_of(const struct plan_asked *a, struct fpl_next_options *o,
                                struct fpl_error *err) {
    double count = 0.0;
    *o = (struct fpl_next_options){.least_gain = 0.1, .extend = 1.0, .seed = 101, .limits = a->limits};
    o->formats = a->formats;
    o->format_count = a->format_count;
    o->setting = a->setting;
    o->settings = (size_t)a->settings;
    enum fpl_code code = optional("next", a->next, &count, err);
    if (code == FPL_OK && (count != floor(count) || count > 10000.0))
        code = fpl_fail(err, FPL_INVALID, "plan: --next: found %.40s, accepted is 1 to 10000 runs", a->next);
    if (code == FPL_OK) code = optional("max-flops", a->max_flops, &o->max_flop, err);
    if (code == FPL_OK) code = optional("noise", a->noise, &o->noise, err);
    if (code == FPL_OK) code = optional("least-gain", a->least_gain, &o->least_gain, err);
    if (code == FPL_OK && a->seed != NULL && fpl_unsigned_parse(a->seed, &o->seed, err) != FPL_OK)
        code = fpl_fail_at(err, "plan: --seed");
    o->count = (int)count;
    return code;
}

static void tell(const struct fpl_decision_of *decision, const struct fpl_next *next) {
    double flop = 0.0;
    char place[96] = "";
    for (size_t i = 0; i < next->runs; i++) flop += next->run[i].flop;
    if (decision->what != FPL_DECIDE_FORMAT)
        snprintf(place, sizeof place, " at N %.3g, D %.3g%s", decision->at.N, decision->at.D,
                 isnan(decision->at.E) ? ", unquantized" : "");
    fprintf(stderr,
            "fplaw: plan: %zu runs of %zu candidates, %.3g FLOP in all; sd of %s%s, in ln units, %.4g "
            "before, %.4g "
            "after (noise of a run %.3g)\n",
            next->runs, next->candidates, flop, fpl_decide_names[decision->what], place, next->sd_before,
            next->sd_after, next->noise);
}

enum fpl_code plan_next(const struct plan_asked *a, const struct fpl_fit *fit, const struct fpl_plan *plan,
                        struct fpl_error *err) {
    struct fpl_next_options options;
    struct fpl_decision_of decision;
    struct fpl_next next = {0};
    const char *decide = a->decide != NULL ? a->decide : "loss";
    enum fpl_code code = options_of(a, &options, err);
    if (code != FPL_OK) return code;
    code = fpl_decision_parse(fit, decide, plan, &a->limits, &decision, err);
    if (code == FPL_OK) code = fpl_plan_next(fit, &decision, &options, &next, err);
    if (code != FPL_OK) return fpl_fail_at(err, "plan");
    char *text = fpl_next_yaml(&next, &options, decide, a->source);
    if (text == NULL) code = fpl_fail(err, FPL_SYSTEM, "plan: out of memory");
    if (code == FPL_OK && a->out != NULL && strcmp(a->out, "-") != 0)
        code = fpl_file_write(a->out, text, strlen(text), err);
    else if (code == FPL_OK)
        printf("%s", text);
    if (code == FPL_OK) tell(&decision, &next);
    free(text);
    fpl_next_free(&next);
    return code;
}
