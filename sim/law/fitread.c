/* fitread.c - FIT.json, read back (schema fplaw-fit/1), from whoever wrote it.
 *
 * Everything that predictions rest on is checked: types, finite numbers, names, the domain of
 * the published parameters, the shape of the bootstrap vectors.  Keys that are not known are
 * passed over, so that later versions may add some.  A message names the file and, below
 * "laws", the law's index and the key.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/file.h"
#include "fitread.h"

#define FILE_LIMIT ((size_t)1 << 28)
#define LAW_LIMIT 64
#define RESAMPLE_LIMIT 1000000

struct source {
    const char *name;
    size_t law; /* index below "laws" */
    struct fpl_error *err;
};

static const char *kind_of(const json_t *j) {
    if (j == NULL) return "nothing";
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "true or false";
    case JSON_NULL:
        break;
    }
    return "null";
}

static enum fpl_code wrong(const struct source *s, const char *key, const json_t *found,
                           const char *expected) {
    return fpl_fail(s->err, FPL_INVALID, "%s: laws[%zu]: '%s': found %s, expected %s", s->name, s->law, key,
                    kind_of(found), expected);
}

/* A number, or NaN for null or nothing. */
static enum fpl_code optional_number(const struct source *s, const json_t *object, const char *key,
                                     double *out) {
    const json_t *j = json_object_get(object, key);
    *out = (double)NAN;
    if (j == NULL || json_is_null(j)) return FPL_OK;
    if (!json_is_number(j)) return wrong(s, key, j, "a number or null");
    *out = json_number_value(j);
    return FPL_OK;
}

static int param_index(const struct fpl_law *law, const char *name) {
    for (int j = 0; j < law->params; j++)
        if (strcmp(law->param[j].name, name) == 0) return j;
    return -1;
}

/* Published values inside their domain: their internal form is finite. */
static int in_domain(const struct fpl_fit *fit, const double *published) {
    double theta[FPL_LAW_PARAMS];
    fit->law->internal(fit->law, published, &fit->centre, theta);
    for (int j = 0; j < fit->law->params; j++)
        if (fit->active[j] && !isfinite(theta[j])) return 0;
    return 1;
}

static enum fpl_code read_params(const struct source *s, const json_t *law, struct fpl_fit *fit) {
    json_t *params = json_object_get(law, "params");
    if (!json_is_object(params)) return wrong(s, "params", params, "an object");
    const char *name;
    json_t *item;
    json_object_foreach(params, name, item) {
        const int j = param_index(fit->law, name);
        if (j < 0)
            return fpl_fail(s->err, FPL_INVALID, "%s: laws[%zu]: law %s has no parameter '%.40s'", s->name,
                            s->law, fit->law->name, name);
        const json_t *value = json_object_get(item, "value");
        if (!json_is_number(value) || !isfinite(json_number_value(value)))
            return wrong(s, name, value, "a value that is a number");
        fit->active[j] = 1;
        fit->value[j] = json_number_value(value);
        enum fpl_code code = optional_number(s, item, "lo", &fit->lo[j]);
        if (code == FPL_OK) code = optional_number(s, item, "hi", &fit->hi[j]);
        if (code != FPL_OK) return code;
    }
    int precision = 0, known = 0;
    for (int j = 0; j < fit->law->params; j++) {
        precision += fpl_param_precision(fit->law, j);
        if (!fit->active[j] && (!fpl_param_precision(fit->law, j) || (fit->law->use & FPL_NEED_FORMAT) != 0))
            return fpl_fail(s->err, FPL_INVALID, "%s: laws[%zu]: parameter '%s' of law %s is missing",
                            s->name, s->law, fit->law->param[j].name, fit->law->name);
        known += fit->active[j] && fpl_param_precision(fit->law, j);
    }
    if (fit->law->penalty_at >= 0 && known != 0 && known != precision)
        return fpl_fail(s->err, FPL_INVALID,
                        "%s: laws[%zu]: some parameters of the precision term are missing", s->name, s->law);
    if (!in_domain(fit, fit->value))
        return fpl_fail(s->err, FPL_INVALID, "%s: laws[%zu]: a parameter of law %s is outside its domain",
                        s->name, s->law, fit->law->name);
    return FPL_OK;
}

