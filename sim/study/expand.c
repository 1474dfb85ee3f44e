/* expand.c - blocks to runs: products, settings in layers, identities.
 *
 * The expansion walks a block's items, then its axes, then the item's own block, keeping the
 * settings made on the way on a stack; a run is the base configuration with the stack applied
 * from the outside in.  Depth is bounded by the YAML's.  Each run is checked where it is
 * made, with placeholders for what a law will give, so an impossible combination is an error
 * before anything starts.
 */
#include "internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/file.h"
#include "../base/number.h"

#define MOST_SETTINGS 128

struct walk {
    struct fpl_study *study;
    size_t stage;
    struct fpl_study_run base; /* defaults and options of study and stage */
    struct fpl_assign stack[MOST_SETTINGS];
    size_t depth;
    size_t item, replicate; /* of the stage's own list and seeds */
    struct fpl_error *err;
};

static enum fpl_code no_memory(const struct fpl_study *s, struct fpl_error *err) {
    return fpl_fail(err, FPL_SYSTEM, "%s: out of memory", s->file);
}

/* ---- settings --------------------------------------------------------------------------------- */

/* The parser has tried every value, so nothing fails here. */
static enum fpl_code apply(struct fpl_study_run *r, const struct fpl_assign *a, struct fpl_error *err) {
    int *from_law = NULL;
    if (strcmp(a->key, "lr_octaves") == 0) return fpl_number_parse(a->text, &r->lr_octaves, err);
    if (strcmp(a->key, "batch_octaves") == 0) return fpl_number_parse(a->text, &r->batch_octaves, err);
    if (strcmp(a->key, "lr") == 0) from_law = &r->lr_law;
    if (strcmp(a->key, "batch_tokens") == 0) from_law = &r->batch_law;
    if (from_law != NULL) *from_law = strcmp(a->text, "law") == 0;
    if (from_law != NULL && *from_law) return FPL_OK;
    return fpl_config_set(&r->config, a->key, a->text, err);
}

/* Options that exclude each other count as one. */
static const char *slot_of(const char *key) {
    return strcmp(key, "tokens_per_param") == 0 || strcmp(key, "steps") == 0 ? "tokens" : key;
}

static enum fpl_code push(struct walk *w, const struct fpl_assign *a) {
    for (size_t i = 0; i < w->depth; i++) {
        const struct fpl_assign *b = &w->stack[i];
        if (strcmp(slot_of(a->key), slot_of(b->key)) != 0) continue;
        if (strcmp(a->key, b->key) == 0)
            return study_fail(w->study, a->line, w->err, "%s is set twice for one run, first in line %d",
                              a->key, b->line);
        return study_fail(w->study, a->line, w->err, "%s and %s (line %d) exclude each other", a->key, b->key,
                          b->line);
    }
    if (w->depth == MOST_SETTINGS)
        return study_fail(w->study, a->line, w->err, "a run has more than %d settings", MOST_SETTINGS);
    w->stack[w->depth++] = *a;
    return FPL_OK;
}

/* ---- identity ----------------------------------------------------------------------------------- */

static enum fpl_code find_source(struct fpl_study *s, const struct fpl_config *c,
                                 const struct fpl_data_info **info, struct fpl_error *err) {
    for (struct fpl_study_source *d = s->sources; d != NULL; d = d->next)
        if (d->seq == c->seq && d->data_seed == c->data_seed && strcmp(d->spec, c->data) == 0) {
            *info = &d->info;
            return FPL_OK;
        }
    struct fpl_data *data = NULL;
    enum fpl_code code = fpl_data_open(c->data, c->seq, c->data_seed, &data, err);
    if (code != FPL_OK) return code;
    struct fpl_study_source *d = calloc(1, sizeof *d);
    if (d != NULL) {
        snprintf(d->spec, sizeof d->spec, "%s", c->data);
        d->seq = c->seq;
        d->data_seed = c->data_seed;
        fpl_data_info(data, &d->info);
        d->next = s->sources;
        s->sources = d;
        *info = &d->info;
    }
    fpl_data_close(data);
    return d != NULL ? FPL_OK : no_memory(s, err);
}

/* Training, and evaluations at a third of its cost per token. */
static double run_flop(const struct fpl_config *c, int64_t vocab) {
    double steps = (double)fpl_config_steps(c);
    double evaluations = 1 + (c->eval_every > 0 ? floor(steps / (double)c->eval_every) : 0);
    return fpl_config_flop_per_token(c, vocab) *
           (steps * (double)c->batch_tokens + evaluations * (double)c->eval_tokens / 3);
}

/* A repetition of the corpus would be another experiment than the law's. */
static enum fpl_code check_corpus(const struct fpl_config *c, const struct fpl_data_info *info,
                                  struct fpl_error *err) {
    double D = (double)fpl_config_steps(c) * (double)c->batch_tokens;
    if (info->train_tokens == 0 || D <= (double)info->train_tokens) return FPL_OK;
    return fpl_fail(err, FPL_INVALID, "the run trains on %.0f tokens, the data has %lld", D,
                    (long long)info->train_tokens);
}

