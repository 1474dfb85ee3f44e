/* run.c - one call of a study: what is missing, handed to workers, stored as it ends.
 *
 * The parent is a single loop: start runs on idle workers, wait for a line or a death, store.
 * It alone writes the database, one transaction per record, so at every moment the store
 * holds exactly the runs that ended, and going on is asking which ids are missing.  Nothing
 * that a record says depends on the order of runs, on the number of workers or on
 * interruptions.
 */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "../base/codebooks.h"
#include "../base/file.h"
#include "../base/number.h"

#define MOST_DEATHS 2       /* workers that may die on one run */
#define STOP_PATIENCE 600.0 /* seconds in which stopped workers may write checkpoints */

int session_stop_signal(const struct session *x) { return x->o->stop != NULL ? (int)*x->o->stop : 0; }

static void note(const struct session *x, const char *text) {
    if (x->o->note != NULL) x->o->note(x->o->context, text);
}

double session_elapsed(const struct session *x) { return study_clock() - x->begun; }

static double budget_left(const struct session *x) {
    return x->budget > 0 ? x->budget - x->spent - session_elapsed(x) : 1e300;
}

/* ---- stages --------------------------------------------------------------------------------------- */

static void mark_done(struct session *x) {
    for (size_t i = 0; i < x->s->runs; i++) {
        struct fpl_study_run *r = &x->s->run[i];
        if (r->state == FPL_RUN_MISSING && fpl_store_has(x->store, r->id)) r->state = FPL_RUN_DONE;
    }
}

static int stage_complete(const struct fpl_study *s, size_t stage) {
    const struct fpl_study_stage *g = &s->stage[stage];
    for (size_t i = 0; i < g->runs && g->resolved; i++)
        if (s->run[g->run[i]].state != FPL_RUN_DONE) return 0;
    return g->resolved;
}

static int stage_may_start(const struct fpl_study *s, size_t stage) {
    for (size_t i = 0; i < stage; i++)
        if (s->stage[stage].plan->after[i] && !stage_complete(s, i)) return 0;
    return 1;
}

/* Sum of the estimates of what is missing, waiting stages included. */
static void estimate_left(struct session *x) {
    x->left_seconds = 0;
    for (size_t i = 0; i < x->s->runs; i++)
        if (x->s->run[i].state == FPL_RUN_MISSING || x->s->run[i].state == FPL_RUN_RUNNING)
            x->left_seconds += cost_seconds(&x->cost, &x->s->run[i]);
    for (size_t i = 0; i < x->s->stages; i++)
        for (size_t k = 0; k < x->s->stage[i].plan->planned_count; k++)
            x->left_seconds += cost_seconds(&x->cost, &x->s->stage[i].plan->planned[k]);
}

/* Fits whose runs are all there; the stages that take LR and batch from them become known. */
static enum fpl_code resolve_ready(struct session *x, struct fpl_error *err) {
    for (size_t i = 0; i < x->s->stages; i++) {
        if (x->s->stage[i].resolved || !stage_may_start(x->s, i)) continue;
        enum fpl_code code = study_resolve_fitted(x->s, i, x->store, x->o, err);
        if (code != FPL_OK) return code;
        mark_done(x);
        estimate_left(x);
    }
    return FPL_OK;
}

static void make_plan(struct session *x, struct fpl_study_plan *plan) {
    *plan = (struct fpl_study_plan){.spent = x->spent, .measured = x->cost.count > 0};
    for (size_t i = 0; i < x->s->runs; i++) {
        plan->runs++;
        if (x->s->run[i].state == FPL_RUN_DONE)
            plan->done++;
        else
            plan->flop += x->s->run[i].flop;
    }
    for (size_t i = 0; i < x->s->stages; i++)
        for (size_t k = 0; k < x->s->stage[i].plan->planned_count; k++) {
            plan->runs++;
            plan->waiting++;
            plan->flop += x->s->stage[i].plan->planned[k].flop;
        }
    plan->missing = plan->runs - plan->done;
    estimate_left(x);
    plan->seconds = x->left_seconds;
    plan->rate = plan->seconds > 0 ? plan->flop / plan->seconds : STUDY_ASSUMED_RATE;
}

/* ---- starting runs ---------------------------------------------------------------------------------- */

