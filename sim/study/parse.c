/* parse.c - the study file's grammar (study.h) above its blocks (block.c): stages, what they come
 * after, laws, order, budget.
 */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/number.h"

static const char *const stage_keys[] = {"name",  "after", "options", "law",  "order",
                                         "seeds", "grid",  "zip",     "list", NULL};
static const char *const study_keys[] = {"name",  "budget", "options", "law",  "order", "stages",
                                         "seeds", "grid",   "zip",     "list", NULL};

/* ---- law, order, budget --------------------------------------------------------------------------- */

static enum fpl_code parse_power(struct parser *p, const struct fpl_yaml *y, struct power *out) {
    static const char *const keys[] = {"c", "N", "D", NULL};
    if (y->kind != FPL_YAML_MAP)
        return BAD(p, y->line, "law: %s: a map {c: , N: , D: } is expected, %s is found", y->key,
                   study_kind_of(y));
    *out = (struct power){0};
    for (size_t i = 0; i < y->count; i++) {
        const struct fpl_yaml *v = y->item[i];
        if (!study_one_of(v->key, keys)) return study_unknown(p, v, "constant of a law", keys);
        double x;
        if (v->kind != FPL_YAML_SCALAR)
            return BAD(p, v->line, "law: %s: a number is expected, %s is found", v->key, study_kind_of(v));
        if (fpl_number_parse(v->text, &x, p->err) != FPL_OK)
            return fpl_fail_at(p->err, "%s:%d: law: %s", p->study->file, v->line, v->key);
        if (v->key[0] == 'c' ? !(x >= 1e-30 && x <= 1e30) : !(x >= -10 && x <= 10))
            return BAD(p, v->line, "law: %s: %s is outside the accepted range %s", v->key, v->text,
                       v->key[0] == 'c' ? "1e-30 to 1e30" : "-10 to 10");
        *(v->key[0] == 'c' ? &out->c : v->key[0] == 'N' ? &out->n : &out->d) = x;
    }
    return out->c > 0 ? FPL_OK : BAD(p, y->line, "law: %s: the constant c is missing", y->key);
}

static enum fpl_code parse_law(struct parser *p, const struct fpl_yaml *y, struct law_source *out) {
    static const char *const keys[] = {"lr", "batch", "fit", "law", "where", NULL};
    *out = (struct law_source){.line = y->line, .stage = -1, .law = "steplaw"};
    if (y->kind != FPL_YAML_MAP)
        return BAD(p, y->line, "law: a map is expected, %s is found", study_kind_of(y));
    for (size_t i = 0; i < y->count; i++) {
        const struct fpl_yaml *v = y->item[i];
        enum fpl_code code = FPL_OK;
        if (!study_one_of(v->key, keys)) return study_unknown(p, v, "key of a law", keys);
        if (strcmp(v->key, "lr") == 0)
            code = parse_power(p, v, &out->lr);
        else if (strcmp(v->key, "batch") == 0)
            code = parse_power(p, v, &out->batch);
        else if (v->kind != FPL_YAML_SCALAR || *v->text == '\0')
            code = BAD(p, v->line, "law: %s: a text is expected, %s is found", v->key, study_kind_of(v));
        else if (strcmp(v->key, "fit") == 0)
            out->fit = v->text;
        else if (strcmp(v->key, "where") == 0)
            out->where = v->text;
        else
            out->law = v->text;
        if (code != FPL_OK) return code;
    }
    int constants = out->lr.c > 0 || out->batch.c > 0;
    if (constants == (out->fit != NULL))
        return BAD(p, y->line, "law: either constants (lr, batch) or a fit is expected, %s",
                   constants ? "both are given" : "neither is given");
    if (out->fit != NULL && fpl_law_find(out->law) == NULL)
        return BAD(p, y->line, "law: '%.40s' is no known law (steplaw and joint give LR and batch)",
                   out->law);
    return FPL_OK;
}

static enum fpl_code parse_order(struct parser *p, const struct fpl_yaml *y, enum stage_order *out) {
    static const char *const names[] = {"balanced", "file", "cost", NULL};
    for (int i = 0; y->kind == FPL_YAML_SCALAR && names[i] != NULL; i++)
        if (strcmp(y->text, names[i]) == 0) return *out = (enum stage_order)i, FPL_OK;
    return BAD(p, y->line, "order: balanced, file or cost is expected, '%.40s' is found",
               y->kind == FPL_YAML_SCALAR ? y->text : study_kind_of(y));
}

/* "1h30m", "90m", "45s", "3600". */
static int read_duration(const char *text, double *out) {
    double total = 0;
    if (fpl_number_parse(text, out, NULL) == FPL_OK) return *out > 0;
    for (const char *q = text; *q != '\0';) {
        char number[32];
        size_t n = strcspn(q, "hms");
        if (n == 0 || n >= sizeof number || q[n] == '\0') return 0;
        memcpy(number, q, n);
        number[n] = '\0';
        double x;
        if (fpl_number_parse(number, &x, NULL) != FPL_OK || x < 0) return 0;
        total += x * (q[n] == 'h' ? 3600 : q[n] == 'm' ? 60 : 1);
        q += n + 1;
    }
    *out = total;
    return total > 0;
}

