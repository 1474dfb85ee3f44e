/* answers.c - what workers say: records are stored, failures are told or tried again.
 *
 * A job's runs end one by one, each with its record; the job ends with the worker's last line or
 * with the worker.  Runs that are left over then were not trained: if others were beside them, the
 * pack is split in two and both halves are tried again, so that in the end the run that is to blame
 * answers for itself alone; alone it is tried once more after a death, or fails.
 */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../base/number.h"

#define MOST_DEATHS 2 /* workers that may die on one run alone */

/* ---- the fate of runs ---------------------------------------------------------------------------- */

static void fail_run(struct session *x, struct fpl_study_run *r, enum fpl_code code, const char *why) {
    r->state = FPL_RUN_FAILED;
    if (x->result->failed++ == 0)
        fpl_fail(&x->first, code, "%s:%d: run %s failed: %s", x->s->file, r->line, r->id, why);
    char text[700];
    snprintf(text, sizeof text, "run %s failed: %.600s", r->id, why);
    session_note(x, text);
    session_estimate(x);
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
    session_estimate(x);
    return code;
}

static size_t left_over(const struct session *x, const struct job *job) {
    size_t n = 0;
    for (size_t i = 0; i < job->count; i++) n += x->s->run[job->run[i]].state == FPL_RUN_RUNNING;
    return n;
}

/* Back to what is missing; in smaller packs if `most` is not 0. */
static void give_back(struct session *x, const struct job *job, size_t most) {
    for (size_t i = 0; i < job->count; i++) {
        struct fpl_study_run *r = &x->s->run[job->run[i]];
        if (r->state != FPL_RUN_RUNNING) continue;
        r->state = FPL_RUN_MISSING;
        if (most > 0) r->most = most;
        r->pack = 0;
        session_look_at(x, r);
    }
}

/* The only run of a job that is left over, NULL if there are others. */
static struct fpl_study_run *only_run(struct session *x, const struct job *job) {
    return job->count == 1 ? &x->s->run[job->run[0]] : NULL;
}

/* ---- the end of a job ---------------------------------------------------------------------------- */

static void end_job(struct session *x, int worker) {
    struct job *job = &x->job[worker];
    free(job->run);
    *job = (struct job){.count = 0};
    x->pool.worker[worker].busy = 0;
    x->deaths = 0;
}

/* Runs that a worker could not train: of one run it is known why, of a pack not which is to blame. */
static void refuse(struct session *x, const struct job *job, enum fpl_code code, const char *why) {
    struct fpl_study_run *r = only_run(x, job);
    const size_t n = left_over(x, job);
    if (job->measures) {
        packs_unmeasured(x, job, 1);
        give_back(x, job, 0);
    } else if (n > 0 && r != NULL) {
        fail_run(x, r, code == FPL_MEMORY ? FPL_SYSTEM : code, why);
    } else if (n > 0) {
        char text[700];
        if (code == FPL_MEMORY) packs_too_large(x, x->s->run[job->run[0]].shape, job->count);
        snprintf(text, sizeof text,
                 "a pack of %zu runs failed: %.500s; they are tried again in smaller packs", job->count, why);
        session_note(x, text);
        give_back(x, job, (job->count + 1) / 2);
    }
}

/* "error CODE text": of the environment it ends the call, of the runs' own input only them. */
static enum fpl_code on_error(struct session *x, struct job *job, const char *text, struct fpl_error *err) {
    char *rest = NULL;
    long code = strtol(text, &rest, 10);
    while (*rest == ' ') rest++;
    if (code == FPL_SYSTEM) {
        const char *id = x->s->run[job->run[0]].id;
        give_back(x, job, 0);
        return job->count == 1
                   ? fpl_fail(err, FPL_SYSTEM, "run %s: %s", id, rest)
                   : fpl_fail(err, FPL_SYSTEM, "run %s and %zu beside it: %s", id, job->count - 1, rest);
    }
    refuse(x, job, code == FPL_MEMORY ? FPL_MEMORY : FPL_INVALID, rest);
    return FPL_OK;
}

static void on_done(struct session *x, struct job *job) {
    if (job->measures) fpl_fail(&job->why, FPL_SYSTEM, "its worker did not answer what was asked");
    if (job->why.code == FPL_OK) fpl_fail(&job->why, FPL_SYSTEM, "its worker ended without a record of it");
    refuse(x, job, job->why.code, job->why.text);
}

