/* fit_access.c - reading a fit: parameters by name, summary, runs left out, published presets.
 *
 * A preset is a fit without runs: no intervals, no residuals, and a range only where its source
 * states one.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fitting.h"

void fpl_fit_free(struct fpl_fit *fit) {
    if (fit == NULL) return;
    free(fit->left.item);
    free(fit->vector);
    free(fit->held);
    free(fit);
}

void fpl_fits_free(struct fpl_fit **fits, size_t count) {
    if (fits == NULL) return;
    for (size_t i = 0; i < count; i++) fpl_fit_free(fits[i]);
    free(fits);
}

const struct fpl_law *fpl_fit_law(const struct fpl_fit *fit) { return fit->law; }
enum fpl_fit_status fpl_fit_state(const struct fpl_fit *fit) { return fit->status; }
const char *fpl_fit_message(const struct fpl_fit *fit) { return fit->message; }

/* Index in the law of the i-th parameter that the fit has; -1 past the last. */
static int nth(const struct fpl_fit *fit, size_t i) {
    for (int j = 0; j < fit->law->params; j++)
        if (fit->active[j] && i-- == 0) return j;
    return -1;
}

size_t fpl_fit_param_count(const struct fpl_fit *fit) {
    size_t count = 0;
    for (int j = 0; j < fit->law->params; j++) count += fit->active[j] != 0;
    return count;
}

const char *fpl_fit_param(const struct fpl_fit *fit, size_t i, struct fpl_estimate *value) {
    const int j = nth(fit, i);
    if (j < 0) return NULL;
    *value = (struct fpl_estimate){fit->value[j], fit->lo[j], fit->hi[j]};
    return fit->law->param[j].name;
}

const char *fpl_fit_param_unit(const struct fpl_fit *fit, size_t i) {
    const int j = nth(fit, i);
    return j < 0 ? NULL : fit->law->param[j].unit;
}

int fpl_fit_value(const struct fpl_fit *fit, const char *name, struct fpl_estimate *value) {
    for (size_t i = 0;; i++) {
        const char *found = fpl_fit_param(fit, i, value);
        if (found == NULL) return 0;
        if (strcmp(found, name) == 0) return 1;
    }
}

void fpl_fit_summarize(const struct fpl_fit *fit, struct fpl_fit_summary *out) {
    *out = (struct fpl_fit_summary){
        .objective = fpl_objective_names[fit->kind],
        .delta = isfinite(fit->delta) ? fit->delta : (double)NAN,
        .objective_value = fit->objective,
        .rms_log_residual = fit->rms,
        .scale = fit->scale,
        .window = fit->window,
        .hold_out = fit->hold_out[0] != '\0' ? fit->hold_out : NULL,
        .held_out_rms = fit->held_out_rms,
        .held_out_mean = fit->held_out_mean,
        .held_out_runs = fit->held_out_runs,
        .used = fit->used,
        .left_out = fit->left.count,
        .bootstrap = fit->bootstrap,
        .level = fit->level,
        .N = {fit->N[0], fit->N[1]},
        .D = {fit->D[0], fit->D[1]},
    };
    memcpy(out->range, fit->range, sizeof out->range);
}

const char *fpl_fit_where(const struct fpl_fit *fit) { return fit->where; }

const char *fpl_fit_recipe(const struct fpl_fit *fit) { return fit->recipe; }

double fpl_fit_run_noise(const struct fpl_fit *fit) { return fit->scale > 0.0 ? fit->scale : 0.0; }

int fpl_fit_left_out(const struct fpl_fit *fit, size_t i, const char **run, const char **why) {
    if (i >= fit->left.count) return 0;
    *run = fit->left.item[i].run;
    *why = fit->left.item[i].why;
    return 1;
}

void fpl_finding(struct fpl_fit *fit, const char *format, ...) {
    const size_t used = strlen(fit->findings), room = sizeof fit->findings - used;
    va_list arguments;
    if (room < 2) return;
    va_start(arguments, format);
    const int length = vsnprintf(fit->findings + used, room - 1, format, arguments);
    va_end(arguments);
    if (length <= 0) return;
    memcpy(fit->findings + strlen(fit->findings), "\n", 2);
}

const char *fpl_fit_finding(const struct fpl_fit *fit, size_t i) {
    const char *at = fit->findings;
    for (; i > 0 && *at != '\0'; i--) at += strcspn(at, "\n") + 1;
    return *at != '\0' ? at : NULL;
}

