/* predict_question.c - NAME=VALUE texts as a question (predict.h).
 *
 * Names are the laws' variables (law.h) and these, which stand for some of them:
 *
 *   format=e4m3            E and M
 *   block=channel          the paper's channel-wise scaling, log2 B = 13.1567 (arXiv 2501.02423)
 *   flop=1e24              a budget at which the optimum is asked for
 *   schedule=..            cosine, wsd, constant, or a CSV with the columns step and lr; with
 *                          lr (peak), steps, warmup (below 1 a share of the steps, else steps; default
 *                          0), lr_final (1e-5), decay (share of the steps in wsd's decay, 0.2)
 *   N_final=.. prune=b:e   N_mean of a model pruned from N to N_final over the shares b to e of training
 *
 * A name that none of the asked laws takes is an error, except for the seven classic ones, which a
 * script may give to any law.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/format.h"
#include "../base/file.h"
#include "../base/number.h"
#include "predict.h"

#define CHANNEL_LOG2_BLOCK 13.1567
#define CURVE_POINTS 512
#define PI 3.14159265358979323846

/* What stands for variables, and the schedule's own numbers. */
struct extra {
    const char *schedule, *format, *block, *prune;
    double warmup, decay, lr_final, n_final, flop;
};

void predict_question_clear(struct predict_question *p) {
    memset(p, 0, sizeof *p);
    fpl_question_clear(&p->question);
}

void predict_question_free(struct predict_question *p) { free(p->points); }

/* ---- names ------------------------------------------------------------------------------------------ */

static enum fpl_code unknown_name(const char *setting, const char *name, struct fpl_error *err) {
    static const char *const others[] = {"format",   "flop",    "schedule", "warmup", "decay",
                                         "lr_final", "N_final", "prune",    NULL};
    const char *names[FPL_VARIABLES + sizeof others / sizeof others[0]];
    char all[512];
    size_t count = 0, used = 0;
    for (int v = 0; v < FPL_VARIABLES; v++) names[count++] = fpl_variables[v].name;
    for (const char *const *o = others; *o != NULL; o++) names[count++] = *o;
    names[count] = NULL;
    const char *near = fpl_nearest_word(name, names);
    if (near != NULL)
        return fpl_fail(err, FPL_INVALID, "predict: unknown name in '%.60s'; did you mean '%s'?", setting,
                        near);
    for (size_t i = 0; i < count; i++)
        used += (size_t)snprintf(all + used, sizeof all - used, " %s", names[i]);
    return fpl_fail(err, FPL_INVALID, "predict: unknown name in '%.60s'; there are%s", setting, all);
}

static enum fpl_code take_number(const char *setting, const char *text, double *out, struct fpl_error *err) {
    if (fpl_number_parse(text, out, err) != FPL_OK) return fpl_fail_at(err, "predict: %s", setting);
    return FPL_OK;
}