static enum fpl_code read_range(const struct source *s, const json_t *law, const char *key, double range[2]) {
    const json_t *object = json_object_get(law, "range"), *list = json_object_get(object, key);
    range[0] = range[1] = 0.0;
    if (list == NULL || json_is_null(list)) return FPL_OK;
    if (!json_is_array(list) || json_array_size(list) != 2 || !json_is_number(json_array_get(list, 0)) ||
        !json_is_number(json_array_get(list, 1)))
        return wrong(s, "range", list, "two numbers");
    range[0] = json_number_value(json_array_get(list, 0));
    range[1] = json_number_value(json_array_get(list, 1));
    const int bits = strcmp(key, "E") == 0 || strcmp(key, "M") == 0; /* may be 0 */
    if (!((bits ? range[0] >= 0.0 : range[0] > 0.0) && range[1] > 0.0 && range[1] >= range[0] &&
          isfinite(range[1])))
        return fpl_fail(s->err, FPL_INVALID,
                        "%s: laws[%zu]: range of %s: found %g to %g, expected positive and ascending",
                        s->name, s->law, key, range[0], range[1]);
    return FPL_OK;
}

static enum fpl_code read_vector(const struct source *s, const json_t *vector, const int *index, size_t width,
                                 const struct fpl_fit *fit, double *out) {
    if (!json_is_array(vector) || json_array_size(vector) != width)
        return wrong(s, "bootstrap.vectors", vector, "arrays as long as bootstrap.params");
    memset(out, 0, (size_t)fit->law->params * sizeof *out);
    for (size_t i = 0; i < width; i++) {
        const json_t *x = json_array_get(vector, i);
        if (!json_is_number(x)) return wrong(s, "bootstrap.vectors", x, "numbers");
        out[index[i]] = json_number_value(x);
    }
    if (!in_domain(fit, out))
        return fpl_fail(s->err, FPL_INVALID, "%s: laws[%zu]: a bootstrap vector is outside the law's domain",
                        s->name, s->law);
    return FPL_OK;
}

static enum fpl_code read_bootstrap(const struct source *s, const json_t *law, struct fpl_fit *fit) {
    const json_t *b = json_object_get(law, "bootstrap"), *names = json_object_get(b, "params"),
                 *vectors = json_object_get(b, "vectors");
    fit->level = 0.95;
    if (b == NULL || json_is_null(b)) return FPL_OK;
    if (!json_is_object(b)) return wrong(s, "bootstrap", b, "an object or null");
    const json_t *level = json_object_get(b, "level");
    if (!json_is_number(level) || !(json_number_value(level) > 0.0 && json_number_value(level) < 1.0))
        return wrong(s, "bootstrap.level", level, "a number between 0 and 1");
    fit->level = json_number_value(level);
    if (vectors == NULL) return FPL_OK; /* intervals of parameters only */
    if (!json_is_array(vectors) || json_array_size(vectors) > RESAMPLE_LIMIT)
        return wrong(s, "bootstrap.vectors", vectors, "an array of at most 1000000 vectors");
    int index[FPL_LAW_PARAMS], seen[FPL_LAW_PARAMS] = {0};
    const size_t width = json_array_size(names), count = json_array_size(vectors),
                 params = (size_t)fit->law->params;
    if (!json_is_array(names) || width != fpl_fit_param_count(fit))
        return wrong(s, "bootstrap.params", names, "the names of this law's parameters");
    for (size_t i = 0; i < width; i++) {
        const char *name = json_string_value(json_array_get(names, i));
        index[i] = name != NULL ? param_index(fit->law, name) : -1;
        if (index[i] < 0 || !fit->active[index[i]] || seen[index[i]]++)
            return wrong(s, "bootstrap.params", json_array_get(names, i),
                         "each of this law's parameters once");
    }
    if (count == 0) return FPL_OK;
    fit->vector = malloc(count * params * sizeof *fit->vector);
    if (fit->vector == NULL) return fpl_fail(s->err, FPL_SYSTEM, "%s: out of memory", s->name);
    for (size_t k = 0; k < count; k++) {
        const enum fpl_code code =
            read_vector(s, json_array_get(vectors, k), index, width, fit, fit->vector + k * params);
        if (code != FPL_OK) return code;
    }
    fit->bootstrap = (int)count;
    return FPL_OK;
}

