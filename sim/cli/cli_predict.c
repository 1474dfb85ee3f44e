/* cli_predict.c - `fplaw predict`: ask a fit (FIT.json) or published constants (LAW:PRESET). */
#include <ctype.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/format.h"
#include "../base/number.h"
#include "../law/law.h"
#include "cli.h"

#define ARGUMENT_LIMIT 32
#define BITS_LEAST 2
#define BITS_MOST 16
/* Channel-wise scaling as arXiv 2501.02423 enters it into its law. */
#define CHANNEL_LOG2_BLOCK 13.1567

struct arguments {
    const char *source, *law, *setting[ARGUMENT_LIMIT];
    int sources, settings, json;
};

enum { KEY_JSON = 256 };

static const struct argp_option options[] = {
    {"law", 'l', "NAME", 0, "of a FIT.json with several laws, the one to ask", 0},
    {"json", KEY_JSON, NULL, 0, "one JSON object on standard output", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct arguments *a = state->input;
    switch (key) {
    case 'l':
        a->law = arg;
        return 0;
    case KEY_JSON:
        a->json = 1;
        return 0;
    case ARGP_KEY_ARG: {
        /* NAME=VALUE is a setting; a path with '=' in it can be written ./PATH. */
        const char *equal = strchr(arg, '=');
        const int setting = equal != NULL && memchr(arg, '/', (size_t)(equal - arg)) == NULL;
        if (setting && a->settings < ARGUMENT_LIMIT) a->setting[a->settings] = arg;
        if (!setting) a->source = arg;
        a->settings += setting;
        a->sources += !setting;
        return 0;
    }
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp argp = {
    options,
    parse,
    "FIT.json|LAW:PRESET N=1e9 D=1e11 [format=e4m3 block=128] [lr=..] [batch_tokens=..]",
    "Loss, optimal learning rate and batch, critical data size and best exponent/mantissa split, "
    "with intervals. E= and M= may stand for format=, block=channel for the paper's "
    "channel-wise scaling. Without lr and batch_tokens the loss is that at their optimum.",
    NULL,
    NULL,
    NULL};

/* ---- the question ------------------------------------------------------------------------------ */

static const char *const names[] = {"N", "D", "lr", "batch_tokens", "E", "M", "block", "format", NULL};

static enum fpl_code take_format(const char *text, struct fpl_point_at *at, struct fpl_error *err) {
    struct fpl_format format;
    if (strcmp(text, "fp32") == 0) return FPL_OK; /* nothing is quantized */
    if (fpl_format_parse(text, &format, err) != FPL_OK) return fpl_fail_at(err, "predict: format");
    at->E = (double)format.ebits;
    at->M = (double)format.mbits;
    return FPL_OK;
}

static enum fpl_code take_number(const char *setting, const char *name, const char *text,
                                 struct fpl_point_at *at, struct fpl_error *err) {
    double *const places[] = {&at->N, &at->D, &at->lr, &at->batch_tokens, &at->E, &at->M, &at->block};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        if (strcmp(name, names[i]) != 0) continue;
        if (fpl_number_parse(text, places[i], err) != FPL_OK) return fpl_fail_at(err, "predict: %s", setting);
        return FPL_OK;
    }
    const char *near = fpl_nearest_word(name, names);
    return fpl_fail(err, FPL_INVALID, "predict: unknown name in '%.60s'; %s%s%s", setting,
                    near != NULL ? "did you mean '" : "N D lr batch_tokens format E M block are known",
                    near != NULL ? near : "", near != NULL ? "'?" : "");
}

static enum fpl_code take_settings(const struct arguments *a, struct fpl_point_at *at,
                                   struct fpl_error *err) {
    const double none = (double)NAN;
    int has_format = 0, has_bits = 0;
    *at = (struct fpl_point_at){none, none, none, none, none, none, none};
    if (a->settings > ARGUMENT_LIMIT)
        return fpl_fail(err, FPL_INVALID, "predict: at most %d NAME=VALUE are expected", ARGUMENT_LIMIT);
    for (int i = 0; i < a->settings; i++) {
        char name[32];
        const char *equal = strchr(a->setting[i], '=');
        snprintf(name, sizeof name, "%.*s", (int)(equal - a->setting[i] < 30 ? equal - a->setting[i] : 30),
                 a->setting[i]);
        for (int j = 0; j < i; j++)
            if (strncmp(a->setting[j], a->setting[i], (size_t)(equal - a->setting[i]) + 1) == 0)
                return fpl_fail(err, FPL_INVALID, "predict: '%s' is given twice", name);
        enum fpl_code code;
        has_format |= strcmp(name, "format") == 0;
        has_bits |= strcmp(name, "E") == 0 || strcmp(name, "M") == 0;
        if (strcmp(name, "format") == 0)
            code = take_format(equal + 1, at, err);
        else if (strcmp(name, "block") == 0 && strcmp(equal + 1, "channel") == 0)
            at->block = exp2(CHANNEL_LOG2_BLOCK), code = FPL_OK;
        else
            code = take_number(a->setting[i], name, equal + 1, at, err);
        if (code != FPL_OK) return code;
    }
    if (has_format && has_bits)
        return fpl_fail(err, FPL_INVALID, "predict: give either format= or E= and M=");
    if (!isnan(at->E) && isnan(at->block))
        return fpl_fail(
            err, FPL_INVALID,
            "predict: block= is missing: elements that share one scale (block=32, block=channel)");
    if (isnan(at->N) || isnan(at->D))
        return fpl_fail(err, FPL_INVALID, "predict: %s= is missing; N= and D= are always needed",
                        isnan(at->N) ? "N" : "D");
    return FPL_OK;
}

/* ---- the fit ------------------------------------------------------------------------------------- */

static enum fpl_code read_fits(const char *source, struct fpl_fit ***fits, size_t *count,
                               struct fpl_error *err) {
    /* LAW:PRESET has no path separator and a law before its colon. */
    const char *colon = strchr(source, ':');
    char name[32] = "";
    if (colon != NULL && colon - source < 30)
        snprintf(name, sizeof name, "%.*s", (int)(colon - source), source);
    if (fpl_law_find(name) == NULL) return fpl_fits_read(source, fits, count, err);
    *fits = calloc(1, sizeof **fits);
    if (*fits == NULL) return fpl_fail(err, FPL_SYSTEM, "predict: out of memory");
    const enum fpl_code code = fpl_law_preset(source, &(*fits)[0], err);
    *count = code == FPL_OK;
    return code;
}

/* The law to answer in JSON: the one asked for, else the one with the most parameters. */
static enum fpl_code choose(const struct arguments *a, struct fpl_fit **fits, size_t count, size_t *chosen,
                            struct fpl_error *err) {
    *chosen = 0;
    for (size_t i = 0; i < count; i++) {
        if (a->law != NULL && strcmp(fpl_law_name(fpl_fit_law(fits[i])), a->law) == 0) {
            *chosen = i;
            return FPL_OK;
        }
        if (fpl_fit_param_count(fits[i]) > fpl_fit_param_count(fits[*chosen])) *chosen = i;
    }
    if (a->law == NULL) return FPL_OK;
    return fpl_fail(err, FPL_INVALID, "predict: %s has no law '%.40s'", a->source, a->law);
}

/* ---- JSON ------------------------------------------------------------------------------------------ */

static json_t *number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

static json_t *estimate(const struct fpl_estimate *e) {
    if (isnan(e->value)) return json_null();
    json_t *o = json_object();
    json_object_set_new(o, "value", number(e->value));
    json_object_set_new(o, "lo", number(e->lo));
    json_object_set_new(o, "hi", number(e->hi));
    return o;
}

static json_t *splits(const struct fpl_fit *fit) {
    struct fpl_split s;
    if (!fpl_fit_split(fit, BITS_MOST, &s)) return json_null();
    json_t *list = json_array();
    for (int bits = BITS_LEAST; bits <= BITS_MOST && fpl_fit_split(fit, bits, &s); bits++) {
        json_t *o = json_object();
        json_object_set_new(o, "bits", json_integer(bits));
        json_object_set_new(o, "E", json_integer(s.E));
        json_object_set_new(o, "M", json_integer(s.M));
        json_object_set_new(o, "E_opt", estimate(&s.E_opt));
        json_object_set_new(o, "share", number(s.share));
        json_array_append_new(list, o);
    }
    return list;
}

static enum fpl_code print_json(const struct fpl_fit *fit, const struct fpl_answer *answer,
                                struct fpl_error *err) {
    json_t *o = json_object();
    json_object_set_new(o, "law", json_string(fpl_law_name(fpl_fit_law(fit))));
    json_object_set_new(o, "loss", estimate(&answer->loss));
    json_object_set_new(o, "loss_new_run", estimate(&answer->loss_new));
    json_object_set_new(o, "lr", estimate(&answer->lr));
    json_object_set_new(o, "batch_tokens", estimate(&answer->batch_tokens));
    json_object_set_new(o, "D_crit", estimate(&answer->D_crit));
    json_object_set_new(o, "best_split", splits(fit));
    json_object_set_new(o, "outside", number(answer->outside));
    json_object_set_new(o, "warning", json_string(answer->warning));
    char *text = json_dumps(o, JSON_REAL_PRECISION(17) | JSON_PRESERVE_ORDER);
    json_decref(o);
    if (text == NULL) return fpl_fail(err, FPL_SYSTEM, "predict: out of memory");
    printf("%s\n", text);
    free(text);
    return FPL_OK;
}

/* ---- text --------------------------------------------------------------------------------------------- */

static void print_estimate(const char *name, const struct fpl_estimate *e) {
    if (isnan(e->value)) return;
    printf("  %-22s %12.6g", name, e->value);
    if (!isnan(e->lo)) printf("  [%.5g, %.5g]", e->lo, e->hi);
    printf("\n");
}

static void print_splits(const struct fpl_fit *fit) {
    struct fpl_split s;
    if (!fpl_fit_split(fit, BITS_MOST, &s)) return;
    printf("  best split of 1 + E + M bits:\n");
    for (int bits = BITS_LEAST; bits <= BITS_MOST && fpl_fit_split(fit, bits, &s); bits++) {
        printf("    %2d bits  E%dM%-2d  E_opt %5.2f", bits, s.E, s.M, s.E_opt.value);
        if (!isnan(s.E_opt.lo))
            printf("  [%.2f, %.2f], %3.0f %% of resamples agree", s.E_opt.lo, s.E_opt.hi, 100.0 * s.share);
        printf("\n");
    }
}

static void print_text(const struct fpl_fit *fit, const struct fpl_answer *answer) {
    struct fpl_fit_summary s;
    fpl_fit_summarize(fit, &s);
    printf("%s (%s)\n", fpl_law_name(fpl_fit_law(fit)), fpl_law_citation(fpl_fit_law(fit)));
    print_estimate("loss", &answer->loss);
    if (!isnan(answer->loss_new.lo)) print_estimate("loss of one new run", &answer->loss_new);
    print_estimate("optimal lr", &answer->lr);
    print_estimate("optimal batch_tokens", &answer->batch_tokens);
    print_estimate("critical D", &answer->D_crit);
    print_splits(fit);
    if (s.bootstrap > 0) printf("  brackets: %g %% intervals\n", 100.0 * s.level);
}

static enum fpl_code answer_one(const struct arguments *a, const struct fpl_fit *fit,
                                const struct fpl_point_at *at, struct fpl_error *err) {
    struct fpl_answer answer;
    enum fpl_code code = fpl_fit_predict(fit, at, &answer, err);
    if (code != FPL_OK) return fpl_fail_at(err, "predict");
    if (a->json)
        code = print_json(fit, &answer, err);
    else
        print_text(fit, &answer);
    if (answer.warning[0] != '\0')
        fprintf(stderr, "fplaw: %s: %s\n", fpl_law_name(fpl_fit_law(fit)), answer.warning);
    return code;
}

int fpl_cmd_predict(int argc, char **argv) {
    struct arguments a = {0};
    struct fpl_error err = {FPL_OK, ""};
    struct fpl_point_at at;
    struct fpl_fit **fits = NULL;
    size_t count = 0, chosen = 0;
    fpl_cli_parse(&argp, argc, argv, &a);
    enum fpl_code code = FPL_OK;
    if (a.sources != 1)
        code =
            fpl_fail(&err, FPL_INVALID,
                     "predict: one FIT.json or LAW:PRESET (capybara:paper) is expected, %d given", a.sources);
    if (code == FPL_OK) code = take_settings(&a, &at, &err);
    if (code == FPL_OK) code = read_fits(a.source, &fits, &count, &err);
    if (code == FPL_OK) code = choose(&a, fits, count, &chosen, &err);
    for (size_t i = 0; code == FPL_OK && i < count; i++)
        if (i == chosen || (!a.json && a.law == NULL)) code = answer_one(&a, fits[i], &at, &err);
    fpl_fits_free(fits, count);
    return code == FPL_OK ? fpl_cli_flush(0) : fpl_cli_fail(&err);
}
