/* lawopt.c - learning rates and batch sizes that come from a law, and octaves around them.
 *
 * A value from a law must be the same number on every machine and in every call, because it is
 * part of a run's identity.  So constants are evaluated with base/detmath.h, the batch is
 * rounded to few sequence counts, the learning rate to six significant digits; a fit made of
 * a stage's runs is kept in the store together with a hash of what it was made of, and read
 * back from its text even when it has just been made.
 */
#include "internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../../formats/recipe.h"
#include "../base/detmath.h"
#include "../base/file.h"

#define LN2 0.69314718055994530942
#define MOST_LAWS 8

int64_t study_round_sequences(double k) {
    if (!(k > 1)) return 1;
    if (k > 1e12) k = 1e12;
    int64_t unit = 1;
    while (k / (double)unit >= 32) unit *= 2;
    double m = k / (double)unit, low = floor(m);
    /* The nearer one in the logarithm: on which side of the geometric mean k lies. */
    return unit * (int64_t)(m * m < low * (low + 1) ? low : low + 1);
}

static double octaves(double x) { return fabs(x) > 0 ? fpl_det_exp(x * LN2) : 1; }

static double power_law(const struct power *p, double N, double D) {
    return fpl_det_exp(fpl_det_log(p->c) + p->n * fpl_det_log(N) + p->d * fpl_det_log(D));
}

/* ---- one run ----------------------------------------------------------------------------------- */

static enum fpl_code ask(const struct fpl_study_run *r, double D, double batch, const struct fpl_fit *fit,
                         struct fpl_answer *out, struct fpl_error *err) {
    struct fpl_recipe recipe;
    struct fpl_recipe_summary p;
    enum fpl_code code = fpl_recipe_parse(r->config.recipe, &recipe, err);
    if (code != FPL_OK) return code;
    fpl_recipe_summarize(&recipe, &p);
    struct fpl_point_at at = {
        .N = fpl_config_params(&r->config), .D = D, .lr = (double)NAN, .batch_tokens = batch};
    at.E = p.E < 0 ? (double)NAN : p.E;
    at.M = p.M < 0 ? (double)NAN : p.M;
    at.block = p.block < 0 ? (double)NAN : p.block;
    return fpl_fit_predict(fit, &at, out, err);
}

static enum fpl_code no_answer(const char *what, const struct fpl_fit *fit, struct fpl_error *err) {
    return fpl_fail(err, FPL_INVALID, "the law '%s' gives no %s here (steplaw and joint do)",
                    fpl_law_name(fpl_fit_law(fit)), what);
}

static enum fpl_code set_batch(struct fpl_study_run *r, const struct law_source *law,
                               const struct fpl_fit *fit, struct fpl_error *err) {
    double batch = (double)r->config.batch_tokens, N = fpl_config_params(&r->config);
    if (!r->batch_law && !(fabs(r->batch_octaves) > 0)) return FPL_OK;
    if (r->batch_law) {
        double D = r->config.tokens > 0 ? r->config.tokens : r->config.tokens_per_param * N;
        if (fit == NULL) {
            batch = power_law(&law->batch, N, D);
        } else {
            struct fpl_answer a;
            enum fpl_code code = ask(r, D, (double)NAN, fit, &a, err);
            if (code != FPL_OK) return code;
            batch = a.batch_tokens.value;
            if (!(batch > 0) || !isfinite(batch)) return no_answer("batch", fit, err);
        }
    }
    batch *= octaves(r->batch_octaves);
    r->config.batch_tokens = study_round_sequences(batch / (double)r->config.seq) * r->config.seq;
    return FPL_OK;
}

static enum fpl_code set_lr(struct fpl_study_run *r, const struct law_source *law, const struct fpl_fit *fit,
                            struct fpl_error *err) {
    double lr = r->config.lr, batch = (double)r->config.batch_tokens;
    if (!r->lr_law && !(fabs(r->lr_octaves) > 0)) return FPL_OK;
    if (r->lr_law) {
        double D = (double)fpl_config_steps(&r->config) * batch;
        if (fit == NULL) {
            lr = power_law(&law->lr, fpl_config_params(&r->config), D);
        } else {
            struct fpl_answer a;
            enum fpl_code code = ask(r, D, batch, fit, &a, err);
            if (code != FPL_OK) return code;
            lr = a.lr.value;
            if (!(lr > 0) || !isfinite(lr)) return no_answer("learning rate", fit, err);
        }
    }
    char text[32];
    snprintf(text, sizeof text, "%.6g", lr * octaves(r->lr_octaves));
    return fpl_config_set(&r->config, "lr", text, err);
}