static enum fpl_code read_runs(const struct source *s, const json_t *law, struct fpl_fit *fit) {
    const json_t *runs = json_object_get(law, "runs"), *list = json_object_get(runs, "left_out");
    if (runs == NULL || json_is_null(runs)) return FPL_OK;
    const json_t *used = json_object_get(runs, "used");
    if (!json_is_integer(used) || json_integer_value(used) < 0) return wrong(s, "runs.used", used, "a count");
    fit->used = (size_t)json_integer_value(used);
    if (list == NULL) return FPL_OK;
    if (!json_is_array(list)) return wrong(s, "runs.left_out", list, "an array");
    const size_t count = json_array_size(list);
    fit->left.item = calloc(count + 1, sizeof *fit->left.item);
    if (fit->left.item == NULL) return fpl_fail(s->err, FPL_SYSTEM, "%s: out of memory", s->name);
    for (size_t i = 0; i < count; i++) {
        const char *run = json_string_value(json_object_get(json_array_get(list, i), "run"));
        const char *why = json_string_value(json_object_get(json_array_get(list, i), "why"));
        if (run == NULL || why == NULL)
            return wrong(s, "runs.left_out", json_array_get(list, i), "objects with run and why");
        snprintf(fit->left.item[i].run, sizeof fit->left.item[i].run, "%s", run);
        snprintf(fit->left.item[i].why, sizeof fit->left.item[i].why, "%s", why);
    }
    fit->left.count = count;
    return FPL_OK;
}

static enum fpl_code read_numbers(const struct source *s, const json_t *law, struct fpl_fit *fit) {
    const json_t *objective = json_object_get(law, "objective"), *held = json_object_get(law, "held_out");
    const json_t *starts = json_object_get(law, "starts");
    enum fpl_code code = optional_number(s, objective, "delta", &fit->delta);
    if (code == FPL_OK) code = optional_number(s, objective, "value", &fit->objective);
    if (code == FPL_OK) code = optional_number(s, law, "rms_log_residual", &fit->rms);
    if (code == FPL_OK) code = optional_number(s, law, "scale", &fit->scale);
    if (code == FPL_OK) code = optional_number(s, law, "window", &fit->window);
    if (code == FPL_OK) code = optional_number(s, held, "rms_log_residual", &fit->held_out_rms);
    if (code == FPL_OK) code = optional_number(s, held, "mean_log_residual", &fit->held_out_mean);
    if (code != FPL_OK) return code;
    const char *where = json_string_value(json_object_get(held, "where"));
    snprintf(fit->hold_out, sizeof fit->hold_out, "%s", where != NULL ? where : "");
    fit->held_out_runs = (size_t)json_integer_value(json_object_get(held, "runs"));
    fit->starts = (int)json_integer_value(json_object_get(starts, "tried"));
    fit->starts_agree = (int)json_integer_value(json_object_get(starts, "agree"));
    return FPL_OK;
}

static enum fpl_code read_law(const struct source *s, const json_t *law, struct fpl_fit *fit) {
    if (!json_is_object(law))
        return fpl_fail(s->err, FPL_INVALID, "%s: laws[%zu] is %s, expected an object", s->name, s->law,
                        kind_of(law));
    const json_t *name = json_object_get(law, "law"), *status = json_object_get(law, "status");
    if (!json_is_string(name)) return wrong(s, "law", name, "a law's name");
    fit->law = fpl_law_find(json_string_value(name));
    if (fit->law == NULL)
        return fpl_fail(s->err, FPL_INVALID, "%s: laws[%zu]: unknown law '%.40s'", s->name, s->law,
                        json_string_value(name));
    /* Fits from before there was a choice stand on the law's own base. */
    const char *base = json_string_value(json_object_get(json_object_get(law, "base"), "chosen"));
    if (base != NULL) {
        fit->law = fpl_law_with_base(fit->law, base);
        if (fit->law == NULL)
            return fpl_fail(s->err, FPL_INVALID, "%s: laws[%zu]: 'base': law %s does not stand on '%.40s'",
                            s->name, s->law, json_string_value(name), base);
    }
    int known = -1;
    for (int i = 0; json_is_string(status) && i < FPL_FIT_STATUSES; i++)
        if (strcmp(json_string_value(status), fpl_fit_status_names[i]) == 0) known = i;
    if (known < 0) return wrong(s, "status", status, "converged, not_converged or unidentified");
    fit->status = (enum fpl_fit_status)known;
    const char *message = json_string_value(json_object_get(law, "message"));
    snprintf(fit->message, sizeof fit->message, "%s", message != NULL ? message : "");
    const char *recipe = json_string_value(json_object_get(law, "recipe"));
    const char *schedule = json_string_value(json_object_get(law, "schedule"));
    snprintf(fit->schedule, sizeof fit->schedule, "%s", schedule != NULL ? schedule : "");
    snprintf(fit->recipe, sizeof fit->recipe, "%s", recipe != NULL ? recipe : "");
    enum fpl_code code = read_range(s, law, "N", fit->N);
    if (code == FPL_OK) code = read_range(s, law, "D", fit->D);
    for (int v = FPL_VAR_LR; v < FPL_VARIABLES && code == FPL_OK; v++)
        if (fpl_law_keeps_range(fit->law, (enum fpl_variable)v))
            code = read_range(s, law, fpl_variables[v].name, fit->range[v]);
    fit->centre = (struct fpl_centre){fit->N[0] > 0.0 ? 0.5 * log(fit->N[0] * fit->N[1]) : log(1e9),
                                      fit->D[0] > 0.0 ? 0.5 * log(fit->D[0] * fit->D[1]) : log(1e11)};
    if (code == FPL_OK) code = read_params(s, law, fit);
    if (code == FPL_OK) code = read_numbers(s, law, fit);
    if (code == FPL_OK) code = read_runs(s, law, fit);
    if (code == FPL_OK) code = read_bootstrap(s, law, fit);
    if (code == FPL_OK) fpl_fit_read_told(law, fit);
    return code;
}