int fpl_fit_held_cell(const struct fpl_fit *fit, size_t i, struct fpl_held_cell *out) {
    if (i >= fit->held_count) return 0;
    *out = fit->held[i];
    return 1;
}

const char *fpl_fit_base_tried(const struct fpl_fit *fit, size_t i, double *held_out_rms) {
    size_t tried = 0;
    for (size_t k = 0; fit->law->base != NULL && fpl_law_joints[k] != NULL; k++)
        if (fit->base_rms[k] != 0.0 && tried++ == i) {
            *held_out_rms = fit->base_rms[k];
            return fpl_law_base(fpl_law_joints[k]);
        }
    return NULL;
}

int fpl_fit_profile(const struct fpl_fit *fit, size_t i, struct fpl_estimate *out) {
    const int j = nth(fit, i);
    if (j < 0 || !fit->profiled[j]) return 0;
    *out = fit->profile[j];
    return 1;
}

/* What published constants were measured with, as far as their sources say (shared notes). */
static const struct {
    const char *preset, *schedule, *text;
} conventions[] = {
    {"steplaw:paper", "cosine", "cosine to a fixed 1e-5; batch in tokens; N without vocabulary"},
    {"bowl:steplaw", "cosine", "cosine to a fixed 1e-5; batch in tokens; N without vocabulary"},
    {"capybara:paper", "cosine",
     "cosine to 0, warm-up 500 steps, batches of 2M tokens, sequences of 2048; one operand of each product "
     "quantized; N without vocabulary"},
    {"capybara-channel:paper", "cosine",
     "cosine to 0, warm-up 500 steps, batches of 2M tokens, sequences of 2048; one operand of each product "
     "quantized; N without vocabulary"},
};

const char *fpl_fit_schedule(const struct fpl_fit *fit) { return fit->schedule; }

const char *fpl_fit_conventions(const struct fpl_fit *fit) {
    return fit->conventions != NULL ? fit->conventions : "";
}

static enum fpl_code unknown_preset(const struct fpl_law *law, const char *text, struct fpl_error *err) {
    char known[512] = "";
    for (size_t i = 0; fpl_laws[i] != NULL; i++)
        for (int k = 0; k < fpl_laws[i]->preset_count; k++) {
            const size_t used = strlen(known);
            snprintf(known + used, sizeof known - used, " %s:%s", fpl_laws[i]->name,
                     fpl_laws[i]->presets[k].name);
        }
    if (law != NULL && law->preset_count == 0)
        return fpl_fail(err, FPL_INVALID, "'%s': law %s has no published constants; there are%s", text,
                        law->name, known);
    return fpl_fail(err, FPL_INVALID, "'%s': no such published constants; there are%s", text, known);
}

enum fpl_code fpl_law_preset(const char *text, struct fpl_fit **out, struct fpl_error *err) {
    *out = NULL;
    const char *colon = strchr(text, ':');
    char name[32];
    snprintf(name, sizeof name, "%.*s", colon != NULL ? (int)(colon - text) : (int)strlen(text), text);
    const struct fpl_law *law = fpl_law_find(name);
    const struct fpl_preset *preset = NULL;
    for (int k = 0; law != NULL && colon != NULL && k < law->preset_count; k++)
        if (strcmp(law->presets[k].name, colon + 1) == 0) preset = &law->presets[k];
    if (preset == NULL) return unknown_preset(law, text, err);
    struct fpl_fit *fit = calloc(1, sizeof *fit);
    if (fit == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory");
    fit->law = law;
    fit->status = FPL_FIT_CONVERGED;
    snprintf(fit->message, sizeof fit->message, "published constants: %s", preset->source);
    for (size_t i = 0; i < sizeof conventions / sizeof conventions[0]; i++)
        if (strcmp(conventions[i].preset, text) == 0) {
            fit->conventions = conventions[i].text;
            snprintf(fit->schedule, sizeof fit->schedule, "%s", conventions[i].schedule);
        }
    memcpy(fit->N, preset->N, sizeof fit->N);
    memcpy(fit->D, preset->D, sizeof fit->D);
    fit->level = 0.95;
    fit->delta = fit->objective = fit->rms = fit->scale = fit->window = (double)NAN;
    fit->held_out_rms = fit->held_out_mean = (double)NAN;
    fit->centre = (struct fpl_centre){log(1e9), log(1e11)};
    for (int j = 0; j < law->params; j++) {
        fit->active[j] = 1;
        fit->value[j] = preset->value[j];
        fit->lo[j] = fit->hi[j] = (double)NAN;
    }
    *out = fit;
    return FPL_OK;
}