static enum fpl_code take_setting(const char *setting, const char *name, const char *text,
                                  struct predict_question *p, struct extra *x, struct fpl_error *err) {
    const struct {
        const char *name;
        const char **text;
    } texts[] = {{"schedule", &x->schedule}, {"format", &x->format}, {"prune", &x->prune}};
    const struct {
        const char *name;
        double *number;
    } numbers[] = {{"warmup", &x->warmup},
                   {"decay", &x->decay},
                   {"lr_final", &x->lr_final},
                   {"N_final", &x->n_final},
                   {"flop", &p->question.flop}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (strcmp(name, texts[i].name) == 0) {
            *texts[i].text = text;
            return FPL_OK;
        }
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (strcmp(name, numbers[i].name) == 0) return take_number(setting, text, numbers[i].number, err);
    const int v = fpl_variable_find(name);
    if (v < 0) return unknown_name(setting, name, err);
    p->given[v] = 1;
    if (v == FPL_VAR_BLOCK && strcmp(text, "channel") == 0) {
        p->question.value[v] = exp2(CHANNEL_LOG2_BLOCK);
        return FPL_OK;
    }
    return take_number(setting, text, &p->question.value[v], err);
}

static enum fpl_code take_format(const char *text, struct predict_question *p, struct fpl_error *err) {
    struct fpl_format format;
    if (p->given[FPL_VAR_E] || p->given[FPL_VAR_M])
        return fpl_fail(err, FPL_INVALID, "predict: give either format= or E= and M=");
    p->format_given = 1;
    if (strcmp(text, "fp32") == 0) return FPL_OK; /* nothing is quantized */
    if (fpl_format_parse(text, &format, err) != FPL_OK) return fpl_fail_at(err, "predict: format");
    p->question.value[FPL_VAR_E] = (double)format.ebits;
    p->question.value[FPL_VAR_M] = (double)format.mbits;
    return FPL_OK;
}

/* ---- pruning ------------------------------------------------------------------------------------------ */

static enum fpl_code take_pruning(const struct extra *x, struct predict_question *p, struct fpl_error *err) {
    double *v = p->question.value, begin = 0.25, end = 0.75;
    if (isnan(x->n_final) && x->prune == NULL) {
        /* a dense model is its own mean */
        if (isnan(v[FPL_VAR_N_MEAN])) v[FPL_VAR_N_MEAN] = v[FPL_VAR_N];
        return FPL_OK;
    }
    if (isnan(x->n_final) || isnan(v[FPL_VAR_N]))
        return fpl_fail(err, FPL_INVALID, "predict: pruning needs N= (before) and N_final= (after)");
    if (p->given[FPL_VAR_N_MEAN])
        return fpl_fail(err, FPL_INVALID, "predict: give either N_mean= or N=, N_final= and prune=");
    if (x->prune != NULL) {
        char *rest = NULL, *tail = NULL;
        begin = strtod(x->prune, &rest);
        end = *rest == ':' ? strtod(rest + 1, &tail) : (double)NAN;
        if (tail == NULL || *tail != '\0' || !(begin >= 0.0 && begin <= end && end <= 1.0))
            return fpl_fail(err, FPL_INVALID,
                            "predict: prune=%.40s: expected two ascending shares of training, as 0.25:0.75",
                            x->prune);
    }
    v[FPL_VAR_N_MEAN] = fpl_pruned_mean(v[FPL_VAR_N], x->n_final, begin, end);
    return FPL_OK;
}

/* ---- schedules ------------------------------------------------------------------------------------------
 */

static enum fpl_code make_room(struct predict_question *p, size_t count, struct fpl_error *err) {
    p->points = malloc(2 * count * sizeof *p->points);
    if (p->points == NULL) return fpl_fail(err, FPL_SYSTEM, "predict: out of memory for a schedule");
    p->schedule = (struct fpl_schedule){count, p->points, p->points + count};
    p->question.schedule = &p->schedule;
    return FPL_OK;
}

/* A CSV with step and lr, in order of step. */
static enum fpl_code read_schedule(const char *path, struct predict_question *p, struct fpl_error *err) {
    struct fpl_runs runs;
    enum fpl_code code = fpl_runs_read_csv(path, NULL, &runs, err);
    if (code != FPL_OK) return fpl_fail_at(err, "predict: schedule");
    code = make_room(p, runs.count, err);
    for (size_t i = 0; code == FPL_OK && i < runs.count; i++) {
        p->points[i] = runs.run[i].step;
        p->points[runs.count + i] = runs.run[i].lr;
        if (isnan(runs.run[i].step) || isnan(runs.run[i].lr))
            code = fpl_fail(err, FPL_INVALID, "predict: %s:%lld: a schedule needs the columns step and lr",
                            path, (long long)runs.run[i].line);
    }
    fpl_runs_free(&runs);
    return code;
}

/* Share of the way from the peak to the final rate. */
static double fallen(const char *kind, double done, double decay) {
    if (strcmp(kind, "cosine") == 0) return 0.5 - 0.5 * cos(PI * done);
    if (strcmp(kind, "wsd") == 0) return done > 1.0 - decay ? (done - (1.0 - decay)) / decay : 0.0;
    return 0.0;
}

static enum fpl_code draw_schedule(const struct extra *x, struct predict_question *p, struct fpl_error *err) {
    const double peak = p->question.value[FPL_VAR_LR], steps = p->question.value[FPL_VAR_STEPS];
    const double warm = floor(x->warmup < 1.0 ? x->warmup * steps + 0.5 : x->warmup);
    if (!(peak > 0.0) || !(steps >= 1.0)) return FPL_OK; /* only laws of loss curves need it drawn */
    p->schedule_drawn = 1;
    if (!(warm >= 0.0 && warm < steps) || !(x->decay > 0.0 && x->decay <= 1.0) ||
        !(x->lr_final >= 0.0 && x->lr_final <= peak))
        return fpl_fail(
            err, FPL_INVALID,
            "predict: warmup=%g, decay=%g, lr_final=%g: expected a warm-up of fewer than %g steps, a "
            "share above 0 to 1, and a rate from 0 to %g",
            x->warmup, x->decay, x->lr_final, steps, peak);
    const double span = steps - warm, decay = fmin(1.0, x->decay * steps / span);
    const enum fpl_code code = make_room(p, CURVE_POINTS + 3, err);
    if (code != FPL_OK) return code;
    double *step = p->points, *lr = p->points + CURVE_POINTS + 3, last = -1.0;
    size_t count = 0;
    if (warm > 0.0) step[count] = last = 0.0, lr[count++] = peak / (warm + 1.0);
    for (int k = 0; k <= CURVE_POINTS; k++) {
        const double at = floor(warm + span * k / CURVE_POINTS + 0.5);
        if (!(at > last)) continue;
        step[count] = last = at;
        lr[count++] = peak + (x->lr_final - peak) * fallen(x->schedule, (at - warm) / span, decay);
    }
    p->schedule = (struct fpl_schedule){count, step, lr};
    return FPL_OK;
}

static enum fpl_code take_schedule(const struct extra *x, struct predict_question *p, struct fpl_error *err) {
    static const char *const kinds[] = {"cosine", "wsd", "constant"};
    if (x->schedule == NULL) return FPL_OK;
    p->schedule_given = 1;
    p->schedule_name = x->schedule;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(x->schedule, kinds[i]) == 0) return draw_schedule(x, p, err);
    if (strchr(x->schedule, '.') != NULL || strchr(x->schedule, '/') != NULL) {
        p->schedule_drawn = 1;
        return read_schedule(x->schedule, p, err);
    }
    return fpl_fail(err, FPL_INVALID, "predict: schedule=%.60s: cosine, wsd, constant or a CSV is expected",
                    x->schedule);
}