static enum fpl_code at_run(const struct fpl_study *s, const struct fpl_study_run *r, struct fpl_error *err) {
    return fpl_fail_at(err, "%s:%d", s->file, r->line);
}

enum fpl_code study_identify(struct fpl_study *s, struct fpl_study_run *r, struct fpl_error *err) {
    const struct fpl_data_info *info = NULL;
    enum fpl_code code = fpl_config_check(&r->config, err);
    if (code == FPL_OK) code = find_source(s, &r->config, &info, err);
    if (code == FPL_OK) code = check_corpus(&r->config, info, err);
    if (code != FPL_OK) return at_run(s, r, err);
    r->flop = run_flop(&r->config, info->vocab);
    if (r->lr_law || r->batch_law) return FPL_OK;
    char *canonical = fpl_config_canonical(&r->config, s->backend, info->fingerprint);
    if (canonical == NULL) return no_memory(s, err);
    fpl_config_id(canonical, r->id);
    free(canonical);
    fpl_train_shape(&r->config, r->shape);
    return FPL_OK;
}

/* ---- walking -------------------------------------------------------------------------------------- */

/* What the run will be checked with until its law is known. */
static void set_placeholders(struct fpl_config *c, const struct fpl_study_run *r) {
    if (r->batch_law) c->batch_tokens = c->micro_tokens > 0 ? c->micro_tokens : c->seq;
    if (r->lr_law && c->lr < c->lr_final) c->lr = c->lr_final;
}

static enum fpl_code check_law(struct walk *w, const struct fpl_study_run *r) {
    const struct law_source *law = &w->study->stage[w->stage].plan->law;
    if (!r->lr_law && !r->batch_law) return FPL_OK;
    if (law->line == 0)
        return study_fail(w->study, r->line, w->err,
                          "%s is 'law', but neither the stage nor the study has a law",
                          r->lr_law ? "lr" : "batch_tokens");
    if (law->fit == NULL && r->lr_law && !(law->lr.c > 0))
        return study_fail(w->study, law->line, w->err, "lr is 'law', but this law has no constants for lr");
    if (law->fit == NULL && r->batch_law && !(law->batch.c > 0))
        return study_fail(w->study, law->line, w->err,
                          "batch_tokens is 'law', but this law has no constants for batch");
    if (r->batch_law && r->config.steps > 0)
        return study_fail(
            w->study, r->line, w->err,
            "batch_tokens is 'law', which needs the amount of data as tokens or tokens_per_param");
    return FPL_OK;
}

static enum fpl_code emit(struct walk *w, int line) {
    struct fpl_study *s = w->study;
    struct fpl_stage_plan *plan = s->stage[w->stage].plan;
    if (plan->planned_count == FPL_STUDY_RUNS)
        return study_fail(s, plan->line, w->err, "stage '%s' has more than %d runs", s->stage[w->stage].name,
                          FPL_STUDY_RUNS);
    if (plan->planned_count == plan->planned_room) {
        size_t room = plan->planned_room == 0 ? 64 : 2 * plan->planned_room;
        struct fpl_study_run *larger = realloc(plan->planned, room * sizeof *larger);
        if (larger == NULL) return no_memory(s, w->err);
        plan->planned = larger;
        plan->planned_room = room;
    }
    struct fpl_study_run *r = &plan->planned[plan->planned_count];
    *r = w->base;
    r->line = line;
    r->item = w->item;
    r->replicate = w->replicate;
    for (size_t i = 0; i < w->depth; i++) {
        enum fpl_code code = apply(r, &w->stack[i], w->err);
        if (code != FPL_OK) return code;
    }
    enum fpl_code code = check_law(w, r);
    if (code != FPL_OK) return code;
    set_placeholders(&r->config, r);
    plan->planned_count++;
    return FPL_OK;
}

static enum fpl_code walk_block(struct walk *w, const struct block *b, int level);

/* The product of b's axes from `at` on, then the block of `item` (NULL: none). */
static enum fpl_code walk_axes(struct walk *w, const struct block *b, size_t at, const struct block *item,
                               int level) {
    if (at == b->axis_count) {
        if (item == NULL) return emit(w, b->line);
        return walk_block(w, item, level + 1);
    }
    const struct axis *a = &b->axis[at];
    size_t depth = w->depth;
    for (size_t i = 0; i < a->count; i++) {
        enum fpl_code code = FPL_OK;
        for (size_t j = 0; j < a->width && code == FPL_OK; j++) code = push(w, &a->cell[i * a->width + j]);
        if (a->seeds) w->replicate = i;
        if (code == FPL_OK) code = walk_axes(w, b, at + 1, item, level);
        if (code != FPL_OK) return code;
        w->depth = depth;
    }
    if (a->seeds) w->replicate = 0;
    return FPL_OK;
}

