/* cli_plan.c - `fplaw plan`: what to run for a budget, and which runs would tell most (plan/plan.h). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "fit_source.h"
#include "plan.h"

enum {
    KEY_FLOPS = 256,
    KEY_HOURS,
    KEY_HARDWARE,
    KEY_SPEED,
    KEY_BLOCK,
    KEY_FORMAT,
    KEY_TABLE,
    KEY_ISOFLOP,
    KEY_N,
    KEY_MAX_D,
    KEY_BATCH_MIN,
    KEY_BATCH_MAX,
    KEY_MEMORY,
    KEY_STATE,
    KEY_INFERENCE,
    KEY_OPTIMA,
    KEY_NEXT,
    KEY_DECIDE,
    KEY_MAX_FLOPS,
    KEY_NOISE,
    KEY_LEAST_GAIN,
    KEY_SEED,
    KEY_SET,
    KEY_JSON
};

static const struct argp_option options[] = {
    {"flops", KEY_FLOPS, "X[,X...]", 0, "budgets in FLOP of the unquantized run (6 N D)", 1},
    {"hours", KEY_HOURS, "H[,H...]", 0, "budgets in hours, with --hardware-flops", 1},
    {"hardware-flops", KEY_HARDWARE, "F", 0, "FLOP per second at speed 1", 1},
    {"table", KEY_TABLE, NULL, 0, "nine budgets, from a hundredth to a hundred times the one given", 1},
    {"speed", KEY_SPEED, "FORMAT[/BLOCK]=S,...", 0,
     "formats to choose from with their speed against bf16: e4m3=2,e2m1=4", 2},
    {"format", KEY_FORMAT, "FORMAT[/BLOCK],...", 0, "more formats, at speed 1", 2},
    {"block", KEY_BLOCK, "B[,B...]", 0,
     "elements per scale of formats without a block of their own; channel: the paper's (default 128, or what "
     "the fit has)",
     2},
    {"N", KEY_N, "N", 0, "model size that is given", 3},
    {"max-D", KEY_MAX_D, "D", 0, "most tokens", 3},
    {"batch-min", KEY_BATCH_MIN, "TOKENS", 0, "least batch", 3},
    {"batch-max", KEY_BATCH_MAX, "TOKENS", 0, "largest batch", 3},
    {"memory", KEY_MEMORY, "BYTES", 0, "of weights in the format and optimizer state", 3},
    {"state-bytes", KEY_STATE, "BYTES", 0,
     "of a parameter beside its weight (12: float32 master and moments)", 3},
    {"inference-tokens", KEY_INFERENCE, "T", 0, "2 N T FLOP of the budget go to using the model", 3},
    {"optima", KEY_OPTIMA, "FIT.json|LAW:PRESET", 0,
     "learning rate and batch from another law, at the N and D that this one gives (steplaw:paper)", 4},
    {"isoflop", KEY_ISOFLOP, NULL, 0, "losses over sizes at the first budget, in its best format", 4},
    {"next", KEY_NEXT, "K", 0, "propose the K runs that narrow a decision most, as a study file", 5},
    {"decide", KEY_DECIDE, "loss|lr|batch|D_crit[@N=..,D=..,format=..,block=..]|best-format", 0,
     "the decision; what it leaves out is that of the plan's best row, without a budget the largest N and D "
     "of the "
     "fit, unquantized",
     5},
    {"max-flops", KEY_MAX_FLOPS, "X", 0, "largest proposed run", 5},
    {"noise", KEY_NOISE, "SD", 0, "of ln loss of one run (default: the fit's)", 5},
    {"least-gain", KEY_LEAST_GAIN, "SHARE", 0,
     "of the runs that tell at least this share of what the best one tells, that with the most per FLOP "
     "(0.1)",
     5},
    {"set", KEY_SET, "KEY=VALUE", 0, "an option of every proposed run (layers=2, data=..); may be repeated",
     5},
    {"seed", KEY_SEED, "S", 0, "seed of the first of equal runs (101)", 5},
    {"out", 'o', "FILE", 0, "where the study file goes (default: standard output)", 5},
    {"law", 'l', "NAME", 0, "of a FIT.json with several laws, the one to plan with", 6},
    {"json", KEY_JSON, NULL, 0, "one JSON object on standard output", 6},
    {NULL, 0, NULL, 0, NULL, 0},
};

static const char **text_of(struct plan_asked *a, int key) {
    switch (key) {
    case KEY_FLOPS:
        return &a->flops;
    case KEY_HOURS:
        return &a->hours;
    case KEY_HARDWARE:
        return &a->hardware;
    case KEY_SPEED:
        return &a->speed;
    case KEY_BLOCK:
        return &a->block;
    case KEY_FORMAT:
        return &a->format;
    case KEY_N:
        return &a->n;
    case KEY_MAX_D:
        return &a->max_d;
    case KEY_BATCH_MIN:
        return &a->batch_min;
    case KEY_BATCH_MAX:
        return &a->batch_max;
    case KEY_MEMORY:
        return &a->memory;
    case KEY_STATE:
        return &a->state_bytes;
    case KEY_INFERENCE:
        return &a->inference;
    case KEY_OPTIMA:
        return &a->optima;
    case KEY_NEXT:
        return &a->next;
    case KEY_DECIDE:
        return &a->decide;
    case KEY_MAX_FLOPS:
        return &a->max_flops;
    case KEY_NOISE:
        return &a->noise;
    case KEY_LEAST_GAIN:
        return &a->least_gain;
    case KEY_SEED:
        return &a->seed;
    case 'o':
        return &a->out;
    case 'l':
        return &a->law;
    default:
        return NULL;
    }
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct plan_asked *a = state->input;
    const char **text = text_of(a, key);
    if (text != NULL) {
        *text = arg;
        return 0;
    }
    switch (key) {
    case KEY_TABLE:
        a->table = 1;
        return 0;
    case KEY_ISOFLOP:
        a->isoflop = 1;
        return 0;
    case KEY_JSON:
        a->json = 1;
        return 0;
    case KEY_SET:
        if (a->settings < PLAN_SETTINGS) a->setting[a->settings] = arg;
        a->settings++;
        return 0;
    case ARGP_KEY_ARG:
        a->source = arg;
        a->sources++;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp argp = {
    options,
    parse,
    "FIT.json|LAW:PRESET",
    "The best model size, tokens, format, learning rate and batch for a budget, with what a format costs, "
    "the "
    "speed that makes up for it, its critical data size, and the bits that pay. Intervals come from the "
    "fit's "
    "resamples; a second best inside the noise is called so."
    "\vA budget counts FLOP as the unquantized run does them: a format of speed 2 does twice as many in the "
    "same time. Training a token costs 6 N FLOP. With --next the study file goes to standard output or "
    "--out; "
    "`fplaw study` takes it.",
    NULL,
    NULL,
    NULL};

/* ---- which law ------------------------------------------------------------------------------------- */

