/* block.c - options, grids, zips, lists and seeds of a study file: YAML nodes to blocks.
 *
 * Every value is checked here against the option table, so that an error carries the line of
 * the value itself, whatever product it will take part in.  Texts stay in the YAML tree,
 * which lives as long as the study.
 */
#include "internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/number.h"

#define MOST_OCTAVES 20.0
#define MOST_SEEDS 1000

const char *const study_block_keys[] = {"seeds", "grid", "zip", "list", NULL};

enum fpl_code study_fail(const struct fpl_study *s, int line, struct fpl_error *err, const char *fmt, ...) {
    char text[900];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return fpl_fail(err, FPL_INVALID, "%s:%d: %s", s->file, line, text);
}

enum fpl_code study_no_memory(struct parser *p) {
    return fpl_fail(p->err, FPL_SYSTEM, "%s: out of memory", p->study->file);
}

const char *study_kind_of(const struct fpl_yaml *y) {
    if (y->kind == FPL_YAML_LIST) return "a list";
    if (y->kind == FPL_YAML_MAP) return "a map";
    return *y->text != '\0' ? "a value" : "nothing";
}

/* ---- options and values --------------------------------------------------------------------- */

int study_one_of(const char *word, const char *const *words) {
    for (; *words != NULL; words++)
        if (strcmp(*words, word) == 0) return 1;
    return 0;
}

static int is_pseudo(const char *key) {
    return strcmp(key, "lr_octaves") == 0 || strcmp(key, "batch_octaves") == 0;
}

enum fpl_code study_unknown(struct parser *p, const struct fpl_yaml *y, const char *what,
                            const char *const *words) {
    const char *near = fpl_nearest_word(y->key, words);
    if (near != NULL)
        return BAD(p, y->key_line, "unknown %s '%.60s'; did you mean '%s'?", what, y->key, near);
    return BAD(p, y->key_line, "unknown %s '%.60s'", what, y->key);
}

static enum fpl_code check_key(struct parser *p, const struct fpl_yaml *y, int in_item) {
    if (fpl_option_find(y->key) != NULL || is_pseudo(y->key)) return FPL_OK;
    const char *words[96];
    size_t n = 0;
    for (const struct fpl_option *o = fpl_options; o->key != NULL && n < 80; o++) words[n++] = o->key;
    words[n++] = "lr_octaves";
    words[n++] = "batch_octaves";
    for (size_t i = 0; in_item && study_block_keys[i] != NULL; i++) words[n++] = study_block_keys[i];
    words[n] = NULL;
    return study_unknown(p, y, "option", words);
}

static enum fpl_code check_value(struct parser *p, const char *key, const struct fpl_yaml *value) {
    if (value->kind != FPL_YAML_SCALAR)
        return BAD(p, value->line, "%s: a value is expected, %s is found", key, study_kind_of(value));
    if (strcmp(value->text, "law") == 0 && (strcmp(key, "lr") == 0 || strcmp(key, "batch_tokens") == 0))
        return FPL_OK;
    if (is_pseudo(key)) {
        double x;
        if (fpl_number_parse(value->text, &x, p->err) != FPL_OK)
            return fpl_fail_at(p->err, "%s:%d: %s", p->study->file, value->line, key);
        if (x >= -MOST_OCTAVES && x <= MOST_OCTAVES) return FPL_OK;
        return BAD(p, value->line, "%s: %s is outside the accepted range -20 to 20", key, value->text);
    }
    if (fpl_config_set(&p->scratch, key, value->text, p->err) == FPL_OK) return FPL_OK;
    return fpl_fail_at(p->err, "%s:%d", p->study->file, value->line);
}

/* Settings that exclude each other inside one block share a name. */
static int is_amount(const char *key) {
    return strcmp(key, "tokens") == 0 || strcmp(key, "tokens_per_param") == 0 || strcmp(key, "steps") == 0;
}

enum fpl_code study_parse_options(struct parser *p, const struct fpl_yaml *y, struct fpl_assign **out,
                                  size_t *count) {
    if (y->kind != FPL_YAML_MAP)
        return BAD(p, y->line, "options: a map option: value is expected, %s is found", study_kind_of(y));
    const char *amount = NULL;
    *out = calloc(y->count + 1, sizeof **out);
    if (*out == NULL) return study_no_memory(p);
    for (size_t i = 0; i < y->count; i++) {
        const struct fpl_yaml *v = y->item[i];
        enum fpl_code code = check_key(p, v, 0);
        if (code == FPL_OK) code = check_value(p, v->key, v);
        if (code != FPL_OK) return code;
        if (is_amount(v->key) && amount != NULL)
            return BAD(p, v->key_line, "%s and %s exclude each other, one is expected", amount, v->key);
        if (is_amount(v->key)) amount = v->key;
        (*out)[(*count)++] = (struct fpl_assign){v->key, v->text, v->line};
    }
    return FPL_OK;
}