static enum fpl_code walk_block(struct walk *w, const struct block *b, int level) {
    if (b->item_count == 0) return walk_axes(w, b, 0, NULL, level);
    size_t depth = w->depth;
    for (size_t i = 0; i < b->item_count; i++) {
        const struct block *item = &b->item[i];
        enum fpl_code code = FPL_OK;
        if (level == 0) w->item = i;
        for (size_t j = 0; j < item->fixed_count && code == FPL_OK; j++) code = push(w, &item->fixed[j]);
        if (code == FPL_OK) code = walk_axes(w, b, 0, item, level);
        if (code != FPL_OK) return code;
        w->depth = depth;
    }
    return FPL_OK;
}

static enum fpl_code expand_stage(struct fpl_study *s, size_t stage, struct fpl_error *err) {
    struct walk *w = calloc(1, sizeof *w);
    if (w == NULL) return no_memory(s, err);
    const struct fpl_stage_plan *plan = s->stage[stage].plan;
    w->study = s;
    w->stage = stage;
    w->err = err;
    fpl_config_defaults(&w->base.config);
    enum fpl_code code = FPL_OK;
    for (size_t i = 0; i < s->option_count && code == FPL_OK; i++)
        code = apply(&w->base, &s->options[i], err);
    for (size_t i = 0; i < plan->option_count && code == FPL_OK; i++)
        code = apply(&w->base, &plan->options[i], err);
    if (code == FPL_OK) code = walk_block(w, &plan->block, 0);
    free(w);
    /* Runs that wait for a fit are checked as far as they are known. */
    for (size_t i = 0; i < plan->planned_count && code == FPL_OK && study_waits_for_fit(s, stage); i++)
        code = study_identify(s, &plan->planned[i], err);
    return code;
}

/* ---- the whole file ------------------------------------------------------------------------------------ */

enum fpl_code study_expand(struct fpl_study *s, struct fpl_error *err) {
    size_t total = 0;
    enum fpl_code code = FPL_OK;
    for (size_t i = 0; i < s->stages && code == FPL_OK; i++) {
        code = expand_stage(s, i, err);
        if (code != FPL_OK) return code;
        s->stage[i].runs = s->stage[i].plan->planned_count;
        total += s->stage[i].runs;
        if (total > FPL_STUDY_RUNS)
            return study_fail(s, s->stage[i].plan->line, err, "the study has more than %d runs",
                              FPL_STUDY_RUNS);
        if (!study_waits_for_fit(s, i)) code = study_resolve_given(s, i, err);
    }
    return code;
}

void fpl_study_free(struct fpl_study *s) {
    if (s == NULL) return;
    for (size_t i = 0; i < s->stages; i++) {
        struct fpl_stage_plan *plan = s->stage[i].plan;
        free(s->stage[i].run);
        if (plan == NULL) continue;
        study_free_block(&plan->block);
        free(plan->after);
        free(plan->options);
        free(plan->planned);
        free(plan);
    }
    while (s->sources != NULL) {
        struct fpl_study_source *next = s->sources->next;
        free(s->sources);
        s->sources = next;
    }
    fpl_yaml_free(s->tree);
    free(s->options);
    free(s->stage);
    free(s->run);
    free(s->text);
    free(s->file);
    free(s);
}

enum fpl_code fpl_study_parse(const char *name, const char *text, size_t size, const char *backend,
                              struct fpl_study **out, struct fpl_error *err) {
    *out = NULL;
    struct fpl_study *s = calloc(1, sizeof *s);
    if (s == NULL) return fpl_fail(err, FPL_SYSTEM, "%s: out of memory", name);
    s->file = strdup(name);
    s->text = malloc(size + 1);
    if (s->file == NULL || s->text == NULL) {
        fpl_study_free(s);
        return fpl_fail(err, FPL_SYSTEM, "%s: out of memory", name);
    }
    memcpy(s->text, text, size);
    s->text[size] = '\0';
    s->text_size = size;
    snprintf(s->backend, sizeof s->backend, "%s", backend);
    enum fpl_code code = fpl_yaml_parse(name, text, size, &s->tree, err);
    if (code == FPL_OK) code = study_parse_file(s, err);
    if (code == FPL_OK) code = study_expand(s, err);
    if (code != FPL_OK) {
        fpl_study_free(s);
        return code;
    }
    *out = s;
    return FPL_OK;
}

enum fpl_code fpl_study_read(const char *path, const char *backend, struct fpl_study **out,
                             struct fpl_error *err) {
    char *text = NULL;
    size_t size = 0;
    *out = NULL;
    enum fpl_code code = fpl_file_read(path, 1000000, &text, &size, err);
    if (code != FPL_OK) return code;
    code = fpl_study_parse(strcmp(path, "-") == 0 ? "standard input" : path, text, size, backend, out, err);
    free(text);
    return code;
}
