/* fit_arguments.c - the words of `fplaw fit`'s command line as options of a fit. */
#include "fit_arguments.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "../base/number.h"
#include "cli.h"

static enum fpl_code take_positive(const char *name, const char *text, double *out, struct fpl_error *err) {
    if (text == NULL || strcmp(text, "auto") == 0) return FPL_OK;
    if (fpl_number_parse(text, out, err) == FPL_OK && *out > 0.0) return FPL_OK;
    return fpl_fail(err, FPL_INVALID, "fit: --%s: auto or a positive number is expected, '%.40s' is found",
                    name, text);
}

static enum fpl_code take_count(const char *name, const char *text, int64_t least, int64_t most, int *out,
                                struct fpl_error *err) {
    int64_t value = 0;
    if (text == NULL) return FPL_OK;
    if (fpl_integer_parse(text, &value, err) != FPL_OK || value < least || value > most)
        return fpl_fail(err, FPL_INVALID, "fit: --%s: %lld to %lld is expected, '%.40s' is found", name,
                        (long long)least, (long long)most, text);
    *out = (int)value;
    return FPL_OK;
}

/* One of the words, by its place. */
static enum fpl_code take_word(const char *name, const char *text, const char *const *words, int *out,
                               struct fpl_error *err) {
    char known[128] = "";
    if (text == NULL) return FPL_OK;
    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(text, words[i]) == 0) {
            *out = i;
            return FPL_OK;
        }
        const size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "", words[i]);
    }
    return fpl_fail(err, FPL_INVALID, "fit: --%s: one of %s is expected, '%.40s' is found", name, known,
                    text);
}

static enum fpl_code take_words(const struct fit_arguments *a, struct fpl_fit_options *o,
                                struct fpl_error *err) {
    static const char *const objectives[] = {"huber", "squared", "absolute", NULL}, *const weights[] = {
                                                                                        "none", "seed", NULL};
    int objective = 0, unit = 0;
    enum fpl_code code = take_word("objective", a->objective, objectives, &objective, err);
    if (code == FPL_OK) code = take_word("weights", a->weights, weights, &o->seed_weights, err);
    if (code == FPL_OK) code = take_word("bootstrap-unit", a->unit, fpl_unit_names, &unit, err);
    if (code == FPL_OK && objective != 0 && a->delta != NULL)
        code = fpl_fail(err, FPL_INVALID, "fit: --delta is Huber's; --objective %s has none", a->objective);
    o->objective = (enum fpl_objective_kind)objective;
    o->unit = (enum fpl_bootstrap_unit)unit;
    o->base = a->base != NULL ? a->base : "auto";
    o->fix = a->fix;
    o->release = a->release;
    o->profile = a->profile;
    o->censor = a->censor;
    o->diagnose = 1;
    return code;
}

static int cores(void) {
    cpu_set_t set;
    const int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n < 1 ? 1 : n;
}

/* "chinchilla, capybara, ...", from the registry. */
static const char *known_laws(void) {
    static char text[512];
    size_t used = 0;
    for (size_t i = 0; fpl_laws[i] != NULL && used < sizeof text; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", i > 0 ? ", " : "",
                                 fpl_law_name(fpl_laws[i]));
    return text;
}

enum fpl_code fit_take_options(const struct fit_arguments *a, struct fpl_fit_options *o,
                               struct fpl_error *err) {
    *o = FPL_FIT_DEFAULTS;
    o->threads = cores();
    o->hold_out = a->hold_out;
    if (a->inputs != 1)
        return fpl_fail(err, FPL_INVALID, "fit: one study directory or CSV is expected, %d given", a->inputs);
    if (a->laws == NULL && !a->regret)
        return fpl_fail(err, FPL_INVALID, "fit: --law NAME is missing: one of %s", known_laws());
    if (a->laws != NULL && a->regret)
        return fpl_fail(err, FPL_INVALID,
                        "fit: --regret compares a list of models of its own; --law is for fits");
    if (a->out == NULL)
        return fpl_fail(err, FPL_INVALID,
                        "fit: --out FIT.json is missing: where the fit goes ('-': standard output)");
    if (a->columns > FIT_COLUMNS || a->wheres > FIT_COLUMNS)
        return fpl_fail(err, FPL_INVALID, "fit: at most %d --columns and --where are expected", FIT_COLUMNS);
    enum fpl_code code = take_positive("delta", a->delta, &o->delta, err);
    if (code == FPL_OK) code = take_positive("window", a->window, &o->window, err);
    if (code == FPL_OK) code = take_count("bootstrap", a->bootstrap, 0, 1000000, &o->bootstrap, err);
    if (code == FPL_OK) code = take_count("threads", a->threads, 1, 1024, &o->threads, err);
    if (code == FPL_OK) code = take_words(a, o, err);
    if (code == FPL_OK && a->seed != NULL && fpl_unsigned_parse(a->seed, &o->seed, err) != FPL_OK)
        code = fpl_fail_at(err, "fit: --seed");
    if (code == FPL_OK && a->level != NULL &&
        (fpl_number_parse(a->level, &o->level, err) != FPL_OK || !(o->level > 0.0 && o->level < 1.0)))
        code = fpl_fail(err, FPL_INVALID,
                        "fit: --level: a number between 0 and 1 is expected, '%.40s' is found", a->level);
    return code;
}

static enum fpl_code take_law(const char *name, const struct fpl_law **laws, size_t *count,
                              struct fpl_error *err) {
    const char *names[FIT_LAWS + 1];
    size_t known = 0;
    for (; fpl_laws[known] != NULL && known < FIT_LAWS; known++) names[known] = fpl_law_name(fpl_laws[known]);
    names[known] = NULL;
    const struct fpl_law *law = fpl_law_find(name);
    if (law == NULL) {
        const char *near = fpl_nearest_word(name, names);
        return fpl_fail(err, FPL_INVALID, "fit: --law: unknown law '%.40s'; %s%s%s", name,
                        near != NULL ? "did you mean '" : known_laws(), near != NULL ? near : "",
                        near != NULL ? "'?" : " are known");
    }
    for (size_t i = 0; i < *count; i++)
        if (laws[i] == law) return fpl_fail(err, FPL_INVALID, "fit: --law: '%s' is named twice", name);
    laws[(*count)++] = law;
    return FPL_OK;
}

enum fpl_code fit_take_laws(const char *text, const struct fpl_law **laws, size_t *count,
                            struct fpl_error *err) {
    *count = 0;
    while (1) {
        char name[64];
        const size_t length = strcspn(text, ",");
        snprintf(name, sizeof name, "%.*s", (int)(length < 60 ? length : 60), text);
        const enum fpl_code code = take_law(name, laws, count, err);
        if (code != FPL_OK || text[length] == '\0') return code;
        text += length + 1;
    }
}