/* The next run to start; SIZE_MAX if there is none for now. */
static size_t pick_run(struct session *x) {
    double left = budget_left(x);
    for (size_t i = 0; i < x->s->stages; i++) {
        const struct fpl_study_stage *g = &x->s->stage[i];
        if (!g->resolved || !stage_may_start(x->s, i)) continue;
        for (size_t k = 0; k < g->runs; k++) {
            const struct fpl_study_run *r = &x->s->run[g->run[k]];
            if (r->state != FPL_RUN_MISSING) continue;
            if (left > 1e200 || cost_seconds(&x->cost, r) <= left) return g->run[k];
            x->result->out_of_budget = 1;
        }
    }
    return SIZE_MAX;
}

static char *request_line(const struct session *x, const struct fpl_study_run *r) {
    char value[2048], path[4200];
    json_t *options = json_object(), *root = json_object();
    int failed = options == NULL || root == NULL;
    for (const struct fpl_option *o = fpl_options; o->key != NULL && !failed; o++) {
        fpl_config_get(&r->config, o->key, value, sizeof value);
        failed |= json_object_set_new(options, o->key, json_string(value));
    }
    directory_checkpoint(x, r->id, path, sizeof path);
    if (!failed) failed |= json_object_set(root, "options", options);
    if (!failed) failed |= json_object_set_new(root, "checkpoint", json_string(path));
    if (!failed) failed |= json_object_set_new(root, "codebooks", fpl_codebooks_to_json(r->config.recipe));
    char *json = failed ? NULL : json_dumps(root, JSON_COMPACT);
    json_decref(options);
    json_decref(root);
    struct fpl_text t = {0};
    if (json != NULL) fpl_text_add(&t, "%s\n", json);
    free(json);
    if (t.failed) fpl_text_free(&t);
    return t.text;
}

static enum fpl_code start_runs(struct session *x, struct fpl_error *err) {
    for (int worker; (worker = pool_idle(&x->pool)) >= 0;) {
        size_t index = pick_run(x);
        if (index == SIZE_MAX) return FPL_OK;
        struct fpl_study_run *r = &x->s->run[index];
        char *line = request_line(x, r);
        if (line == NULL)
            return fpl_fail(err, FPL_SYSTEM,
                            "%s: a request cannot be written (out of memory, or a name is not UTF-8)",
                            x->s->file);
        enum fpl_code code = pool_send(&x->pool, worker, index, line, err);
        free(line);
        if (code != FPL_OK) return code;
        r->state = FPL_RUN_RUNNING;
        r->fraction = 0;
    }
    return FPL_OK;
}

/* ---- what workers say ---------------------------------------------------------------------------------- */

static void fail_run(struct session *x, struct fpl_study_run *r, enum fpl_code code, const char *why) {
    r->state = FPL_RUN_FAILED;
    if (x->result->failed++ == 0)
        fpl_fail(&x->first, code, "%s:%d: run %s failed: %s", x->s->file, r->line, r->id, why);
    char text[700];
    snprintf(text, sizeof text, "run %s failed: %.600s", r->id, why);
    note(x, text);
    estimate_left(x);
}

static enum fpl_code store_record(struct session *x, struct fpl_study_run *r, const struct fpl_record *record,
                                  struct fpl_error *err) {
    enum fpl_code code = fpl_store_put(x->store, record, err);
    if (code == FPL_OK && session_elapsed(x) - x->saved > 1) code = directory_write_spent(x, err);
    if (code != FPL_OK) return code;
    char path[4200];
    directory_checkpoint(x, r->id, path, sizeof path);
    unlink(path);
    r->state = FPL_RUN_DONE;
    x->result->ran++;
    x->result->status[record->status]++;
    cost_free(&x->cost);
    code = cost_load(&x->cost, x->store, err);
    x->done_seconds += cost_seconds(&x->cost, r);
    estimate_left(x);
    return code;
}

static enum fpl_code on_record(struct session *x, struct fpl_study_run *r, const char *json,
                               struct fpl_error *err) {
    struct fpl_record record;
    memset(&record, 0, sizeof record);
    struct fpl_error why = {FPL_OK, ""};
    if (fpl_record_from_json(json, &record, &why) != FPL_OK) {
        fail_run(x, r, FPL_SYSTEM, why.text);
        return FPL_OK;
    }
    enum fpl_code code = FPL_OK;
    if (strcmp(record.id, r->id) != 0) {
        snprintf(
            why.text, sizeof why.text,
            "its worker answered for run %s (has the data or the program changed since this call began?)",
            record.id);
        fail_run(x, r, FPL_INVALID, why.text);
    } else if (record.status == FPL_RUN_STOPPED) {
        r->state = FPL_RUN_MISSING;
    } else {
        code = store_record(x, r, &record, err);
    }
    fpl_record_free(&record);
    return code;
}

