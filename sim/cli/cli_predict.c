/* cli_predict.c - `fplaw predict`: ask a fit (FIT.json) or published constants (LAW:PRESET). */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../law/law.h"
#include "cli.h"
#include "fit_source.h"
#include "predict.h"

#define ARGUMENT_LIMIT 32
#define LAW_LIMIT 64
#define BITS_LEAST 2
#define BITS_MOST 16

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
    "FIT.json|LAW:PRESET NAME=VALUE...",
    "Loss, optimal learning rate and batch, critical sizes, best exponent/mantissa split and what else "
    "the law tells, with intervals: N=1e9 D=1e11 [format=e4m3 block=128] [lr=..] [batch_tokens=..]. E= and "
    "M= may stand for format=, block=channel for the paper's channel-wise scaling; without lr and "
    "batch_tokens the loss is that at their optimum. flop=1e24 asks for the optimum at a budget; with N or D "
    "it gives the other. Laws of "
    "loss curves take schedule=cosine|wsd|constant|FILE.csv (step,lr) with lr, steps, warmup, decay and "
    "lr_final, and step=. N_final=5e8 prune=0.25:0.75 give the N_mean of a pruned model."
    "\v'fplaw predict LAW:PRESET' without names says what the law takes.",
    NULL,
    NULL,
    NULL};

/* ---- the fit ------------------------------------------------------------------------------------- */

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

static json_t *forms_of(const struct predict_forms *f) {
    json_t *o = json_object(), *laws = json_array();
    for (size_t i = 0; i < f->count; i++) json_array_append_new(laws, json_string(f->law[i]));
    json_object_set_new(o, "laws", laws);
    json_object_set_new(o, "lo", number(f->count > 0 ? f->loss[0] : (double)NAN));
    json_object_set_new(o, "hi", number(f->count > 0 ? f->loss[1] : (double)NAN));
    return o;
}

static enum fpl_code print_json(const struct fpl_fit *fit, const struct fpl_answer *answer,
                                const struct predict_forms *forms, struct fpl_error *err) {
    json_t *o = json_object();
    json_object_set_new(o, "law", json_string(fpl_law_name(fpl_fit_law(fit))));
    json_object_set_new(o, "loss", estimate(&answer->loss));
    json_object_set_new(o, "loss_new_run", estimate(&answer->loss_new));
    json_object_set_new(o, "lr", estimate(&answer->lr));
    json_object_set_new(o, "batch_tokens", estimate(&answer->batch_tokens));
    json_object_set_new(o, "D_crit", estimate(&answer->D_crit));
    if (!isnan(answer->delta.value)) json_object_set_new(o, "delta", estimate(&answer->delta));
    for (int i = 0; i < answer->told_count; i++)
        json_object_set_new(o, answer->told[i].name, estimate(&answer->told[i].value));
    json_object_set_new(o, "best_split", splits(fit));
    json_object_set_new(o, "loss_over_forms", forms_of(forms));
    json_object_set_new(o, "schedule", json_string(fpl_fit_schedule(fit)));
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

static void print_told(const char *name, const struct fpl_estimate *e, const char *unit,
                       const char *meaning) {
    if (isnan(e->value)) return;
    printf("  %-22s %12.6g", name, e->value);
    if (!isnan(e->lo)) printf("  [%.5g, %.5g]", e->lo, e->hi);
    if (unit[0] != '\0') printf("  %s", unit);
    if (meaning[0] != '\0') printf("  (%s)", meaning);
    printf("\n");
}

static void print_estimate(const char *name, const struct fpl_estimate *e) { print_told(name, e, "", ""); }

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
    print_estimate("rise of the loss", &answer->delta);
    for (int i = 0; i < answer->told_count; i++) {
        const struct fpl_told *t = &answer->told[i];
        print_told(t->name, &t->value, t->unit, t->meaning);
    }
    print_splits(fit);
    if (fpl_fit_recipe(fit)[0] != '\0')
        printf("  quantized runs of the fit compute as %s does, in several formats\n", fpl_fit_recipe(fit));
    if (fpl_fit_conventions(fit)[0] != '\0') printf("  measured with: %s\n", fpl_fit_conventions(fit));
    if (fpl_fit_conventions(fit)[0] == '\0' && fpl_fit_schedule(fit)[0] != '\0')
        printf("  schedule of the fit's runs: %s\n", fpl_fit_schedule(fit));
    if (s.bootstrap > 0) printf("  brackets: %g %% intervals\n", 100.0 * s.level);
}

