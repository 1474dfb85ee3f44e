/* codebooks.c - see codebooks.h.  float32 values are exact as JSON numbers of 17 digits. */
#include "codebooks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/codebook.h"

static json_t *values_to_json(const struct fpl_codebook *c) {
    json_t *list = json_array();
    int failed = list == NULL;
    for (int32_t i = 0; i < c->count && !failed; i++)
        failed = json_array_append_new(list, json_real((double)c->values[i])) != 0;
    if (failed) json_decref(list);
    return failed ? NULL : list;
}

json_t *fpl_codebooks_to_json(const char *text) {
    json_t *object = json_object();
    size_t at = 0;
    int failed = object == NULL;
    for (uint64_t hash; !failed && (hash = fpl_codebook_next(text, &at)) != 0;) {
        const struct fpl_codebook *c = fpl_codebook_find(hash);
        char key[17];
        snprintf(key, sizeof key, "%016llx", (unsigned long long)hash);
        if (c != NULL && json_object_get(object, key) == NULL)
            failed = json_object_set_new(object, key, values_to_json(c)) != 0;
    }
    if (failed) json_decref(object);
    return failed ? NULL : object;
}

static enum fpl_code add_list(const char *key, const json_t *list, struct fpl_error *err) {
    const size_t count = json_array_size(list);
    float *values = malloc((count + 1) * sizeof *values);
    if (values == NULL) return fpl_fail(err, FPL_SYSTEM, "codebook %s: out of memory", key);
    enum fpl_code code = FPL_OK;
    for (size_t i = 0; i < count && code == FPL_OK; i++) {
        const json_t *value = json_array_get(list, i);
        const double x = json_number_value(value);
        values[i] = (float)x;
        if (!json_is_number(value) || (double)values[i] != x)
            code = fpl_fail(err, FPL_INVALID, "codebook %.16s: value %zu is no float32 number", key, i + 1);
    }
    const struct fpl_codebook *c = NULL;
    char hash[17];
    if (code == FPL_OK) code = fpl_codebook_add(values, count, NULL, &c, err);
    if (code == FPL_OK) {
        snprintf(hash, sizeof hash, "%016llx", (unsigned long long)c->hash);
        if (strcmp(hash, key) != 0)
            code = fpl_fail(err, FPL_INVALID, "codebook %.40s: its values have the hash %s", key, hash);
    }
    free(values);
    return code;
}

enum fpl_code fpl_codebooks_from_json(const json_t *object, struct fpl_error *err) {
    const char *key;
    json_t *list;
    enum fpl_code code = FPL_OK;
    if (!json_is_object(object))
        return fpl_fail(err, FPL_INVALID, "\"codebooks\": expected an object of lists of values");
    json_object_foreach((json_t *)(uintptr_t)object, key, list) {
        if (code == FPL_OK && !json_is_array(list))
            code = fpl_fail(err, FPL_INVALID, "codebook %.40s: expected a list of values", key);
        if (code == FPL_OK) code = add_list(key, list, err);
    }
    return code;
}