enum fpl_code study_resolve(struct fpl_study *s, size_t stage, const struct fpl_fit *fit,
                            struct fpl_error *err) {
    struct fpl_stage_plan *plan = s->stage[stage].plan;
    for (size_t i = 0; i < plan->planned_count; i++) {
        struct fpl_study_run *r = &plan->planned[i];
        enum fpl_code code = set_batch(r, &plan->law, fit, err);
        if (code == FPL_OK) code = set_lr(r, &plan->law, fit, err);
        if (code != FPL_OK)
            return fpl_fail_at(err, "%s:%d: stage '%s'", s->file, r->line, s->stage[stage].name);
        r->lr_law = r->batch_law = 0;
        r->lr_octaves = r->batch_octaves = 0; /* done */
        code = study_identify(s, r, err);
        if (code != FPL_OK) return code;
    }
    return study_merge(s, stage, err);
}

/* ---- where the law comes from ------------------------------------------------------------------- */

int study_waits_for_fit(const struct fpl_study *s, size_t stage) {
    const struct law_source *law = &s->stage[stage].plan->law;
    return law->fit != NULL && law->stage >= 0;
}

static const struct fpl_fit *pick(struct fpl_fit *const *fits, size_t count, const char *law) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(fpl_law_name(fpl_fit_law(fits[i])), law) == 0) return fits[i];
    return NULL;
}

/* "LAW:PRESET" is no path of a file. */
static int is_preset(const char *text) {
    struct stat st;
    return strchr(text, ':') != NULL && stat(text, &st) != 0;
}

enum fpl_code study_resolve_given(struct fpl_study *s, size_t stage, struct fpl_error *err) {
    const struct law_source *law = &s->stage[stage].plan->law;
    if (law->fit == NULL) return study_resolve(s, stage, NULL, err);
    enum fpl_code code;
    if (is_preset(law->fit)) {
        struct fpl_fit *fit = NULL;
        code = fpl_law_preset(law->fit, &fit, err);
        if (code != FPL_OK) return fpl_fail_at(err, "%s:%d: law", s->file, law->line);
        code = study_resolve(s, stage, fit, err);
        fpl_fit_free(fit);
        return code;
    }
    struct fpl_fit **fits = NULL;
    size_t count = 0;
    code = fpl_fits_read(law->fit, &fits, &count, err);
    if (code != FPL_OK) return fpl_fail_at(err, "%s:%d: law", s->file, law->line);
    const struct fpl_fit *fit = pick(fits, count, law->law);
    code = fit != NULL ? study_resolve(s, stage, fit, err)
                       : study_fail(s, law->line, err, "law: %s holds no fit of '%s' (law: names it)",
                                    law->fit, law->law);
    fpl_fits_free(fits, count);
    return code;
}

/* ---- fits of a stage ------------------------------------------------------------------------------ */

/* The laws that later stages want of the fit of `of`. */
static size_t wanted_laws(const struct fpl_study *s, int of, const char **laws) {
    size_t n = 0;
    for (size_t i = 0; i < s->stages; i++) {
        const struct law_source *law = &s->stage[i].plan->law;
        int known = law->fit == NULL || law->stage != of;
        for (size_t k = 0; k < n && !known; k++) known = strcmp(laws[k], law->law) == 0;
        if (!known && n < MOST_LAWS) laws[n++] = law->law;
    }
    return n;
}

static int compare_ids(const void *a, const void *b) { return strcmp(a, b); }