/* The one named, else of those that can plan the one with the most parameters. */
static enum fpl_code choose(const struct plan_asked *a, struct fpl_fit **fits, size_t count,
                            const struct fpl_fit **out, struct fpl_error *err) {
    struct fpl_error why = {FPL_OK, ""};
    *out = NULL;
    for (size_t i = 0; i < count; i++) {
        const int named = a->law != NULL && strcmp(fpl_law_name(fpl_fit_law(fits[i])), a->law) == 0;
        if (a->law != NULL && !named) continue;
        if (fpl_plan_check(fits[i], &why) != FPL_OK) continue;
        if (*out == NULL || fpl_fit_param_count(fits[i]) > fpl_fit_param_count(*out)) *out = fits[i];
    }
    if (*out != NULL) return FPL_OK;
    if (why.code != FPL_OK) return fpl_fail(err, FPL_INVALID, "plan: %s: %s", a->source, why.text);
    return fpl_fail(err, FPL_INVALID, "plan: %s has no law '%.40s'", a->source, a->law != NULL ? a->law : "");
}

/* ---- answers --------------------------------------------------------------------------------------- */

/* The first fit of the source that gives a learning rate or a batch. */
static enum fpl_code read_optima(const struct plan_asked *a, struct fpl_fit ***fits, size_t *count,
                                 const struct fpl_fit **out, struct fpl_error *err) {
    const struct fpl_point_at at = {1e8,         1e10,        (double)NAN, (double)NAN,
                                    (double)NAN, (double)NAN, (double)NAN};
    *out = NULL;
    if (a->optima == NULL) return FPL_OK;
    const enum fpl_code code = fpl_cli_fits(a->optima, fits, count, err);
    if (code != FPL_OK) return fpl_fail_at(err, "plan: --optima");
    for (size_t i = 0; *out == NULL && i < *count; i++) {
        struct fpl_fit_vector v;
        fpl_fit_vector_at((*fits)[i], -1, &v);
        if (isfinite(fpl_vector_lr(&v, &at))) *out = (*fits)[i];
    }
    if (*out != NULL) return FPL_OK;
    return fpl_fail(err, FPL_INVALID,
                    "plan: --optima %s: a law that gives a learning rate is expected (steplaw, "
                    "joint)",
                    a->optima);
}

/* Other laws of the file at the first budget: the range over forms, beside the intervals of one form. */
static void ask_others(const struct plan_asked *a, struct fpl_fit **fits, size_t count,
                       struct plan_answer *p) {
    const struct fpl_plan_row *best = &p->plan[0].row[0];
    for (size_t i = 0; i < count && p->others < PLAN_OTHERS && best->possible; i++) {
        struct fpl_fit_vector v;
        struct plan_other *other = &p->other[p->others];
        if (fits[i] == p->fit || fpl_plan_check(fits[i], NULL) != FPL_OK) continue;
        fpl_fit_vector_at(fits[i], -1, &v);
        other->law = fpl_law_name(fpl_fit_law(fits[i]));
        p->others +=
            (size_t)fpl_plan_best(&v, best->format, &a->limits, a->budget[0], best->at.N, &other->at);
    }
}

