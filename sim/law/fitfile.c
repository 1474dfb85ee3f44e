/* fitfile.c - FIT.json, written (schema fplaw-fit/1).
 *
 * {"schema", "laws": [{"law", "status", "message", "params": {name: {value, lo, hi}}, "objective",
 * "rms_log_residual", "held_out", "range", "runs": {used, left_out}, "bootstrap", ...}], "data",
 * "program"}.  Beyond the shared design: "citation", "scale" (robust, of one run), "window",
 * "starts" (tried, and agreeing on the best objective), "findings" (sentences), "base" (of joint: the
 * chosen one and the held-out errors of those tried), "held_out.cells", in a parameter "identified" and
 * "profile" [lo, hi], and in "bootstrap" the "params" and "vectors", one per resample, from which decisions
 * get their intervals.
 *
 * Numbers have 17 significant digits; what is not a finite number is null.
 */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fitting.h"

static json_t *number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

static json_t *pair(const double range[2]) {
    if (!(range[1] > 0.0)) return json_null();
    json_t *list = json_array();
    json_array_append_new(list, number(range[0]));
    json_array_append_new(list, number(range[1]));
    return list;
}

/* An end that the data do not bound is null. */
static json_t *ends(const struct fpl_estimate *e) {
    json_t *list = json_array();
    json_array_append_new(list, number(e->lo));
    json_array_append_new(list, number(e->hi));
    return list;
}

static json_t *parameters(const struct fpl_fit *fit) {
    json_t *params = json_object();
    for (int j = 0; j < fit->law->params; j++) {
        if (!fit->active[j]) continue;
        json_t *p = json_object();
        json_object_set_new(p, "value", number(fit->value[j]));
        json_object_set_new(p, "lo", number(fit->lo[j]));
        json_object_set_new(p, "hi", number(fit->hi[j]));
        json_object_set_new(p, "identified", json_boolean(fit->identified[j]));
        if (fit->profiled[j]) json_object_set_new(p, "profile", ends(&fit->profile[j]));
        json_object_set_new(params, fit->law->param[j].name, p);
    }
    return params;
}

static json_t *bootstrap(const struct fpl_fit *fit) {
    if (fit->bootstrap == 0) return json_null();
    json_t *b = json_object(), *names = json_array(), *vectors = json_array();
    json_object_set_new(b, "unit", json_string(fpl_unit_names[fit->unit]));
    json_object_set_new(b, "n", json_integer(fit->bootstrap));
    json_object_set_new(b, "level", number(fit->level));
    json_object_set_new(b, "weights", json_string("gamma"));
    json_object_set_new(b, "units", json_integer((json_int_t)fit->units));
    for (int j = 0; j < fit->law->params; j++)
        if (fit->active[j]) json_array_append_new(names, json_string(fit->law->param[j].name));
    for (int k = 0; k < fit->bootstrap; k++) {
        json_t *vector = json_array();
        for (int j = 0; j < fit->law->params; j++)
            if (fit->active[j])
                json_array_append_new(vector,
                                      number(fit->vector[(size_t)k * (size_t)fit->law->params + (size_t)j]));
        json_array_append_new(vectors, vector);
    }
    json_object_set_new(b, "params", names);
    json_object_set_new(b, "vectors", vectors);
    return b;
}

static json_t *left_out(const struct fpl_fit *fit) {
    json_t *list = json_array();
    for (size_t i = 0; i < fit->left.count; i++) {
        json_t *item = json_object();
        json_object_set_new(item, "run", json_string(fit->left.item[i].run));
        json_object_set_new(item, "why", json_string(fit->left.item[i].why));
        json_array_append_new(list, item);
    }
    return list;
}

static json_t *held_out(const struct fpl_fit *fit) {
    if (fit->hold_out[0] == '\0') return json_null();
    json_t *h = json_object();
    json_object_set_new(h, "where", json_string(fit->hold_out));
    json_object_set_new(h, "runs", json_integer((json_int_t)fit->held_out_runs));
    json_object_set_new(h, "rms_log_residual", number(fit->held_out_rms));
    json_object_set_new(h, "mean_log_residual", number(fit->held_out_mean));
    json_t *cells = json_array();
    for (size_t i = 0; i < fit->held_count; i++) {
        const struct fpl_held_cell *c = &fit->held[i];
        json_t *cell = json_object();
        json_object_set_new(cell, "N", number(c->N));
        json_object_set_new(cell, "D", number(c->D));
        json_object_set_new(cell, "runs", json_integer((json_int_t)c->runs));
        json_object_set_new(cell, "mean_log_residual", number(c->mean));
        json_object_set_new(cell, "rms_log_residual", number(c->rms));
        json_object_set_new(cell, "lr", number(c->lr));
        json_object_set_new(cell, "batch_tokens", number(c->batch_tokens));
        json_array_append_new(cells, cell);
    }
    json_object_set_new(h, "cells", cells);
    return h;
}