/* ---- the whole ------------------------------------------------------------------------------------------
 */

/* A budget of 6 N D FLOP and one of N, D give the other; a budget alone asks at its optimum, which
 * predict_at_optimum finds from 20 tokens per parameter. */
static void spend(struct predict_question *p) {
    double *v = p->question.value;
    const double products = p->question.flop / 6.0;
    p->flop_given = !isnan(p->question.flop);
    if (!p->flop_given || (!isnan(v[FPL_VAR_N]) && !isnan(v[FPL_VAR_D]))) return;
    p->at_optimum = isnan(v[FPL_VAR_N]) && isnan(v[FPL_VAR_D]);
    if (p->at_optimum) v[FPL_VAR_N] = sqrt(products / 20.0);
    if (isnan(v[FPL_VAR_N])) v[FPL_VAR_N] = products / v[FPL_VAR_D];
    if (isnan(v[FPL_VAR_D])) v[FPL_VAR_D] = products / v[FPL_VAR_N];
}

enum fpl_code predict_at_optimum(const struct predict_question *asked, const struct fpl_fit *fit,
                                 struct fpl_question *question, struct fpl_error *err) {
    struct fpl_answer answer;
    *question = asked->question;
    if (!asked->at_optimum) return FPL_OK;
    const enum fpl_code code = fpl_fit_ask(fit, question, &answer, err);
    if (code != FPL_OK) return code;
    int found = 0;
    for (int i = 0; i < answer.told_count; i++) {
        const char *name = answer.told[i].name;
        const int n = strcmp(name, "N_opt") == 0 || strcmp(name, "N_bits") == 0,
                  d = strcmp(name, "D_opt") == 0 || strcmp(name, "D_bits") == 0;
        if ((!n && !d) || isnan(answer.told[i].value.value)) continue;
        question->value[n ? FPL_VAR_N : FPL_VAR_D] = answer.told[i].value.value;
        found++;
    }
    if (found == 2) return FPL_OK;
    return fpl_fail(err, FPL_INVALID,
                    "N= or D= is missing: %s tells no optimum at a budget (fplaw plan does)",
                    fpl_law_name(fpl_fit_law(fit)));
}