/* ---- axes ------------------------------------------------------------------------------------- */

static struct axis *new_axis(struct parser *p, struct block *b, size_t width, size_t count) {
    struct axis *larger = realloc(b->axis, (b->axis_count + 1) * sizeof *larger);
    if (larger == NULL) return study_no_memory(p), NULL;
    b->axis = larger;
    struct axis *a = &b->axis[b->axis_count];
    *a = (struct axis){.width = width, .count = count};
    a->cell = calloc(width * count, sizeof *a->cell);
    if (a->cell == NULL) return study_no_memory(p), NULL;
    b->axis_count++;
    return a;
}

/* Values of one option along an axis, at column `at` of its cells. */
static enum fpl_code fill_axis(struct parser *p, struct axis *a, size_t at, const char *key,
                               const struct fpl_yaml *y) {
    for (size_t i = 0; i < y->count; i++) {
        enum fpl_code code = check_value(p, key, y->item[i]);
        if (code != FPL_OK) return code;
        a->cell[i * a->width + at] = (struct fpl_assign){key, y->item[i]->text, y->item[i]->line};
    }
    return FPL_OK;
}

/* option: [ value, ... ] of a grid or zip. */
static enum fpl_code check_list(struct parser *p, const char *where, const struct fpl_yaml *y) {
    enum fpl_code code = check_key(p, y, 0);
    if (code != FPL_OK) return code;
    if (y->kind != FPL_YAML_LIST)
        return BAD(p, y->line, "%s: %s: a list of values is expected, %s is found", where, y->key,
                   study_kind_of(y));
    if (y->count == 0) return BAD(p, y->line, "%s: %s: the list of values is empty", where, y->key);
    return FPL_OK;
}

static enum fpl_code check_map(struct parser *p, const char *where, const struct fpl_yaml *y) {
    if (y->kind != FPL_YAML_MAP)
        return BAD(p, y->line, "%s: a map option: [value, ...] is expected, %s is found", where,
                   study_kind_of(y));
    if (y->count == 0) return BAD(p, y->line, "%s: is empty", where);
    return FPL_OK;
}

static enum fpl_code parse_grid(struct parser *p, const struct fpl_yaml *y, struct block *b) {
    enum fpl_code code = check_map(p, "grid", y);
    for (size_t i = 0; i < y->count && code == FPL_OK; i++) {
        const struct fpl_yaml *v = y->item[i];
        code = check_list(p, "grid", v);
        if (code != FPL_OK) return code;
        struct axis *a = new_axis(p, b, 1, v->count);
        code = a != NULL ? fill_axis(p, a, 0, v->key, v) : FPL_SYSTEM;
    }
    return code;
}

static enum fpl_code parse_one_zip(struct parser *p, const struct fpl_yaml *y, struct block *b) {
    enum fpl_code code = check_map(p, "zip", y);
    for (size_t i = 0; i < y->count && code == FPL_OK; i++) {
        code = check_list(p, "zip", y->item[i]);
        if (code == FPL_OK && y->item[i]->count != y->item[0]->count)
            return BAD(p, y->item[i]->line, "zip: %s has %zu values, %s has %zu; equal lengths are expected",
                       y->item[i]->key, y->item[i]->count, y->item[0]->key, y->item[0]->count);
    }
    if (code != FPL_OK) return code;
    struct axis *a = new_axis(p, b, y->count, y->item[0]->count);
    if (a == NULL) return FPL_SYSTEM;
    for (size_t i = 0; i < y->count && code == FPL_OK; i++)
        code = fill_axis(p, a, i, y->item[i]->key, y->item[i]);
    return code;
}

static enum fpl_code parse_zip(struct parser *p, const struct fpl_yaml *y, struct block *b) {
    if (y->kind != FPL_YAML_LIST) return parse_one_zip(p, y, b);
    if (y->count == 0) return BAD(p, y->line, "zip: is empty");
    enum fpl_code code = FPL_OK;
    for (size_t i = 0; i < y->count && code == FPL_OK; i++) code = parse_one_zip(p, y->item[i], b);
    return code;
}