/* Sentences of the fit, one string each. */
static json_t *findings(const struct fpl_fit *fit) {
    json_t *list = json_array();
    const char *text;
    for (size_t i = 0; (text = fpl_fit_finding(fit, i)) != NULL; i++)
        json_array_append_new(list, json_stringn(text, strcspn(text, "\n")));
    return list;
}

/* {"chosen", "held_out_rms": {name: error}} of laws that stand on a base. */
static json_t *base(const struct fpl_fit *fit) {
    const char *name = fpl_law_base(fit->law);
    if (name == NULL) return json_null();
    json_t *b = json_object(), *tried = json_object();
    double rms;
    json_object_set_new(b, "chosen", json_string(name));
    for (size_t i = 0; (name = fpl_fit_base_tried(fit, i, &rms)) != NULL; i++)
        json_object_set_new(tried, name, number(rms));
    json_object_set_new(b, "held_out_rms", tried);
    return b;
}

static json_t *one_law(const struct fpl_fit *fit) {
    struct fpl_fit_summary s;
    fpl_fit_summarize(fit, &s);
    json_t *law = json_object(), *objective = json_object(), *range = json_object(), *runs = json_object(),
           *starts = json_object();
    json_object_set_new(law, "law", json_string(fit->law->name));
    if (fit->law->base != NULL) json_object_set_new(law, "base", base(fit));
    json_object_set_new(law, "citation", json_string(fit->law->citation));
    json_object_set_new(law, "status", json_string(fpl_fit_status_names[fit->status]));
    json_object_set_new(law, "message", json_string(fit->message));
    json_object_set_new(law, "params", parameters(fit));
    json_object_set_new(objective, "name", json_string(s.objective));
    json_object_set_new(objective, "delta", number(s.delta));
    json_object_set_new(objective, "value", number(s.objective_value));
    json_object_set_new(law, "objective", objective);
    json_object_set_new(law, "rms_log_residual", number(fit->rms));
    json_object_set_new(law, "scale", number(fit->scale));
    if (fit->schedule[0] != '\0') json_object_set_new(law, "schedule", json_string(fit->schedule));
    if (fit->recipe[0] != '\0') json_object_set_new(law, "recipe", json_string(fit->recipe));
    json_object_set_new(law, "window", number(fit->window));
    json_object_set_new(law, "held_out", held_out(fit));
    json_object_set_new(law, "condition", number(fit->condition));
    json_object_set_new(law, "findings", findings(fit));
    json_object_set_new(range, "N", pair(fit->N));
    json_object_set_new(range, "D", pair(fit->D));
    for (int v = FPL_VAR_LR; v < FPL_VARIABLES; v++)
        if (fpl_law_keeps_range(fit->law, (enum fpl_variable)v))
            json_object_set_new(range, fpl_variables[v].name, pair(fit->range[v]));
    json_object_set_new(law, "range", range);
    json_object_set_new(starts, "tried", json_integer(fit->starts));
    json_object_set_new(starts, "agree", json_integer(fit->starts_agree));
    json_object_set_new(law, "starts", starts);
    json_object_set_new(runs, "used", json_integer((json_int_t)fit->used));
    json_object_set_new(runs, "left_out", left_out(fit));
    json_object_set_new(law, "runs", runs);
    json_object_set_new(law, "bootstrap", bootstrap(fit));
    return law;
}

/* Text of a path or a name: not UTF-8 would not be JSON. */
static json_t *text(const char *s) {
    json_t *t = json_string(s);
    return t != NULL ? t : json_string("?");
}

char *fpl_fits_to_json_by(struct fpl_fit *const *fits, size_t count, const struct fpl_runs *runs,
                          const char *version, const char *revision) {
    json_t *root = json_object(), *laws = json_array(), *data = json_object(), *program = json_object();
    for (size_t i = 0; i < count; i++) json_array_append_new(laws, one_law(fits[i]));
    json_object_set_new(data, "path", text(runs->source));
    json_object_set_new(data, "xxh128", text(runs->hash));
    if (runs->where[0] != '\0') json_object_set_new(data, "where", text(runs->where));
    json_object_set_new(program, "version", text(version));
    json_object_set_new(program, "revision", text(revision));
    json_object_set_new(root, "schema", json_string("fplaw-fit/1"));
    json_object_set_new(root, "laws", laws);
    json_object_set_new(root, "data", data);
    json_object_set_new(root, "program", program);
    char *compact = json_dumps(root, JSON_REAL_PRECISION(17) | JSON_PRESERVE_ORDER | JSON_COMPACT);
    json_decref(root);
    if (compact == NULL) return NULL;
    const size_t size = strlen(compact);
    char *line = realloc(compact, size + 2);
    if (line == NULL) {
        free(compact);
        return NULL;
    }
    memcpy(line + size, "\n", 2);
    return line;
}

char *fpl_fits_to_json(struct fpl_fit *const *fits, size_t count, const struct fpl_runs *runs) {
    return fpl_fits_to_json_by(fits, count, runs, "", "");
}