/* Only the runs of `of` and of the stages that it comes after stay in the table. */
static enum fpl_code keep_stage_runs(const struct fpl_study *s, int of, struct fpl_runs *runs,
                                     struct fpl_error *err) {
    char(*ids)[17] = malloc((s->runs + 1) * sizeof *ids);
    if (ids == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory");
    size_t n = 0, kept = 0;
    for (size_t i = 0; i < s->stages; i++) {
        if (i != (size_t)of && !s->stage[of].plan->after[i]) continue;
        for (size_t k = 0; k < s->stage[i].runs && n < s->runs; k++)
            memcpy(ids[n++], s->run[s->stage[i].run[k]].id, sizeof *ids);
    }
    qsort(ids, n, sizeof *ids, compare_ids);
    for (size_t i = 0; i < runs->count; i++)
        if (bsearch(runs->run[i].run, ids, n, sizeof *ids, compare_ids) != NULL)
            runs->run[kept++] = runs->run[i];
    runs->count = kept;
    free(ids);
    return FPL_OK;
}

/* What a fit is made of, as a hash: the same hash, the same fit. */
static enum fpl_code hash_inputs(struct fpl_runs *runs, const char *const *laws, size_t count,
                                 const char *where, char hex[33], struct fpl_error *err) {
    struct fpl_text t = {0};
    char *csv = fpl_runs_to_csv(runs, 0);
    if (csv != NULL) {
        fpl_hash_text(csv, strlen(csv), runs->hash);
        fpl_text_append(&t, csv, strlen(csv));
    }
    for (size_t i = 0; i < count; i++) fpl_text_add(&t, "\nlaw=%s", laws[i]);
    fpl_text_add(&t, "\nwhere=%s", where != NULL ? where : "");
    int failed = csv == NULL || t.failed;
    if (!failed) fpl_hash_text(t.text, t.size, hex);
    free(csv);
    fpl_text_free(&t);
    return failed ? fpl_fail(err, FPL_SYSTEM, "out of memory") : FPL_OK;
}

/* A fit that its runs do not determine must not steer the next stage: along a flat direction
 * it would send runs to learning rates and batches far from any that were tried. */
static enum fpl_code refuse_vague(const struct fpl_fit *fit, struct fpl_error *err) {
    if (fpl_fit_state(fit) == FPL_FIT_CONVERGED) return FPL_OK;
    return fpl_fail(
        err, FPL_NOT_CONVERGED,
        "%s: %s; add runs to the stage (a wider range of N, D, lr and batch_tokens), or give constants "
        "under `law:`",
        fpl_fit_status_names[fpl_fit_state(fit)], fpl_fit_message(fit));
}

/* The fits as the text of FIT.json, malloced. */
static enum fpl_code make_fits(const struct fpl_study *s, int of, const struct fpl_runs *runs,
                               const char *const *laws, size_t count, const struct fpl_study_options *o,
                               char **text, struct fpl_error *err) {
    struct fpl_fit *fits[MOST_LAWS] = {NULL};
    struct fpl_fit_options options = FPL_FIT_DEFAULTS;
    options.bootstrap = 0; /* only the optimum is needed; `fplaw fit` gives intervals */
    options.threads = o->workers > 0 ? o->workers : 1;
    enum fpl_code code = FPL_OK;
    size_t made = 0;
    for (; made < count && code == FPL_OK; made++) {
        code = fpl_law_fit(fpl_law_find(laws[made]), runs, &options, &fits[made], err);
        if ((code == FPL_OK || code == FPL_NOT_CONVERGED) && fits[made] != NULL)
            code = refuse_vague(fits[made], err);
        if (code != FPL_OK) fpl_fail_at(err, "the fit of %s to stage '%s'", laws[made], s->stage[of].name);
    }
    if (code == FPL_OK) {
        *text = fpl_fits_to_json_by(fits, count, runs, o->version != NULL ? o->version : "",
                                    o->revision != NULL ? o->revision : "");
        if (*text == NULL) code = fpl_fail(err, FPL_SYSTEM, "out of memory");
    }
    for (size_t i = 0; i < made; i++) fpl_fit_free(fits[i]);
    return code;
}

/* The kept fit if it was made of the same runs, else a new one, which is then kept. */
static enum fpl_code kept_or_new(const struct fpl_study *s, int of, const char *where,
                                 struct fpl_store *store, const struct fpl_study_options *o, char **text,
                                 struct fpl_error *err) {
    const char *laws[MOST_LAWS];
    size_t count = wanted_laws(s, of, laws);
    char key[80], key_inputs[80], hex[33], *known = NULL;
    snprintf(key, sizeof key, "fit:%s", s->stage[of].name);
    snprintf(key_inputs, sizeof key_inputs, "fit-inputs:%s", s->stage[of].name);
    struct fpl_runs runs;
    enum fpl_code code = fpl_store_runs(store, &runs, err);
    if (code != FPL_OK) return code;
    code = keep_stage_runs(s, of, &runs, err);
    if (code == FPL_OK && where != NULL) code = fpl_runs_where(&runs, where, err);
    if (code == FPL_OK) code = hash_inputs(&runs, laws, count, where, hex, err);
    if (code == FPL_OK) code = fpl_store_get_text(store, key_inputs, &known, err);
    if (code == FPL_OK && known != NULL && strcmp(known, hex) == 0)
        code = fpl_store_get_text(store, key, text, err);
    if (code == FPL_OK && *text == NULL) {
        code = make_fits(s, of, &runs, laws, count, o, text, err);
        if (code == FPL_OK) code = fpl_store_set_text(store, key, *text, err);
        if (code == FPL_OK) code = fpl_store_set_text(store, key_inputs, hex, err);
    }
    free(known);
    fpl_runs_free(&runs);
    return code;
}

enum fpl_code study_resolve_fitted(struct fpl_study *s, size_t stage, struct fpl_store *store,
                                   const struct fpl_study_options *options, struct fpl_error *err) {
    const struct law_source *law = &s->stage[stage].plan->law;
    char *text = NULL, path[4200];
    enum fpl_code code = kept_or_new(s, law->stage, law->where, store, options, &text, err);
    snprintf(path, sizeof path, "%s/fit-%s.json", options->directory, s->stage[law->stage].name);
    if (code == FPL_OK) code = fpl_file_write(path, text, strlen(text), err);
    struct fpl_fit **fits = NULL;
    size_t count = 0;
    if (code == FPL_OK) code = fpl_fits_parse(path, text, strlen(text), &fits, &count, err);
    free(text);
    if (code != FPL_OK) return fpl_fail_at(err, "%s:%d: law", s->file, law->line);
    const struct fpl_fit *fit = pick(fits, count, law->law);
    code = fit != NULL ? study_resolve(s, stage, fit, err)
                       : study_fail(s, law->line, err, "law: %s holds no fit of '%s'", path, law->law);
    fpl_fits_free(fits, count);
    return code;
}
