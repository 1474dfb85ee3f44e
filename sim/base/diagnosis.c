/* diagnosis.c - see diagnosis.h: points of a diagnosis as JSON and as CSV.
 *
 * Numbers as in record.c: 17 digits, NaN is null, infinities are the texts "inf" and "-inf".
 * Reading is strict: anything but what writing makes is an error that names the point.
 */
#include "diagnosis.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"

enum { STEP, LAYER, OPERAND, ELEMENTS, NONFINITE, SQNR, UNDERFLOW, CLIPPED, AMAX, LEAST, COUNTS, FIELDS };

const char fpl_diagnosis_header[] =
    "run,step,layer,operand,elements,nonfinite,sqnr_db,underflow,clipped,amax,exponents\n";

void fpl_diagnosis_free(struct fpl_diagnosis_point *points, int64_t count) {
    for (int64_t i = 0; points != NULL && i < count; i++) free(points[i].count);
    free(points);
}

/* ---- writing ---------------------------------------------------------------------------------- */

static json_t *real_to_json(double x) {
    if (isnan(x)) return json_null();
    return isinf(x) ? json_string(x > 0 ? "inf" : "-inf") : json_real(x);
}

static json_t *point_to_json(const struct fpl_diagnosis_point *p) {
    json_t *list = json_array(), *counts = json_array();
    int failed = list == NULL || counts == NULL;
    json_t *const values[FIELDS] = {[STEP] = json_integer(p->step),
                                    [LAYER] = json_integer(p->layer),
                                    [OPERAND] = json_string(p->operand),
                                    [ELEMENTS] = json_integer(p->elements),
                                    [NONFINITE] = json_integer(p->nonfinite),
                                    [SQNR] = real_to_json(p->sqnr_db),
                                    [UNDERFLOW] = real_to_json(p->underflow),
                                    [CLIPPED] = real_to_json(p->clipped),
                                    [AMAX] = real_to_json(p->amax),
                                    [LEAST] = json_integer(p->least),
                                    [COUNTS] = counts};
    for (int64_t i = 0; i < p->bins; i++) failed |= json_array_append_new(counts, json_integer(p->count[i]));
    for (int i = 0; i < FIELDS; i++) failed |= json_array_append_new(list, values[i]);
    if (!failed) return list;
    json_decref(list);
    return NULL;
}

json_t *fpl_diagnosis_to_json(const struct fpl_diagnosis_point *points, int64_t count) {
    json_t *list = json_array();
    int failed = list == NULL;
    for (int64_t i = 0; !failed && i < count; i++)
        failed = json_array_append_new(list, point_to_json(&points[i]));
    if (!failed) return list;
    json_decref(list);
    return NULL;
}