/* "seeds: 3" is 1, 2, 3. */
static enum fpl_code seeds_by_count(struct parser *p, const struct fpl_yaml *y, struct block *b) {
    int64_t n = 0;
    if (fpl_integer_parse(y->text, &n, p->err) != FPL_OK || n < 1 || n > MOST_SEEDS)
        return BAD(p, y->line,
                   "seeds: a list of integers or a count from 1 to %d is expected, '%.40s' is found",
                   MOST_SEEDS, y->text);
    struct axis *a = new_axis(p, b, 1, (size_t)n);
    if (a == NULL) return FPL_SYSTEM;
    a->seeds = a->owned = 1;
    for (int64_t i = 0; i < n; i++) {
        char text[24];
        snprintf(text, sizeof text, "%lld", (long long)i + 1);
        a->cell[i] = (struct fpl_assign){"seed", strdup(text), y->line};
        if (a->cell[i].text == NULL) return study_no_memory(p);
    }
    return FPL_OK;
}

static enum fpl_code parse_seeds(struct parser *p, const struct fpl_yaml *y, struct block *b) {
    if (y->kind == FPL_YAML_SCALAR) return seeds_by_count(p, y, b);
    if (y->kind == FPL_YAML_MAP)
        return BAD(p, y->line, "seeds: a list of integers or a count is expected, a map is found");
    if (y->count == 0) return BAD(p, y->line, "seeds: the list is empty");
    struct axis *a = new_axis(p, b, 1, y->count);
    if (a == NULL) return FPL_SYSTEM;
    a->seeds = 1;
    return fill_axis(p, a, 0, "seed", y);
}

/* ---- blocks ------------------------------------------------------------------------------------- */

void study_free_block(struct block *b) {
    for (size_t i = 0; i < b->axis_count; i++) {
        for (size_t j = 0; b->axis[i].owned && j < b->axis[i].count; j++)
            free((char *)(uintptr_t)b->axis[i].cell[j].text);
        free(b->axis[i].cell);
    }
    for (size_t i = 0; i < b->item_count; i++) study_free_block(&b->item[i]);
    free(b->axis);
    free(b->item);
    free(b->fixed);
    *b = (struct block){0};
}

static enum fpl_code parse_item(struct parser *p, const struct fpl_yaml *y, struct block *b);

static enum fpl_code parse_list(struct parser *p, const struct fpl_yaml *y, struct block *b) {
    if (y->kind != FPL_YAML_LIST)
        return BAD(p, y->line, "list: a list of maps is expected, %s is found", study_kind_of(y));
    if (y->count == 0) return BAD(p, y->line, "list: is empty");
    b->item = calloc(y->count, sizeof *b->item);
    if (b->item == NULL) return study_no_memory(p);
    enum fpl_code code = FPL_OK;
    for (size_t i = 0; i < y->count && code == FPL_OK; i++) {
        b->item_count++;
        code = parse_item(p, y->item[i], &b->item[i]);
    }
    return code;
}

/* The block keys among a map's keys; `seeds` last, so that it is the innermost axis. */
enum fpl_code study_parse_block(struct parser *p, const struct fpl_yaml *y, struct block *b,
                                const struct fpl_yaml *default_seeds) {
    b->line = y->line;
    const struct fpl_yaml *grid = fpl_yaml_get(y, "grid"), *zip = fpl_yaml_get(y, "zip");
    const struct fpl_yaml *list = fpl_yaml_get(y, "list"), *seeds = fpl_yaml_get(y, "seeds");
    if (seeds == NULL) seeds = default_seeds;
    enum fpl_code code = FPL_OK;
    if (list != NULL) code = parse_list(p, list, b);
    if (code == FPL_OK && grid != NULL) code = parse_grid(p, grid, b);
    if (code == FPL_OK && zip != NULL) code = parse_zip(p, zip, b);
    if (code == FPL_OK && seeds != NULL) code = parse_seeds(p, seeds, b);
    return code;
}

static enum fpl_code parse_item(struct parser *p, const struct fpl_yaml *y, struct block *b) {
    if (y->kind != FPL_YAML_MAP)
        return BAD(p, y->line, "list: every element is a map option: value, %s is found", study_kind_of(y));
    if (y->count == 0) return BAD(p, y->line, "list: an element is empty");
    b->fixed = calloc(y->count, sizeof *b->fixed);
    if (b->fixed == NULL) return study_no_memory(p);
    for (size_t i = 0; i < y->count; i++) {
        const struct fpl_yaml *v = y->item[i];
        if (study_one_of(v->key, study_block_keys)) continue;
        enum fpl_code code = check_key(p, v, 1);
        if (code == FPL_OK) code = check_value(p, v->key, v);
        if (code != FPL_OK) return code;
        b->fixed[b->fixed_count++] = (struct fpl_assign){v->key, v->text, v->line};
    }
    return study_parse_block(p, y, b, NULL);
}
