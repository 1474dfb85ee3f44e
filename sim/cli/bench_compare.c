/* bench_compare.c - `fplaw bench --baseline FILE`: rows whose ratio fell by more than the tolerance plus
 * the larger of the two spreads, whose bits differ, or that are gone; for people and as JUnit XML. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../base/file.h"
#include "bench.h"

static const struct fpl_bench_row *find_row(const struct fpl_bench *b, const char *name) {
    for (int i = 0; i < b->count; i++)
        if (strcmp(b->row[i].name, name) == 0) return &b->row[i];
    return NULL;
}

/* What is wrong with a row of the baseline now: "" if nothing. */
static void compare_row(const struct fpl_bench *b, json_t *old, double tolerance, char *why, size_t size) {
    const char *name = json_string_value(json_object_get(old, "name"));
    const char *bits = json_string_value(json_object_get(old, "bits"));
    const double ratio = json_number_value(json_object_get(old, "ratio"));
    const double spread = json_number_value(json_object_get(old, "spread"));
    const struct fpl_bench_row *now = find_row(b, name);
    why[0] = '\0';
    if (now == NULL)
        snprintf(why, size, "is not measured any more");
    else if (bits != NULL && strcmp(bits, now->bits) != 0)
        snprintf(why, size, "computes other bits (%s, were %s)", now->bits, bits);
    else if (now->ratio < ratio * (1.0 - tolerance - fmax(spread, now->spread)))
        snprintf(why, size, "fell from %.3f to %.3f of %s", ratio, now->ratio, now->peer);
}

/* Rows of two backends have the same names, but their ratios have other peers. */
static enum fpl_code check_backend(const struct fpl_bench *b, const char *path, json_t *root,
                                   struct fpl_error *err) {
    const char *was = json_string_value(json_object_get(json_object_get(root, "machine"), "backend"));
    if (was == NULL || strcmp(was, b->kernels->name) == 0) return FPL_OK; /* older files are the CPU's */
    return fpl_fail(err, FPL_INVALID, "%s: rows of the backend %.20s, here %s is measured; --device %.20s",
                    path, was, b->kernels->name, was);
}

enum fpl_code fpl_bench_load(const struct fpl_bench *b, const char *path, json_t **root,
                             struct fpl_error *err) {
    char *text;
    size_t size;
    json_error_t where;
    enum fpl_code code = fpl_file_read(path, 16u << 20, &text, &size, err);
    if (code != FPL_OK) return code;
    *root = json_loadb(text, size, 0, &where);
    free(text);
    if (*root == NULL)
        return fpl_fail(err, FPL_INVALID, "%s, line %d: not JSON: %s", path, where.line, where.text);
    const char *schema = json_string_value(json_object_get(*root, "schema"));
    json_t *rows = json_object_get(*root, "rows"), *row;
    size_t i;
    int good = schema != NULL && strcmp(schema, "fplaw-bench/1") == 0 && json_is_array(rows);
    json_array_foreach(rows, i, row) {
        good = good && json_is_string(json_object_get(row, "name")) &&
               json_is_number(json_object_get(row, "ratio"));
    }
    if (good) code = check_backend(b, path, *root, err);
    if (good && code == FPL_OK) return FPL_OK;
    json_decref(*root);
    *root = NULL;
    if (code != FPL_OK) return code;
    return fpl_fail(err, FPL_INVALID, "%s: not the output of `fplaw bench --json` (schema fplaw-bench/1)",
                    path);
}

static void add_attribute(struct fpl_text *xml, const char *name, const char *value) {
    fpl_text_add(xml, " %s=\"", name);
    for (; *value != '\0'; value++) {
        if (strchr("<>&\"'", *value) != NULL || (unsigned char)*value < 32)
            fpl_text_add(xml, "&#%d;", *value);
        else
            fpl_text_append(xml, value, 1);
    }
    fpl_text_add(xml, "\"");
}

static void add_case(struct fpl_text *xml, const char *name, const char *why) {
    fpl_text_add(xml, "  <testcase classname=\"fplaw.bench\"");
    add_attribute(xml, "name", name);
    fpl_text_add(xml, ">");
    if (why[0] != '\0') {
        fpl_text_add(xml, "<failure");
        add_attribute(xml, "message", why);
        fpl_text_add(xml, "/>");
    }
    fpl_text_add(xml, "</testcase>\n");
}

/* Compare row by row; messages and JUnit cases; FPL_REGRESSION if any row got worse. */
enum fpl_code fpl_bench_compare(const struct fpl_bench *b, const struct fpl_bench_comparison *a,
                                json_t *baseline, struct fpl_error *err) {
    struct fpl_text xml = {NULL, 0, 0, 0}, names = {NULL, 0, 0, 0};
    json_t *rows = json_object_get(baseline, "rows"), *row;
    size_t i;
    int worse = 0;
    fpl_text_add(
        &xml, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"fplaw bench\" tests=\"%zu\">\n",
        json_array_size(rows));
    json_array_foreach(rows, i, row) {
        const char *name = json_string_value(json_object_get(row, "name"));
        char why[160];
        if (name != NULL && !fpl_bench_row_asked(b, a->suite, name)) continue;
        compare_row(b, row, a->tolerance, why, sizeof why);
        add_case(&xml, name, why);
        if (why[0] == '\0') continue;
        fpl_text_add(&names, "%s'%s' %s", worse++ ? "; " : "", name, why);
    }
    fpl_text_add(&xml, "</testsuite>\n");
    enum fpl_code code =
        xml.failed || names.failed ? fpl_fail(err, FPL_SYSTEM, "bench: out of memory") : FPL_OK;
    if (code == FPL_OK && a->junit != NULL) code = fpl_file_write(a->junit, xml.text, xml.size, err);
    if (code == FPL_OK && worse > 0)
        code = fpl_fail(err, FPL_REGRESSION, "bench: %d of %zu rows are worse than %s: %s", worse,
                        json_array_size(rows), a->baseline, names.text);
    fpl_text_free(&xml);
    fpl_text_free(&names);
    return code;
}