static enum fpl_code make(const struct plan_asked *a, const struct fpl_fit *optima, struct plan_answer *p,
                          struct fpl_error *err) {
    int possible = 0;
    for (size_t k = 0; k < a->budgets; k++) {
        const enum fpl_code code =
            fpl_plan_make(p->fit, a->formats, a->format_count, &a->limits, a->budget[k], &p->plan[k], err);
        if (code != FPL_OK) return fpl_fail_at(err, "plan");
        p->plans++;
        possible |= p->plan[k].rows > 0 && p->plan[k].row[0].possible;
        if (optima != NULL) plan_take_optima(a, p->fit, optima, &p->plan[k]);
    }
    if (!possible)
        return fpl_fail(err, FPL_INVALID, "plan: no format has an answer at any budget; %s: %s",
                        p->plan[0].row[0].format->name, p->plan[0].row[0].note);
    const struct fpl_plan_row *best = &p->plan[0].row[0];
    if (best->possible && p->plans > 1)
        p->has_allocation =
            fpl_plan_allocation(p->fit, best->format, &a->limits, a->budget, a->budgets, &p->allocation);
    if (best->possible && a->isoflop)
        p->isoflops =
            fpl_plan_isoflop(p->fit, best->format, &a->limits, a->budget[0], p->isoflop, PLAN_ISOFLOPS);
    p->has_bits = 1;
    for (size_t k = 0; k < a->budgets && p->has_bits; k++)
        p->has_bits = fpl_plan_best_bits(p->fit, a->budget[k], a->block_first, &p->bits[k]);
    return FPL_OK;
}

static enum fpl_code answer(const struct plan_asked *a, struct fpl_fit **fits, size_t count,
                            const struct fpl_fit *optima, struct plan_answer *p, struct fpl_error *err) {
    if (a->next != NULL) {
        struct fpl_plan *plan = &p->plan[0];
        if (a->budgets > 0) {
            const enum fpl_code code =
                fpl_plan_make(p->fit, a->formats, a->format_count, &a->limits, a->budget[0], plan, err);
            if (code != FPL_OK) return fpl_fail_at(err, "plan");
            p->plans = 1;
        }
        return plan_next(a, p->fit, a->budgets > 0 ? plan : NULL, err);
    }
    const enum fpl_code code = make(a, optima, p, err);
    if (code != FPL_OK) return code;
    ask_others(a, fits, count, p);
    if (a->json) return plan_print_json(a, p, err);
    plan_print_text(a, p);
    return FPL_OK;
}

int fpl_cmd_plan(int argc, char **argv) {
    struct plan_asked *a = calloc(1, sizeof *a);
    struct plan_answer *p = calloc(1, sizeof *p);
    struct fpl_error err = {FPL_OK, ""};
    struct fpl_fit **fits = NULL;
    struct fpl_fit **optima_fits = NULL;
    const struct fpl_fit *optima = NULL;
    size_t count = 0, optima_count = 0;
    enum fpl_code code = FPL_OK;
    if (a == NULL || p == NULL) code = fpl_fail(&err, FPL_SYSTEM, "plan: out of memory");
    if (code == FPL_OK) {
        fpl_cli_parse(&argp, argc, argv, a);
        if (a->sources != 1)
            code = fpl_fail(&err, FPL_INVALID,
                            "plan: one FIT.json or LAW:PRESET (capybara:paper) is expected, %d given",
                            a->sources);
        else if (a->settings > PLAN_SETTINGS)
            code = fpl_fail(&err, FPL_INVALID, "plan: at most %d --set are expected", PLAN_SETTINGS);
    }
    if (code == FPL_OK) code = plan_numbers(a, &err);
    if (code == FPL_OK) code = fpl_cli_fits(a->source, &fits, &count, &err);
    if (code == FPL_OK) code = choose(a, fits, count, &p->fit, &err);
    if (code == FPL_OK) code = plan_formats(a, p->fit, &err);
    if (code == FPL_OK) code = read_optima(a, &optima_fits, &optima_count, &optima, &err);
    if (code == FPL_OK) code = answer(a, fits, count, optima, p, &err);
    for (size_t k = 0; p != NULL && k < p->plans; k++) fpl_plan_free(&p->plan[k]);
    fpl_fits_free(fits, count);
    fpl_fits_free(optima_fits, optima_count);
    free(a);
    free(p);
    return code == FPL_OK ? fpl_cli_flush(0) : fpl_cli_fail(&err);
}