static enum fpl_code read_laws(const char *name, const json_t *root, struct fpl_fit **fits, size_t *count,
                               struct fpl_error *err) {
    const json_t *laws = json_object_get(root, "laws");
    for (size_t i = 0; i < json_array_size(laws); i++) {
        const struct source s = {name, i, err};
        fits[i] = calloc(1, sizeof *fits[i]);
        if (fits[i] == NULL) return fpl_fail(err, FPL_SYSTEM, "%s: out of memory", name);
        *count = i + 1;
        const enum fpl_code code = read_law(&s, json_array_get(laws, i), fits[i]);
        if (code != FPL_OK) return code;
    }
    return FPL_OK;
}

static enum fpl_code check_root(const char *name, const json_t *root, struct fpl_error *err) {
    const json_t *schema = json_object_get(root, "schema"), *laws = json_object_get(root, "laws");
    if (!json_is_string(schema) || strcmp(json_string_value(schema), "fplaw-fit/1") != 0)
        return fpl_fail(err, FPL_INVALID, "%s: not a fit: 'schema' is %s%.40s, expected \"fplaw-fit/1\"",
                        name, json_is_string(schema) ? "" : kind_of(schema),
                        json_is_string(schema) ? json_string_value(schema) : "");
    if (!json_is_array(laws) || json_array_size(laws) == 0 || json_array_size(laws) > LAW_LIMIT)
        return fpl_fail(err, FPL_INVALID, "%s: 'laws' is %s, expected an array of 1 to %d fits", name,
                        kind_of(laws), LAW_LIMIT);
    return FPL_OK;
}

enum fpl_code fpl_fits_parse(const char *name, const char *text, size_t size, struct fpl_fit ***fits,
                             size_t *count, struct fpl_error *err) {
    json_error_t where;
    *fits = NULL;
    *count = 0;
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &where);
    if (root == NULL)
        return fpl_fail(err, FPL_INVALID, "%s:%d:%d: not JSON: %s", name, where.line, where.column,
                        where.text);
    enum fpl_code code = check_root(name, root, err);
    if (code == FPL_OK) {
        *fits = calloc(json_array_size(json_object_get(root, "laws")), sizeof **fits);
        code = *fits != NULL ? read_laws(name, root, *fits, count, err)
                             : fpl_fail(err, FPL_SYSTEM, "%s: out of memory", name);
    }
    json_decref(root);
    if (code != FPL_OK) {
        fpl_fits_free(*fits, *count);
        *fits = NULL;
        *count = 0;
    }
    return code;
}

enum fpl_code fpl_fits_read(const char *path, struct fpl_fit ***fits, size_t *count, struct fpl_error *err) {
    char *text = NULL;
    size_t size = 0;
    *fits = NULL;
    *count = 0;
    enum fpl_code code = fpl_file_read(path, FILE_LIMIT, &text, &size, err);
    if (code == FPL_OK) code = fpl_fits_parse(path, text, size, fits, count, err);
    free(text);
    return code;
}