enum fpl_code predict_settings(const char *const *setting, int count, struct predict_question *out,
                               struct fpl_error *err) {
    struct extra x = {.decay = 0.2, .lr_final = 1e-5, .n_final = (double)NAN};
    for (int i = 0; i < count; i++) {
        char name[32];
        const size_t length = strcspn(setting[i], "=");
        snprintf(name, sizeof name, "%.*s", (int)(length < 30 ? length : 30), setting[i]);
        for (int j = 0; j < i; j++)
            if (strncmp(setting[j], setting[i], length + 1) == 0)
                return fpl_fail(err, FPL_INVALID, "predict: '%s' is given twice", name);
        const enum fpl_code code = take_setting(setting[i], name, setting[i] + length + 1, out, &x, err);
        if (code != FPL_OK) return code;
    }
    spend(out);
    enum fpl_code code = x.format != NULL ? take_format(x.format, out, err) : FPL_OK;
    if (code == FPL_OK) code = take_pruning(&x, out, err);
    if (code == FPL_OK) code = take_schedule(&x, out, err);
    return code;
}

/* Is the variable there, or does it follow from others (law/predict.c)? */
static int there(const struct predict_question *p, enum fpl_variable which) {
    const double *v = p->question.value;
    const int steps = !isnan(v[FPL_VAR_STEPS]) && !isnan(v[FPL_VAR_BATCH]);
    if (!isnan(v[which])) return 1;
    switch (which) {
    case FPL_VAR_BITS:
        return !isnan(v[FPL_VAR_E]) && !isnan(v[FPL_VAR_M]);
    case FPL_VAR_GROUP:
        return !isnan(v[FPL_VAR_BLOCK]);
    case FPL_VAR_STEPS:
        return !isnan(v[FPL_VAR_D]) && !isnan(v[FPL_VAR_BATCH]);
    case FPL_VAR_D:
        return steps;
    default:
        return 0;
    }
}

static enum fpl_code check_law(const struct predict_question *p, const struct fpl_law *law,
                               struct fpl_error *err) {
    char takes[128];
    fpl_law_describe(law, takes, sizeof takes);
    if (fpl_law_takes(law, FPL_VAR_BLOCK) && fpl_law_takes(law, FPL_VAR_E) &&
        !isnan(p->question.value[FPL_VAR_E]) && isnan(p->question.value[FPL_VAR_BLOCK]))
        return fpl_fail(
            err, FPL_INVALID,
            "predict: block= is missing: elements that share one scale (block=32, block=channel)");
    for (int v = 0; v < FPL_VARIABLES; v++)
        if (fpl_law_takes(law, (enum fpl_variable)v) == 2 && !there(p, (enum fpl_variable)v))
            return fpl_fail(err, FPL_INVALID, "predict: %s= is missing: %s takes %s", fpl_variables[v].name,
                            fpl_law_name(law), takes);
    if (fpl_law_takes_schedule(law) && !p->schedule_given)
        return fpl_fail(err, FPL_INVALID, "predict: schedule= is missing: %s takes %s", fpl_law_name(law),
                        takes);
    if (fpl_law_takes_schedule(law) && !p->schedule_drawn)
        return fpl_fail(err, FPL_INVALID,
                        "predict: schedule=%s needs lr= (its peak) and steps=", p->schedule_name);
    return FPL_OK;
}

/* Which of the law's variables a name may stand for. */
static int useful(const struct fpl_law *law, enum fpl_variable v) {
    if (v <= FPL_VAR_BLOCK || fpl_law_takes(law, v)) return 1;
    /* steps with a batch are D */
    return v == FPL_VAR_STEPS && (fpl_law_takes_schedule(law) || fpl_law_takes(law, FPL_VAR_D));
}

enum fpl_code predict_check(const struct predict_question *p, const struct fpl_law *const *laws, size_t count,
                            struct fpl_error *err) {
    for (int v = 0; v < FPL_VARIABLES; v++) {
        int taken = !p->given[v];
        for (size_t i = 0; i < count; i++) taken |= useful(laws[i], (enum fpl_variable)v);
        if (taken || count == 0) continue;
        char takes[128];
        fpl_law_describe(laws[0], takes, sizeof takes);
        return fpl_fail(err, FPL_INVALID, "predict: %s takes no %s: it takes %s", fpl_law_name(laws[0]),
                        fpl_variables[v].name, takes);
    }
    for (size_t i = 0; i < count; i++) {
        const enum fpl_code code = check_law(p, laws[i], err);
        if (code != FPL_OK) return code;
    }
    return FPL_OK;
}