int fpl_study_duration(const char *text, double *seconds) {
    return read_duration(text, seconds) && *seconds <= 1e9;
}

static enum fpl_code parse_budget(struct parser *p, const struct fpl_yaml *y, double *out) {
    static const char *const keys[] = {"seconds", NULL};
    if (y->kind == FPL_YAML_MAP) {
        for (size_t i = 0; i < y->count; i++)
            if (!study_one_of(y->item[i]->key, keys))
                return study_unknown(p, y->item[i], "key of the budget", keys);
        if (y->count == 1) y = y->item[0];
    }
    if (y->kind == FPL_YAML_SCALAR && fpl_study_duration(y->text, out)) return FPL_OK;
    return BAD(p, y->line, "budget: a positive time such as 3600, 90m or 1h30m is expected, '%.40s' is found",
               y->kind == FPL_YAML_SCALAR ? y->text : study_kind_of(y));
}

/* ---- stages ----------------------------------------------------------------------------------------- */

static int find_stage(const struct fpl_study *s, const char *name, size_t before) {
    for (size_t i = 0; i < before; i++)
        if (strcmp(s->stage[i].name, name) == 0) return (int)i;
    return -1;
}

static enum fpl_code parse_stage_name(struct parser *p, const struct fpl_yaml *y, size_t index) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    char *name = p->study->stage[index].name;
    const struct fpl_yaml *v = fpl_yaml_get(y, "name");
    if (v == NULL) return BAD(p, y->line, "a stage has no name");
    if (v->kind != FPL_YAML_SCALAR || *v->text == '\0' || strlen(v->text) > 40 ||
        strspn(v->text, letters) != strlen(v->text))
        return BAD(p, v->line, "name of a stage: up to 40 letters, digits, '-' and '_' are expected");
    if (find_stage(p->study, v->text, index) >= 0)
        return BAD(p, v->line, "two stages are called '%s'", v->text);
    memcpy(name, v->text, strlen(v->text) + 1);
    return FPL_OK;
}

static enum fpl_code add_after(struct parser *p, const struct fpl_yaml *y, size_t index) {
    struct fpl_stage_plan *plan = p->study->stage[index].plan;
    if (y->kind != FPL_YAML_SCALAR)
        return BAD(p, y->line, "after: names of stages are expected, %s is found", study_kind_of(y));
    int found = find_stage(p->study, y->text, index);
    if (found < 0) return BAD(p, y->line, "after: '%.40s' is no earlier stage of this file", y->text);
    plan->after[found] = 1;
    for (int i = 0; i < found; i++) plan->after[i] |= p->study->stage[found].plan->after[i];
    return FPL_OK;
}

static enum fpl_code parse_after(struct parser *p, const struct fpl_yaml *y, size_t index) {
    if (y->kind != FPL_YAML_LIST) return add_after(p, y, index);
    enum fpl_code code = FPL_OK;
    for (size_t i = 0; i < y->count && code == FPL_OK; i++) code = add_after(p, y->item[i], index);
    return code;
}

/* A fit of a stage: the stage must be waited for, and all users agree on the runs used. */
static enum fpl_code link_law(struct parser *p, size_t index) {
    struct fpl_study *s = p->study;
    struct law_source *law = &s->stage[index].plan->law;
    if (law->fit == NULL) return FPL_OK;
    law->stage = find_stage(s, law->fit, s->stages);
    if (law->stage < 0) return FPL_OK;
    if (!s->stage[index].plan->after[law->stage])
        return BAD(p, law->line, "law: stage '%s' uses the fit of '%s' and must come after it (after: %s)",
                   s->stage[index].name, law->fit, law->fit);
    for (size_t i = 0; i < index; i++) {
        const struct law_source *other = &s->stage[i].plan->law;
        const char *a = law->where != NULL ? law->where : "", *b = other->where != NULL ? other->where : "";
        if (other->fit != NULL && other->stage == law->stage && strcmp(a, b) != 0)
            return BAD(p, law->line, "law: two fits of stage '%s' with different `where`", law->fit);
    }
    return FPL_OK;
}

/* keys: what the map may hold. defaults: the study's map, or NULL when y is that map itself. */
static enum fpl_code parse_stage(struct parser *p, const struct fpl_yaml *y, size_t index,
                                 const struct fpl_yaml *defaults) {
    struct fpl_stage_plan *plan = p->study->stage[index].plan;
    const struct fpl_yaml *after = fpl_yaml_get(y, "after"), *options = fpl_yaml_get(y, "options");
    const struct fpl_yaml *law = fpl_yaml_get(y, "law"), *order = fpl_yaml_get(y, "order");
    if (law == NULL) law = fpl_yaml_get(defaults, "law");
    if (order == NULL) order = fpl_yaml_get(defaults, "order");
    plan->line = y->line;
    enum fpl_code code = FPL_OK;
    if (defaults != NULL && after != NULL) code = parse_after(p, after, index);
    if (code == FPL_OK && defaults != NULL && options != NULL)
        code = study_parse_options(p, options, &plan->options, &plan->option_count);
    if (code == FPL_OK && law != NULL) code = parse_law(p, law, &plan->law);
    if (code == FPL_OK && order != NULL) code = parse_order(p, order, &plan->order);
    if (code == FPL_OK) code = study_parse_block(p, y, &plan->block, fpl_yaml_get(defaults, "seeds"));
    return code == FPL_OK ? link_law(p, index) : code;
}