char *fpl_diagnosis_to_text(const struct fpl_diagnosis_point *points, int64_t count) {
    json_t *list = fpl_diagnosis_to_json(points, count);
    char *text = list != NULL ? json_dumps(list, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(list);
    return text;
}

static void add_real(struct fpl_text *t, double x) {
    if (isnan(x))
        fpl_text_add(t, ",nan");
    else
        fpl_text_add(t, ",%.17g", x);
}

char *fpl_diagnosis_to_csv(const char *run, const struct fpl_diagnosis_point *points, int64_t count) {
    struct fpl_text t = {0};
    fpl_text_add(&t, "%s", "");
    for (int64_t i = 0; i < count; i++) {
        const struct fpl_diagnosis_point *p = &points[i];
        const double reals[] = {p->sqnr_db, p->underflow, p->clipped, p->amax};
        fpl_text_add(&t, "%s,%lld,%lld,%s,%lld,%lld", run, (long long)p->step, (long long)p->layer,
                     p->operand, (long long)p->elements, (long long)p->nonfinite);
        for (size_t k = 0; k < sizeof reals / sizeof reals[0]; k++) add_real(&t, reals[k]);
        fpl_text_add(&t, ",%lld:", (long long)p->least);
        for (int64_t k = 0; k < p->bins; k++)
            fpl_text_add(&t, "%s%lld", k > 0 ? " " : "", (long long)p->count[k]);
        fpl_text_add(&t, "\n");
    }
    if (t.failed) fpl_text_free(&t);
    return t.text;
}

/* ---- reading ---------------------------------------------------------------------------------- */

static int real_from_json(const json_t *value, double *out) {
    const char *text = json_string_value(value);
    *out = json_is_null(value) ? (double)NAN : json_number_value(value);
    if (text == NULL) return json_is_null(value) || json_is_number(value);
    *out = text[0] == '-' ? (double)-INFINITY : (double)INFINITY;
    return strcmp(text, "inf") == 0 || strcmp(text, "-inf") == 0;
}

static int integer_from_json(const json_t *value, int64_t *out) {
    *out = (int64_t)json_integer_value(value);
    return json_is_integer(value);
}

/* 1 read, 0 not what is expected, -1 out of memory. */
static int point_from_json(const json_t *list, struct fpl_diagnosis_point *p) {
    const json_t *counts = json_array_get(list, COUNTS);
    const char *operand = json_string_value(json_array_get(list, OPERAND));
    if (json_array_size(list) != FIELDS || !json_is_array(counts) || operand == NULL ||
        strlen(operand) >= sizeof p->operand || !integer_from_json(json_array_get(list, STEP), &p->step) ||
        !integer_from_json(json_array_get(list, LAYER), &p->layer) ||
        !integer_from_json(json_array_get(list, ELEMENTS), &p->elements) ||
        !integer_from_json(json_array_get(list, NONFINITE), &p->nonfinite) ||
        !integer_from_json(json_array_get(list, LEAST), &p->least) ||
        !real_from_json(json_array_get(list, SQNR), &p->sqnr_db) ||
        !real_from_json(json_array_get(list, UNDERFLOW), &p->underflow) ||
        !real_from_json(json_array_get(list, CLIPPED), &p->clipped) ||
        !real_from_json(json_array_get(list, AMAX), &p->amax))
        return 0;
    memcpy(p->operand, operand, strlen(operand) + 1);
    const size_t bins = json_array_size(counts);
    p->count = calloc(bins + 1, sizeof *p->count);
    if (p->count == NULL) return -1;
    p->bins = (int64_t)bins;
    for (size_t i = 0; i < bins; i++)
        if (!integer_from_json(json_array_get(counts, i), &p->count[i])) return 0;
    return 1;
}

enum fpl_code fpl_diagnosis_from_json(const json_t *list, struct fpl_diagnosis_point **points, int64_t *count,
                                      struct fpl_error *err) {
    const size_t n = json_array_size(list);
    enum fpl_code code = FPL_OK;
    *count = 0;
    *points = NULL;
    if (!json_is_array(list)) return fpl_fail(err, FPL_INVALID, "diagnoses: a list is expected");
    *points = calloc(n + 1, sizeof **points);
    if (*points == NULL) return fpl_fail(err, FPL_SYSTEM, "diagnoses: no memory for %zu points", n);
    for (size_t i = 0; code == FPL_OK && i < n; i++) {
        const int read = point_from_json(json_array_get(list, i), *points + i);
        *count = (int64_t)i + 1;
        if (read < 0) code = fpl_fail(err, FPL_SYSTEM, "diagnoses: no memory for %zu points", n);
        if (read == 0)
            code = fpl_fail(err, FPL_INVALID,
                            "diagnoses: point %zu: expected [step, layer, operand, elements, nonfinite, "
                            "sqnr_db, underflow, clipped, amax, least, [counts]]",
                            i + 1);
    }
    if (code == FPL_OK) return FPL_OK;
    fpl_diagnosis_free(*points, *count);
    *points = NULL;
    *count = 0;
    return code;
}

enum fpl_code fpl_diagnosis_from_text(const char *text, struct fpl_diagnosis_point **points, int64_t *count,
                                      struct fpl_error *err) {
    json_error_t at;
    json_t *list = json_loads(text, 0, &at);
    *points = NULL;
    *count = 0;
    if (list == NULL)
        return fpl_fail(err, FPL_INVALID, "diagnoses: line %d, column %d: %s", at.line, at.column, at.text);
    const enum fpl_code code = fpl_diagnosis_from_json(list, points, count, err);
    json_decref(list);
    return code;
}
