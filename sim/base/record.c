/* record.c - run records as JSON text.
 *
 * One object, schema "fplaw-record/1".  The scalar fields are rows of one table that both
 * directions walk, so what is written is what is read.  A point is an array
 * [step, loss, se, grad_norm].
 *
 * Numbers: doubles have 17 significant digits, so text -> double -> text is the identity;
 * NaN is null; infinities, which JSON lacks, are the strings "inf" and "-inf", since a
 * gradient norm that overflowed is a recorded value.
 *
 * Reading is strict: a missing, unknown or repeated key, a value of another type, a text
 * that does not fit or a foreign schema is an error that names the key.
 */
#include "record.h"

#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "codebooks.h"

#define SCHEMA "fplaw-record/1"

const char *const fpl_status_names[FPL_RUN_STATUSES + 1] = {"ok", "diverged", "collapsed", "stopped", NULL};

enum kind { TEXT, REAL, COUNT, SMALL };

static const struct field {
    const char *key;
    enum kind kind;
    size_t offset, size;
} fields[] = {
#define FIELD(name, kind)                                                                                    \
    { #name, kind, offsetof(struct fpl_record, name), sizeof(((struct fpl_record *)0)->name) }
    FIELD(why, TEXT),
    FIELD(id, TEXT),
    FIELD(N, REAL),
    FIELD(D, REAL),
    FIELD(steps, COUNT),
    FIELD(loss, REAL),
    FIELD(loss_se, REAL),
    FIELD(oracle, REAL),
    FIELD(entropy_rate, REAL),
    FIELD(unigram_entropy, REAL),
    FIELD(spikes, COUNT),
    FIELD(nonfinite, COUNT),
    FIELD(seconds, REAL),
    FIELD(tokens_per_second, REAL),
    FIELD(flop, REAL),
    FIELD(peak_bytes, REAL),
    FIELD(joules, REAL),
    FIELD(backend, TEXT),
    FIELD(variants, TEXT),
    FIELD(simd, TEXT),
    FIELD(host, TEXT),
    FIELD(cpu, TEXT),
    FIELD(compiler, TEXT),
    FIELD(revision, TEXT),
    FIELD(numerics, SMALL),
#undef FIELD
};
#define FIELDS (sizeof fields / sizeof fields[0])

/* Keys that the table does not hold: schema, status, canonical, curve, eval; codebooks, diagnoses
 * and pack (all three optional: a run without "pack" trained alone). */
#define OTHER_KEYS 8

void fpl_record_free(struct fpl_record *r) {
    if (r == NULL) return;
    free(r->canonical);
    free(r->curve);
    free(r->eval);
    fpl_diagnosis_free(r->diagnosis, r->diagnosis_count);
    r->canonical = NULL;
    r->curve = r->eval = NULL;
    r->diagnosis = NULL;
    r->curve_count = r->eval_count = r->diagnosis_count = 0;
}

/* ---- writing ------------------------------------------------------------------------------ */

static json_t *real_to_json(double x) {
    if (isnan(x)) return json_null();
    if (isinf(x)) return json_string(x > 0 ? "inf" : "-inf");
    return json_real(x);
}

/* Host and CPU names come from the machine: what is not UTF-8 becomes '?'. */
static json_t *text_to_json(const char *text) {
    json_t *value = json_string(text);
    if (value != NULL) return value;
    char *copy = strdup(text);
    if (copy == NULL) return NULL;
    for (char *p = copy; *p != '\0'; p++)
        if ((unsigned char)*p >= 0x80u) *p = '?';
    value = json_string(copy);
    free(copy);
    return value;
}

static json_t *points_to_json(const struct fpl_point *points, int64_t count) {
    json_t *list = json_array();
    for (int64_t i = 0; list != NULL && i < count; i++) {
        json_t *point = json_array();
        int failed = point == NULL;
        failed |= json_array_append_new(point, json_integer(points[i].step));
        failed |= json_array_append_new(point, real_to_json(points[i].loss));
        failed |= json_array_append_new(point, real_to_json(points[i].se));
        failed |= json_array_append_new(point, real_to_json(points[i].grad_norm));
        failed |= json_array_append_new(list, point);
        if (failed) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *field_to_json(const struct field *f, const struct fpl_record *r) {
    const char *at = (const char *)r + f->offset;
    switch (f->kind) {
    case TEXT:
        return text_to_json(at);
    case REAL:
        return real_to_json(*(const double *)(const void *)at);
    case COUNT:
        return json_integer(*(const int64_t *)(const void *)at);
    case SMALL:
        return json_integer(*(const int *)(const void *)at);
    }
    return NULL;
}

/* The values of codebooks that the configuration names by hash; no key where it names none. */
static int add_codebooks(json_t *root, const char *canonical) {
    json_t *codebooks = fpl_codebooks_to_json(canonical);
    const int failed = codebooks == NULL || (json_object_size(codebooks) > 0 &&
                                             json_object_set(root, "codebooks", codebooks) != 0);
    json_decref(codebooks);
    return failed;
}

char *fpl_record_to_json(const struct fpl_record *r) {
    json_t *root = json_object();
    if (root == NULL) return NULL;
    int failed = json_object_set_new(root, "schema", json_string(SCHEMA));
    failed |= json_object_set_new(root, "status", json_string(fpl_status_names[r->status]));
    for (size_t i = 0; i < FIELDS; i++)
        failed |= json_object_set_new(root, fields[i].key, field_to_json(&fields[i], r));
    failed |= json_object_set_new(root, "canonical", text_to_json(r->canonical == NULL ? "" : r->canonical));
    failed |= json_object_set_new(root, "curve", points_to_json(r->curve, r->curve_count));
    failed |= json_object_set_new(root, "eval", points_to_json(r->eval, r->eval_count));
    if (r->diagnosis_count > 0)
        failed |=
            json_object_set_new(root, "diagnoses", fpl_diagnosis_to_json(r->diagnosis, r->diagnosis_count));
    if (r->pack > 1) failed |= json_object_set_new(root, "pack", json_integer(r->pack));
    failed |= add_codebooks(root, r->canonical == NULL ? "" : r->canonical);
    char *text = failed ? NULL : json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(root);
    return text;
}

/* ---- reading ------------------------------------------------------------------------------ */

static int real_from_json(const json_t *value, double *out) {
    if (json_is_null(value)) {
        *out = (double)NAN;
        return 1;
    }
    if (json_is_string(value)) {
        const char *text = json_string_value(value);
        if (strcmp(text, "inf") != 0 && strcmp(text, "-inf") != 0) return 0;
        *out = text[0] == '-' ? (double)-INFINITY : (double)INFINITY;
        return 1;
    }
    *out = json_number_value(value);
    return json_is_number(value);
}

static enum fpl_code field_from_json(const struct field *f, const json_t *value, struct fpl_record *r,
                                     struct fpl_error *err) {
    char *at = (char *)r + f->offset;
    if (value == NULL) return fpl_fail(err, FPL_INVALID, "record: key \"%s\" is missing", f->key);
    switch (f->kind) {
    case TEXT:
        if (!json_is_string(value))
            return fpl_fail(err, FPL_INVALID, "record: \"%s\" must be a text", f->key);
        if (json_string_length(value) >= f->size)
            return fpl_fail(err, FPL_INVALID, "record: \"%s\" has %zu bytes, at most %zu are accepted",
                            f->key, json_string_length(value), f->size - 1);
        memcpy(at, json_string_value(value), json_string_length(value) + 1);
        return FPL_OK;
    case REAL:
        if (!real_from_json(value, (double *)(void *)at))
            return fpl_fail(err, FPL_INVALID, "record: \"%s\" must be a number, null, \"inf\" or \"-inf\"",
                            f->key);
        return FPL_OK;
    case COUNT:
    case SMALL:
        break;
    }
    const json_int_t number = json_integer_value(value);
    const json_int_t most = f->kind == SMALL ? INT_MAX : INT64_MAX;
    if (!json_is_integer(value) || number < 0 || number > most)
        return fpl_fail(err, FPL_INVALID, "record: \"%s\" must be an integer from 0 to %lld", f->key,
                        (long long)most);
    if (f->kind == SMALL)
        *(int *)(void *)at = (int)number;
    else
        *(int64_t *)(void *)at = (int64_t)number;
    return FPL_OK;
}

static enum fpl_code points_from_json(const char *key, const json_t *list, struct fpl_point **points,
                                      int64_t *count, struct fpl_error *err) {
    if (!json_is_array(list)) return fpl_fail(err, FPL_INVALID, "record: \"%s\" must be a list", key);
    const size_t n = json_array_size(list);
    *points = calloc(n + 1, sizeof **points);
    if (*points == NULL) return fpl_fail(err, FPL_SYSTEM, "record: no memory for %zu points", n);
    *count = (int64_t)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *point = json_array_get(list, i);
        struct fpl_point *p = *points + i;
        if (json_array_size(point) != 4 || !json_is_integer(json_array_get(point, 0)) ||
            !real_from_json(json_array_get(point, 1), &p->loss) ||
            !real_from_json(json_array_get(point, 2), &p->se) ||
            !real_from_json(json_array_get(point, 3), &p->grad_norm))
            return fpl_fail(err, FPL_INVALID,
                            "record: \"%s\", point %zu: expected [step, loss, se, grad_norm]", key, i + 1);
        p->step = (int64_t)json_integer_value(json_array_get(point, 0));
    }
    return FPL_OK;
}

static int is_known(const char *key) {
    static const char *const others[OTHER_KEYS] = {"schema", "status",    "canonical", "curve",
                                                   "eval",   "codebooks", "diagnoses", "pack"};
    for (size_t i = 0; i < OTHER_KEYS; i++)
        if (strcmp(key, others[i]) == 0) return 1;
    for (size_t i = 0; i < FIELDS; i++)
        if (strcmp(key, fields[i].key) == 0) return 1;
    return 0;
}

static enum fpl_code status_from_json(const json_t *value, struct fpl_record *r, struct fpl_error *err) {
    const char *text = json_string_value(value);
    for (int s = 0; text != NULL && s < FPL_RUN_STATUSES; s++)
        if (strcmp(text, fpl_status_names[s]) == 0) {
            r->status = (enum fpl_status)s;
            return FPL_OK;
        }
    return fpl_fail(err, FPL_INVALID, "record: \"status\" is %s, expected ok, diverged, collapsed or stopped",
                    text == NULL ? "not a text" : text);
}

static enum fpl_code pack_from_json(const json_t *value, struct fpl_record *r, struct fpl_error *err) {
    r->pack = 1;
    if (value == NULL) return FPL_OK;
    const json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < 1 || number > INT_MAX)
        return fpl_fail(err, FPL_INVALID, "record: \"pack\" must be an integer from 1 to %d", INT_MAX);
    r->pack = (int)number;
    return FPL_OK;
}

static enum fpl_code object_from_json(json_t *root, struct fpl_record *r, struct fpl_error *err) {
    const char *key;
    json_t *value;
    if (!json_is_object(root)) return fpl_fail(err, FPL_INVALID, "record: expected a JSON object");
    const char *schema = json_string_value(json_object_get(root, "schema"));
    if (schema == NULL || strcmp(schema, SCHEMA) != 0)
        return fpl_fail(err, FPL_INVALID, "record: \"schema\" is %s, expected \"" SCHEMA "\"",
                        schema == NULL ? "missing" : schema);
    json_object_foreach(root, key, value) {
        if (!is_known(key)) return fpl_fail(err, FPL_INVALID, "record: unknown key \"%.60s\"", key);
    }
    enum fpl_code code = status_from_json(json_object_get(root, "status"), r, err);
    const json_t *codebooks = json_object_get(root, "codebooks");
    if (code == FPL_OK && codebooks != NULL && fpl_codebooks_from_json(codebooks, err) != FPL_OK)
        code = fpl_fail_at(err, "record");
    for (size_t i = 0; code == FPL_OK && i < FIELDS; i++)
        code = field_from_json(&fields[i], json_object_get(root, fields[i].key), r, err);
    if (code == FPL_OK) code = pack_from_json(json_object_get(root, "pack"), r, err);
    if (code != FPL_OK) return code;
    const char *canonical = json_string_value(json_object_get(root, "canonical"));
    if (canonical == NULL) return fpl_fail(err, FPL_INVALID, "record: \"canonical\" must be a text");
    r->canonical = strdup(canonical);
    if (r->canonical == NULL) return fpl_fail(err, FPL_SYSTEM, "record: no memory for the configuration");
    code = points_from_json("curve", json_object_get(root, "curve"), &r->curve, &r->curve_count, err);
    if (code != FPL_OK) return code;
    code = points_from_json("eval", json_object_get(root, "eval"), &r->eval, &r->eval_count, err);
    const json_t *diagnoses = json_object_get(root, "diagnoses");
    if (code != FPL_OK || diagnoses == NULL) return code;
    code = fpl_diagnosis_from_json(diagnoses, &r->diagnosis, &r->diagnosis_count, err);
    return code == FPL_OK ? FPL_OK : fpl_fail_at(err, "record");
}

enum fpl_code fpl_record_from_json(const char *text, struct fpl_record *r, struct fpl_error *err) {
    json_error_t at;
    memset(r, 0, sizeof *r);
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &at);
    if (root == NULL)
        return fpl_fail(err, FPL_INVALID, "record: line %d, column %d: %s", at.line, at.column, at.text);
    const enum fpl_code code = object_from_json(root, r, err);
    json_decref(root);
    if (code != FPL_OK) fpl_record_free(r);
    return code;
}