static enum fpl_code make_stages(struct parser *p, size_t count) {
    struct fpl_study *s = p->study;
    s->stage = calloc(count, sizeof *s->stage);
    if (s->stage == NULL) return study_no_memory(p);
    for (size_t i = 0; i < count; i++) {
        s->stage[i].plan = calloc(1, sizeof *s->stage[i].plan);
        if (s->stage[i].plan != NULL) s->stage[i].plan->after = calloc(count, 1);
        s->stages++;
        if (s->stage[i].plan == NULL || s->stage[i].plan->after == NULL) return study_no_memory(p);
        s->stage[i].plan->law.stage = -1;
    }
    return FPL_OK;
}

static enum fpl_code parse_stages(struct parser *p, const struct fpl_yaml *root, const struct fpl_yaml *y) {
    if (y->kind != FPL_YAML_LIST || y->count == 0)
        return BAD(p, y->line, "stages: a list of stages is expected, %s is found",
                   y->kind == FPL_YAML_LIST ? "an empty list" : study_kind_of(y));
    for (size_t i = 0; i < root->count; i++)
        if (study_one_of(root->item[i]->key, study_block_keys) && strcmp(root->item[i]->key, "seeds") != 0)
            return BAD(p, root->item[i]->key_line, "'%s' stands beside 'stages'; it belongs inside a stage",
                       root->item[i]->key);
    enum fpl_code code = make_stages(p, y->count);
    for (size_t i = 0; i < y->count && code == FPL_OK; i++) {
        const struct fpl_yaml *v = y->item[i];
        if (v->kind != FPL_YAML_MAP)
            return BAD(p, v->line, "stages: every element is a map, %s is found", study_kind_of(v));
        for (size_t k = 0; k < v->count; k++)
            if (!study_one_of(v->item[k]->key, stage_keys))
                return study_unknown(p, v->item[k], "key of a stage", stage_keys);
        code = parse_stage_name(p, v, i);
        if (code == FPL_OK) code = parse_stage(p, v, i, root);
    }
    return code;
}

static enum fpl_code parse_name(struct parser *p, const struct fpl_yaml *y) {
    struct fpl_study *s = p->study;
    if (y == NULL) {
        const char *slash = strrchr(s->file, '/');
        snprintf(s->name, sizeof s->name, "%.63s", slash != NULL ? slash + 1 : s->file);
        return FPL_OK;
    }
    if (y->kind != FPL_YAML_SCALAR || *y->text == '\0' || strlen(y->text) >= sizeof s->name)
        return BAD(p, y->line, "name: a text of 1 to %zu characters is expected", sizeof s->name - 1);
    snprintf(s->name, sizeof s->name, "%s", y->text);
    return FPL_OK;
}

enum fpl_code study_parse_file(struct fpl_study *s, struct fpl_error *err) {
    struct parser p = {.study = s, .err = err};
    const struct fpl_yaml *root = s->tree;
    fpl_config_defaults(&p.scratch);
    if (root->kind != FPL_YAML_MAP)
        return BAD(&p, root->line, "a study is a map, %s is found", study_kind_of(root));
    for (size_t i = 0; i < root->count; i++)
        if (!study_one_of(root->item[i]->key, study_keys)) {
            if (fpl_option_find(root->item[i]->key) != NULL)
                return BAD(&p, root->item[i]->key_line, "option '%s' belongs under 'options'",
                           root->item[i]->key);
            return study_unknown(&p, root->item[i], "key of a study", study_keys);
        }
    const struct fpl_yaml *budget = fpl_yaml_get(root, "budget"), *options = fpl_yaml_get(root, "options");
    const struct fpl_yaml *stages = fpl_yaml_get(root, "stages");
    enum fpl_code code = parse_name(&p, fpl_yaml_get(root, "name"));
    if (code == FPL_OK && budget != NULL) code = parse_budget(&p, budget, &s->budget);
    if (code == FPL_OK && options != NULL)
        code = study_parse_options(&p, options, &s->options, &s->option_count);
    if (code != FPL_OK) return code;
    if (stages != NULL) return parse_stages(&p, root, stages);
    code = make_stages(&p, 1);
    if (code != FPL_OK) return code;
    snprintf(s->stage[0].name, sizeof s->stage[0].name, "main");
    return parse_stage(&p, root, 0, NULL);
}