/* "error CODE text": of the environment it ends the call, of the run's own input only the run. */
static enum fpl_code on_error(struct session *x, struct fpl_study_run *r, const char *text,
                              struct fpl_error *err) {
    char *rest = NULL;
    long code = strtol(text, &rest, 10);
    while (*rest == ' ') rest++;
    if (code == FPL_SYSTEM) {
        r->state = FPL_RUN_MISSING;
        return fpl_fail(err, FPL_SYSTEM, "run %s: %s", r->id, rest);
    }
    fail_run(x, r, FPL_INVALID, rest);
    return FPL_OK;
}

static enum fpl_code on_line(struct session *x, const struct pool_event *e, struct fpl_error *err) {
    if (e->run == SIZE_MAX) return FPL_OK;
    struct fpl_study_run *r = &x->s->run[e->run];
    const char *line = e->line, *space = strchr(line, ' ');
    size_t word = space != NULL ? (size_t)(space - line) : strlen(line);
    const char *rest = space != NULL ? space + 1 : "";
    double fraction;
    if (word == 8 && strncmp(line, "progress", word) == 0) {
        if (fpl_number_parse(rest, &fraction, NULL) == FPL_OK) r->fraction = fraction;
        return FPL_OK;
    }
    if (word == 4 && strncmp(line, "note", word) == 0) return note(x, rest), FPL_OK;
    x->pool.worker[e->worker].run = SIZE_MAX; /* everything else ends the run */
    x->deaths = 0;
    if (word == 6 && strncmp(line, "record", word) == 0) return on_record(x, r, rest, err);
    if (word == 5 && strncmp(line, "error", word) == 0) return on_error(x, r, rest, err);
    if (strcmp(line, "stopped") == 0) return r->state = FPL_RUN_MISSING, FPL_OK;
    fail_run(x, r, FPL_SYSTEM, "its worker answered something that is not understood");
    return FPL_OK;
}

static enum fpl_code on_death(struct session *x, const struct pool_event *e, int stopping,
                              struct fpl_error *err) {
    if (e->run == SIZE_MAX) return FPL_OK;
    struct fpl_study_run *r = &x->s->run[e->run];
    r->state = FPL_RUN_MISSING;
    if (stopping) return FPL_OK;
    char text[200];
    r->deaths++;
    if (r->deaths >= MOST_DEATHS) {
        snprintf(text, sizeof text, "its worker died twice (%s)", e->why);
        fail_run(x, r, FPL_SYSTEM, text);
    } else {
        snprintf(text, sizeof text, "run %s: its worker died (%s); it is tried once more", r->id, e->why);
        note(x, text);
    }
    if (++x->deaths > 3 * x->pool.count + 7)
        return fpl_fail(err, FPL_SYSTEM, "workers keep dying without an answer (%s)", e->why);
    return FPL_OK;
}

static enum fpl_code handle_one(struct session *x, int milliseconds, int stopping, struct fpl_error *err) {
    struct pool_event e;
    enum fpl_code code = pool_wait(&x->pool, milliseconds, &e, err);
    if (code != FPL_OK) return code;
    if (e.kind == POOL_LINE) code = on_line(x, &e, err);
    if (e.kind == POOL_DEATH) code = on_death(x, &e, stopping, err);
    free(e.line);
    return code;
}

/* ---- the loop ---------------------------------------------------------------------------------------------
 */

static void show_progress(const struct session *x) {
    if (x->o->progress == NULL) return;
    double done = x->done_seconds, total = x->done_seconds + x->left_seconds;
    for (int i = 0; i < x->pool.count; i++)
        if (x->pool.worker[i].run != SIZE_MAX) {
            const struct fpl_study_run *r = &x->s->run[x->pool.worker[i].run];
            done += r->fraction * cost_seconds(&x->cost, r);
        }
    double share = total > 0 ? done / total : 1, left = budget_left(x);
    if (left < 1e200) {
        double by_time = session_elapsed(x) / (session_elapsed(x) + (left > 0 ? left : 0) + 1e-9);
        if (by_time > share) share = by_time;
    }
    char text[96];
    size_t all = x->s->runs, ended = 0;
    for (size_t i = 0; i < x->s->runs; i++) ended += x->s->run[i].state == FPL_RUN_DONE;
    for (size_t i = 0; i < x->s->stages; i++) all += x->s->stage[i].plan->planned_count;
    snprintf(text, sizeof text, "%zu of %zu runs", ended, all);
    if (x->result->failed > 0)
        snprintf(text + strlen(text), sizeof text - strlen(text), ", %zu failed", x->result->failed);
    x->o->progress(x->o->context, share < 0.999 ? share : 0.999, text);
}

