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

#define STOP_PATIENCE 600.0 /* seconds in which stopped workers may write checkpoints */

int session_stop_signal(const struct session *x) { return x->o->stop != NULL ? (int)*x->o->stop : 0; }

void session_note(const struct session *x, const char *text) {
    if (x->o->note != NULL) x->o->note(x->o->context, text);
}

double session_elapsed(const struct session *x) { return study_clock() - x->begun; }

double session_budget_left(const struct session *x) {
    return x->budget > 0 ? x->budget - x->spent - session_elapsed(x) : 1e300;
}

/* ---- stages --------------------------------------------------------------------------------------- */

void session_look_at(const struct session *x, struct fpl_study_run *r) {
    char path[4200];
    directory_checkpoint(x, r->id, path, sizeof path);
    r->step = fpl_checkpoint_step(path);
}

static void mark_done(struct session *x) {
    for (size_t i = 0; i < x->s->runs; i++) {
        struct fpl_study_run *r = &x->s->run[i];
        if (r->state == FPL_RUN_MISSING && fpl_store_has(x->store, r->id)) r->state = FPL_RUN_DONE;
        if (r->state == FPL_RUN_MISSING && !x->o->dry_run) session_look_at(x, r);
    }
}

static int stage_complete(const struct fpl_study *s, size_t stage) {
    const struct fpl_study_stage *g = &s->stage[stage];
    for (size_t i = 0; i < g->runs && g->resolved; i++)
        if (s->run[g->run[i]].state != FPL_RUN_DONE) return 0;
    return g->resolved;
}

int session_stage_may_start(const struct fpl_study *s, size_t stage) {
    for (size_t i = 0; i < stage; i++)
        if (s->stage[stage].plan->after[i] && !stage_complete(s, i)) return 0;
    return 1;
}

/* Sum of the estimates of what is missing, waiting stages included. */
void session_estimate(struct session *x) {
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
        if (x->s->stage[i].resolved || !session_stage_may_start(x->s, i)) continue;
        enum fpl_code code = study_resolve_fitted(x->s, i, x->store, x->o, err);
        if (code != FPL_OK) return code;
        mark_done(x);
        session_estimate(x);
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
    session_estimate(x);
    plan->seconds = x->left_seconds;
    plan->rate = plan->seconds > 0 ? plan->flop / plan->seconds : x->cost.assumed;
}

/* ---- starting runs ---------------------------------------------------------------------------------- */

static enum fpl_code start_runs(struct session *x, struct fpl_error *err) {
    for (int worker; (worker = pool_idle(&x->pool)) >= 0;) {
        struct job *job = &x->job[worker];
        struct fpl_error why = {FPL_OK, ""};
        if (!packs_pick(x, job, &why)) {
            if (why.code != FPL_OK) *err = why;
            return why.code;
        }
        char *line = packs_request(x, worker, job);
        if (line == NULL)
            return fpl_fail(err, FPL_SYSTEM,
                            "%s: a request cannot be written (out of memory, or a name is not UTF-8)",
                            x->s->file);
        enum fpl_code code = pool_send(&x->pool, worker, line, err);
        free(line);
        if (code != FPL_OK) return code;
    }
    return FPL_OK;
}

/* ---- the loop ---------------------------------------------------------------------------------------------
 */

static void show_progress(const struct session *x) {
    if (x->o->progress == NULL) return;
    double done = x->done_seconds, total = x->done_seconds + x->left_seconds;
    for (size_t i = 0; i < x->s->runs; i++) {
        const struct fpl_study_run *r = &x->s->run[i];
        if (r->state == FPL_RUN_RUNNING) done += r->fraction * cost_seconds(&x->cost, r);
    }
    double share = total > 0 ? done / total : 1, left = session_budget_left(x);
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
        code = answers_handle(x, 200, 1, err);
    }
    return code;
}

static enum fpl_code run_all(struct session *x, struct fpl_error *err) {
    enum fpl_code code = FPL_OK;
    while (code == FPL_OK && session_stop_signal(x) == 0) {
        code = resolve_ready(x, err);
        if (code == FPL_OK) code = start_runs(x, err);
        if (code != FPL_OK || pool_busy(&x->pool) == 0) break;
        code = answers_handle(x, 200, 0, err);
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
    x->job = calloc((size_t)x->o->workers, sizeof *x->job);
    if (x->job == NULL) return fpl_fail(err, FPL_SYSTEM, "%s: out of memory", x->s->file);
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
    x.cost.assumed = options->measure ? STUDY_RATE_PACKED : STUDY_RATE_ALONE;
    enum fpl_code code = run_session(&x, err);
    count_result(&x);
    fpl_store_close(x.store);
    cost_free(&x.cost);
    packs_free(&x);
    if (x.lock >= 0) close(x.lock);
    if (code == FPL_OK && result->failed > 0)
        return fpl_fail(err, x.first.code, "%zu of %zu runs failed; the first: %.800s", result->failed,
                        result->runs, x.first.text);
    return code;
}