static enum fpl_code on_death(struct session *x, const struct pool_event *e, int stopping,
                              struct fpl_error *err) {
    struct job *job = &x->job[e->worker];
    struct fpl_study_run *r = only_run(x, job);
    char text[200] = "";
    if (stopping) {
        give_back(x, job, 0);
    } else if (job->measures) {
        packs_unmeasured(x, job, 0);
        snprintf(text, sizeof text, "a worker died measuring packs (%s)", e->why);
        give_back(x, job, 0);
    } else if (r == NULL) {
        snprintf(text, sizeof text,
                 "a pack of %zu runs: its worker died (%s); they are tried again in smaller packs",
                 job->count, e->why);
        give_back(x, job, (job->count + 1) / 2);
    } else if (r->state == FPL_RUN_RUNNING && ++r->deaths >= MOST_DEATHS) {
        snprintf(text, sizeof text, "its worker died twice (%s)", e->why);
        fail_run(x, r, FPL_SYSTEM, text);
        text[0] = '\0';
    } else {
        snprintf(text, sizeof text, "run %s: its worker died (%s); it is tried once more", r->id, e->why);
        give_back(x, job, 0);
    }
    if (text[0] != '\0') session_note(x, text);
    const int deaths = x->deaths + !stopping;
    end_job(x, e->worker);
    x->deaths = deaths;
    /* A pack with a bad run dies once for each halving. */
    if (x->deaths > 3 * x->pool.count + 24)
        return fpl_fail(err, FPL_SYSTEM, "workers keep dying without an answer (%s)", e->why);
    return FPL_OK;
}

/* ---- lines ------------------------------------------------------------------------------------------ */

static struct fpl_study_run *run_of(struct session *x, const struct job *job, const char *id) {
    for (size_t i = 0; i < job->count; i++) {
        struct fpl_study_run *r = &x->s->run[job->run[i]];
        if (r->state == FPL_RUN_RUNNING && strcmp(r->id, id) == 0) return r;
    }
    return NULL;
}

static enum fpl_code on_record(struct session *x, struct job *job, const char *json, struct fpl_error *err) {
    struct fpl_record record;
    memset(&record, 0, sizeof record);
    if (fpl_record_from_json(json, &record, &job->why) != FPL_OK) {
        job->why.code = FPL_SYSTEM;
        return FPL_OK;
    }
    enum fpl_code code = FPL_OK;
    struct fpl_study_run *r = run_of(x, job, record.id);
    x->deaths = 0;
    if (r == NULL)
        fpl_fail(
            &job->why, FPL_INVALID,
            "its worker answered for run %s (has the data or the program changed since this call began?)",
            record.id);
    else if (record.status != FPL_RUN_STOPPED)
        code = store_record(x, r, &record, err);
    fpl_record_free(&record);
    return code;
}

static void on_progress(struct session *x, const struct job *job, const char *text) {
    double fraction;
    if (job->measures || fpl_number_parse(text, &fraction, NULL) != FPL_OK) return;
    for (size_t i = 0; i < job->count; i++) x->s->run[job->run[i]].fraction = fraction;
}

/* The line that ends a job. */
static enum fpl_code on_end(struct session *x, int worker, const char *word, const char *rest,
                            struct fpl_error *err) {
    struct job *job = &x->job[worker];
    enum fpl_code code = FPL_OK;
    if (strcmp(word, "done") == 0) {
        on_done(x, job);
    } else if (strcmp(word, "error") == 0) {
        code = on_error(x, job, rest, err);
    } else if (strcmp(word, "pack") == 0 && job->measures && packs_measured(x, job, rest)) {
        give_back(x, job, 0);
    } else if (strcmp(word, "stopped") == 0) {
        if (job->measures) packs_unmeasured(x, job, 0);
        give_back(x, job, 0);
    } else {
        refuse(x, job, FPL_SYSTEM, "its worker answered something that is not understood");
    }
    end_job(x, worker);
    return code;
}

static enum fpl_code on_line(struct session *x, struct pool_event *e, struct fpl_error *err) {
    if (!e->was_busy) return FPL_OK;
    struct job *job = &x->job[e->worker];
    char *space = strchr(e->line, ' ');
    if (space != NULL) *space = '\0';
    const char *word = e->line, *rest = space != NULL ? space + 1 : "";
    if (strcmp(word, "progress") == 0) return on_progress(x, job, rest), FPL_OK;
    if (strcmp(word, "note") == 0) return session_note(x, rest), FPL_OK;
    if (strcmp(word, "record") == 0) return on_record(x, job, rest, err);
    return on_end(x, e->worker, word, rest, err);
}

enum fpl_code answers_handle(struct session *x, int milliseconds, int stopping, struct fpl_error *err) {
    struct pool_event e;
    enum fpl_code code = pool_wait(&x->pool, milliseconds, &e, err);
    if (code != FPL_OK) return code;
    if (e.kind == POOL_LINE) code = on_line(x, &e, err);
    if (e.kind == POOL_DEATH && e.was_busy) code = on_death(x, &e, stopping, err);
    free(e.line);
    return code;
}