/* Workers finish their step and write checkpoints; what ends meanwhile is stored. */
static enum fpl_code wind_down(struct session *x, struct fpl_error *err) {
    enum fpl_code code = FPL_OK;
    double begun = study_clock();
    pool_signal(&x->pool, SIGTERM);
    while (code == FPL_OK && study_clock() - begun < STOP_PATIENCE) {
        int alive = 0;
        for (int i = 0; i < x->pool.count; i++) alive |= x->pool.worker[i].fd >= 0;
        if (!alive) break;
        code = handle_one(x, 200, 1, err);
    }
    return code;
}

static enum fpl_code run_all(struct session *x, struct fpl_error *err) {
    enum fpl_code code = FPL_OK;
    while (code == FPL_OK && session_stop_signal(x) == 0) {
        code = resolve_ready(x, err);
        if (code == FPL_OK) code = start_runs(x, err);
        if (code != FPL_OK || pool_busy(&x->pool) == 0) break;
        code = handle_one(x, 200, 0, err);
        show_progress(x);
    }
    if (code != FPL_OK) {
        struct fpl_error other;
        wind_down(x, &other); /* the first error is the one to report */
        return code;
    }
    if (session_stop_signal(x) == 0) return FPL_OK;
    code = wind_down(x, err);
    return code != FPL_OK
               ? code
               : fpl_fail(err, FPL_STOPPED, "stopped; the same command goes on where this one ended");
}

static void count_result(struct session *x) {
    struct fpl_study_result *r = x->result;
    for (size_t i = 0; i < x->s->runs; i++) {
        r->runs++;
        r->done += x->s->run[i].state == FPL_RUN_DONE;
        r->left += x->s->run[i].state == FPL_RUN_MISSING;
    }
    for (size_t i = 0; i < x->s->stages; i++) {
        r->runs += x->s->stage[i].plan->planned_count;
        r->left += x->s->stage[i].plan->planned_count;
    }
    r->seconds = session_elapsed(x);
    if (r->left == 0) r->out_of_budget = 0;
}

static enum fpl_code run_session(struct session *x, struct fpl_error *err) {
    enum fpl_code code = x->o->dry_run ? directory_look(x, err) : directory_open(x, err);
    if (code == FPL_OK && x->store != NULL) {
        code = cost_load(&x->cost, x->store, err);
        if (code == FPL_OK) code = directory_read_spent(x, err);
        if (code == FPL_OK) mark_done(x);
    }
    if (code == FPL_OK && !x->o->dry_run) code = resolve_ready(x, err);
    if (code != FPL_OK) return code;
    struct fpl_study_plan plan;
    make_plan(x, &plan);
    if (x->o->planned != NULL) x->o->planned(x->o->context, x->s, &plan);
    if (x->o->dry_run || plan.missing == 0) return FPL_OK;
    code = pool_open(&x->pool, x->o->workers, x->o->worker, x->lock, err);
    if (code != FPL_OK) return code;
    code = run_all(x, err);
    pool_close(&x->pool);
    struct fpl_error other;
    enum fpl_code wrote = directory_write_spent(x, code == FPL_OK ? err : &other);
    return code == FPL_OK ? wrote : code;
}

enum fpl_code fpl_study_run(struct fpl_study *s, const struct fpl_study_options *options,
                            struct fpl_study_result *result, struct fpl_error *err) {
    struct session x = {.s = s, .o = options, .result = result, .lock = -1, .begun = study_clock()};
    *result = (struct fpl_study_result){0};
    x.budget = options->budget > 0 ? options->budget : s->budget;
    enum fpl_code code = run_session(&x, err);
    count_result(&x);
    fpl_store_close(x.store);
    cost_free(&x.cost);
    if (x.lock >= 0) close(x.lock);
    if (code == FPL_OK && result->failed > 0)
        return fpl_fail(err, x.first.code, "%zu of %zu runs failed; the first: %.800s", result->failed,
                        result->runs, x.first.text);
    return code;
}