static void print_forms(const struct predict_forms *f) {
    if (f->count < 2) return;
    printf("over the forms that fit about as well (");
    for (size_t i = 0; i < f->count; i++) printf("%s%s", i > 0 ? ", " : "", f->law[i]);
    printf(")\n  loss                   %12.6g to %.6g\n", f->loss[0], f->loss[1]);
}

static enum fpl_code answer_one(const struct arguments *a, const struct fpl_fit *fit,
                                const struct predict_question *asked, const struct predict_forms *forms,
                                struct fpl_error *err) {
    struct fpl_answer answer;
    char warning[192];
    struct fpl_question question;
    enum fpl_code code = predict_at_optimum(asked, fit, &question, err);
    if (code == FPL_OK) code = fpl_fit_ask(fit, &question, &answer, err);
    if (code != FPL_OK) return fpl_fail_at(err, "predict");
    if (a->json)
        code = print_json(fit, &answer, forms, err);
    else
        print_text(fit, &answer);
    if (!a->json && asked->at_optimum)
        printf("  asked at N = %.4g and D = %.4g, the optimum of this budget\n", question.value[FPL_VAR_N],
               question.value[FPL_VAR_D]);
    if (answer.warning[0] != '\0')
        fprintf(stderr, "fplaw: %s: %s\n", fpl_law_name(fpl_fit_law(fit)), answer.warning);
    predict_schedule_warning(asked, fit, warning, sizeof warning);
    if (warning[0] != '\0') fprintf(stderr, "fplaw: %s: %s\n", fpl_law_name(fpl_fit_law(fit)), warning);
    return code;
}

int fpl_cmd_predict(int argc, char **argv) {
    struct arguments a = {0};
    struct fpl_error err = {FPL_OK, ""};
    struct predict_question asked;
    struct predict_forms forms;
    struct fpl_fit **fits = NULL;
    size_t count = 0, chosen = 0, of = 0;
    const struct fpl_law *laws[LAW_LIMIT];
    fpl_cli_parse(&argp, argc, argv, &a);
    enum fpl_code code = FPL_OK;
    if (a.sources != 1)
        code =
            fpl_fail(&err, FPL_INVALID,
                     "predict: one FIT.json or LAW:PRESET (capybara:paper) is expected, %d given", a.sources);
    if (code == FPL_OK && a.settings > ARGUMENT_LIMIT)
        code = fpl_fail(&err, FPL_INVALID, "predict: at most %d NAME=VALUE are expected", ARGUMENT_LIMIT);
    predict_question_clear(&asked);
    if (code == FPL_OK) code = predict_settings(a.setting, a.settings, &asked, &err);
    if (code == FPL_OK) code = fpl_cli_fits(a.source, &fits, &count, &err);
    if (code == FPL_OK) code = choose(&a, fits, count, &chosen, &err);
    for (size_t i = 0; code == FPL_OK && i < count && of < LAW_LIMIT; i++)
        if (i == chosen || (!a.json && a.law == NULL)) laws[of++] = fpl_fit_law(fits[i]);
    if (code == FPL_OK) code = predict_check(&asked, laws, of, &err);
    if (code == FPL_OK) predict_ask_forms(fits, asked.at_optimum ? 0 : count, &asked.question, &forms);
    for (size_t i = 0; code == FPL_OK && i < count; i++)
        if (i == chosen || (!a.json && a.law == NULL)) code = answer_one(&a, fits[i], &asked, &forms, &err);
    if (code == FPL_OK && !a.json) print_forms(&forms);
    predict_question_free(&asked);
    fpl_fits_free(fits, count);
    return code == FPL_OK ? fpl_cli_flush(0) : fpl_cli_fail(&err);
}
