/* packs.c - which missing runs train side by side, and the requests that say so (study.h).
 *
 * Everything here follows from what is missing, the order of runs and the sizes of packs; the
 * workers' timing decides only which worker takes which pack.  Runs of a pack agree in shape, in
 * the step of their checkpoints and in the limit that a failed pack has put on them.
 */
#include "internal.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "../base/codebooks.h"
#include "../base/file.h"
#include "../base/number.h"

#define MOST_MEASURED 1024 /* runs offered to a measurement */
#define MOST_DEATHS 2      /* workers that may die on a measurement */

/* ---- sizes ------------------------------------------------------------------------------------ */

static void parse_speed(const char *text, struct fpl_pack_speed *s) {
    const int room = (int)(sizeof s->replicas / sizeof s->replicas[0]);
    int used = 0, replicas, n;
    double seconds;
    memset(s, 0, sizeof *s);
    if (sscanf(text, "%d%n", &s->best, &used) != 1) return;
    for (text += used; s->tried < room && sscanf(text, " %d:%lf%n", &replicas, &seconds, &n) == 2; text += n)
        if (replicas >= 1 && seconds > 0) {
            s->replicas[s->tried] = replicas;
            s->seconds[s->tried++] = seconds;
        }
}

/* The size of a shape, from the database if an earlier call has measured it; NULL: out of memory. */
static struct pack_size *find_size(struct session *x, const char *shape) {
    for (size_t i = 0; i < x->sizes; i++)
        if (strcmp(x->size[i].shape, shape) == 0) return &x->size[i];
    struct pack_size *larger = realloc(x->size, (x->sizes + 1) * sizeof *larger);
    if (larger == NULL) return NULL;
    x->size = larger;
    struct pack_size *s = &x->size[x->sizes++];
    char key[32], *text = NULL;
    memset(s, 0, sizeof *s);
    snprintf(s->shape, sizeof s->shape, "%s", shape);
    snprintf(key, sizeof key, "pack %s", shape);
    if (fpl_store_get_text(x->store, key, &text, NULL) == FPL_OK && text != NULL) {
        char *of = strstr(text, " of ");
        parse_speed(text, &s->speed);
        if (of != NULL) s->limit = atoi(of + 4);
        s->known = s->speed.best >= 1;
    }
    free(text);
    return s;
}

static enum fpl_code keep_size(struct session *x, const struct pack_size *s, struct fpl_error *err) {
    char key[32];
    struct fpl_text t = {0};
    snprintf(key, sizeof key, "pack %s", s->shape);
    fpl_text_add(&t, "%d", s->speed.best);
    for (int i = 0; i < s->speed.tried; i++)
        fpl_text_add(&t, " %d:%.6g", s->speed.replicas[i], s->speed.seconds[i]);
    fpl_text_add(&t, " of %d", s->limit);
    const enum fpl_code code = t.failed ? fpl_fail(err, FPL_SYSTEM, "%s: out of memory", x->s->file)
                                        : fpl_store_set_text(x->store, key, t.text, err);
    fpl_text_free(&t);
    return code;
}

int packs_measured(struct session *x, const struct job *job, const char *text) {
    struct pack_size *s = find_size(x, x->s->run[job->run[0]].shape);
    if (s == NULL) return 0;
    parse_speed(text, &s->speed);
    s->measuring = 0;
    s->known = s->speed.best >= 1 && (size_t)s->speed.best <= job->count;
    s->limit = (int)job->count;
    if (!s->known || keep_size(x, s, NULL) != FPL_OK) return 0;
    struct fpl_text t = {0};
    const double N = fpl_config_params(&x->s->run[job->run[0]].config);
    fpl_text_add(&t, "N = %.3g: %d of %zu runs of this shape train side by side", N, s->speed.best,
                 job->count);
    for (int i = 0; i < s->speed.tried; i++)
        fpl_text_add(&t, "%s%d: %.3g s a step", i == 0 ? " (" : ", ", s->speed.replicas[i],
                     s->speed.seconds[i]);
    fpl_text_add(&t, "%s", s->speed.tried > 0 ? ")" : "");
    if (!t.failed) session_note(x, t.text);
    fpl_text_free(&t);
    return 1;
}

void packs_unmeasured(struct session *x, const struct job *job, int final) {
    struct pack_size *s = find_size(x, x->s->run[job->run[0]].shape);
    if (s == NULL) return;
    s->measuring = 0;
    if (!final && ++s->deaths < MOST_DEATHS) return;
    s->known = 1; /* for this call: one by one, where each run answers for itself */
    s->speed = (struct fpl_pack_speed){.best = 1};
    s->limit = INT_MAX;
}

void packs_too_large(struct session *x, const char *shape, size_t count) {
    struct pack_size *s = x->o->measure ? find_size(x, shape) : NULL;
    if (s == NULL || !s->known || (size_t)s->speed.best < count) return;
    s->speed.best = (int)(count / 2);
    s->limit = INT_MAX;
    (void)keep_size(x, s, NULL); /* else it is found out again */
}

void packs_free(struct session *x) {
    for (int i = 0; x->job != NULL && i < x->o->workers; i++) free(x->job[i].run);
    free(x->job);
    free(x->size);
    x->job = NULL;
    x->size = NULL;
}

/* ---- forming ------------------------------------------------------------------------------------ */

static int same_pack(const struct fpl_study_run *a, const struct fpl_study_run *b) {
    return strcmp(a->shape, b->shape) == 0 && a->step == b->step && a->most == b->most;
}

static int in_pack(const struct fpl_study_run *r, const struct fpl_study_run *first) {
    return r->state == FPL_RUN_MISSING && r->pack == first->pack && same_pack(r, first);
}

/* Calls visit for the missing runs of the pack of `first` (or that could form packs with it, while
 * it is in none), in the order of their start, until it returns 0. */
static void walk(const struct session *x, const struct fpl_study_run *first,
                 int (*visit)(void *context, size_t run), void *context) {
    for (size_t i = 0; i < x->s->stages; i++) {
        const struct fpl_study_stage *g = &x->s->stage[i];
        if (!g->resolved || !session_stage_may_start(x->s, i)) continue;
        for (size_t k = 0; k < g->runs; k++)
            if (in_pack(&x->s->run[g->run[k]], first) && !visit(context, g->run[k])) return;
    }
}

static int count_run(void *context, size_t run) {
    (void)run;
    ++*(size_t *)context;
    return 1;
}

static size_t count_pack(const struct session *x, const struct fpl_study_run *first) {
    size_t n = 0;
    walk(x, first, count_run, &n);
    return n;
}

struct dealing {
    struct fpl_study *s;
    size_t size, in_last;
};

static int deal_run(void *context, size_t run) {
    struct dealing *d = context;
    if (d->in_last == 0) d->s->packs++;
    d->s->run[run].pack = d->s->packs;
    d->in_last = (d->in_last + 1) % d->size;
    return 1;
}

/* Deals the runs that could train with `first`, n of them, out to packs of even sizes. */
static void deal(struct session *x, const struct fpl_study_run *first, size_t n, size_t limit) {
    const size_t workers = (size_t)x->o->workers;
    const struct fpl_study_run model = *first; /* whose `pack` is changed on the way */
    size_t packs = (n + limit - 1) / limit;
    if (packs < workers) packs = n < workers ? n : workers;
    struct dealing d = {.s = x->s, .size = (n + packs - 1) / packs};
    walk(x, &model, deal_run, &d);
}

struct taking {
    struct fpl_study *s;
    struct job *job;
    size_t room;
};

/* A run may be in two stages, but not twice in a job. */
static int take_run(void *context, size_t run) {
    struct taking *t = context;
    t->s->run[run].state = FPL_RUN_RUNNING;
    t->s->run[run].fraction = 0;
    t->job->run[t->job->count++] = run;
    return t->job->count < t->room;
}

static int take(struct session *x, const struct fpl_study_run *first, size_t count, struct job *job,
                struct fpl_error *err) {
    const struct fpl_study_run model = *first;
    struct taking t = {.s = x->s, .job = job, .room = count};
    job->count = 0;
    job->run = calloc(count, sizeof *job->run);
    if (job->run == NULL) return fpl_fail(err, FPL_SYSTEM, "%s: out of memory", x->s->file), 0;
    if (count == 1)
        take_run(&t, (size_t)(first - x->s->run));
    else
        walk(x, &model, take_run, &t);
    return 1;
}

/* Seconds that `count` runs like this one take side by side: by the measured steps, else as if they ran
 * one after the other. */
static double pack_seconds(struct session *x, const struct fpl_study_run *r, size_t count) {
    const struct pack_size *s = x->o->measure ? find_size(x, r->shape) : NULL;
    const struct fpl_config *c = &r->config;
    const double steps = (double)fpl_config_steps(c), D = steps * (double)c->batch_tokens;
    const double evaluations = 1 + (c->eval_every > 0 ? steps / (double)c->eval_every : 0);
    for (int i = 0; s != NULL && i < s->speed.tried; i++)
        if ((size_t)s->speed.replicas[i] >= count)
            return steps * s->speed.seconds[i] * (1 + evaluations * (double)c->eval_tokens / (3 * D));
    return (double)count * cost_seconds(&x->cost, r);
}

/* Whether the size of a pack with this run is still to be measured.  What a measurement found by all
 * the runs that it was offered may be too small for many more. */
static int wants_measuring(const struct pack_size *s, size_t candidates) {
    if (candidates < 2) return 0;
    return !s->known || (s->speed.best == s->limit && candidates > 2 * (size_t)s->limit);
}

/* The most runs side by side for a run that is in no pack yet, one of n; 0: a measurement is under way.
 * *job is filled in where it is to be measured now. */
static size_t size_limit(struct session *x, struct fpl_study_run *r, size_t n, struct job *job,
                         struct fpl_error *err) {
    size_t limit = x->o->pack > 0 ? (size_t)x->o->pack : MOST_MEASURED;
    if (x->o->measure && n > 1 && limit > 1) {
        struct pack_size *s = find_size(x, r->shape);
        if (s == NULL || s->measuring) return 0;
        if (wants_measuring(s, n < limit ? n : limit)) {
            s->measuring = take(x, r, n < limit ? n : limit, job, err);
            job->measures = 1;
            return 0;
        }
        if (s->known && (size_t)s->speed.best < limit) limit = (size_t)s->speed.best;
    }
    return r->most > 0 && r->most < limit ? r->most : limit;
}

/* 1: this run is in the job now; 0: not now. */
static int form(struct session *x, struct fpl_study_run *r, struct job *job, struct fpl_error *err) {
    const double left = session_budget_left(x);
    const int packs = x->o->measure || x->o->pack > 1;
    size_t size = 1;
    if (left > 0 && packs && r->pack == 0) {
        const size_t n = count_pack(x, r), limit = size_limit(x, r, n, job, err);
        if (limit == 0) return job->count > 0;
        deal(x, r, n, limit);
    }
    if (left > 0 && packs) size = count_pack(x, r);
    while (size > 1 && left < 1e200 && pack_seconds(x, r, size) > left) size /= 2;
    if (left <= 0 || (left < 1e200 && pack_seconds(x, r, size) > left)) {
        x->result->out_of_budget = 1;
        return 0;
    }
    return take(x, r, size, job, err);
}

int packs_pick(struct session *x, struct job *job, struct fpl_error *err) {
    *job = (struct job){.count = 0};
    for (size_t i = 0; i < x->s->stages; i++) {
        const struct fpl_study_stage *g = &x->s->stage[i];
        if (!g->resolved || !session_stage_may_start(x->s, i)) continue;
        for (size_t k = 0; k < g->runs; k++) {
            struct fpl_study_run *r = &x->s->run[g->run[k]];
            if (r->state == FPL_RUN_MISSING && form(x, r, job, err)) return 1;
        }
    }
    return 0;
}

/* ---- asking --------------------------------------------------------------------------------------- */

static json_t *run_json(const struct session *x, const struct fpl_study_run *r) {
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
    json_decref(options);
    if (!failed) return root;
    json_decref(root);
    return NULL;
}

char *packs_request(const struct session *x, int worker, const struct job *job) {
    json_t *runs = json_array(), *codebooks = json_object(), *root = NULL;
    const int devices = x->o->devices > 0 ? x->o->devices : 1;
    int failed = runs == NULL || codebooks == NULL;
    for (size_t i = 0; i < job->count && !failed; i++) {
        const struct fpl_study_run *r = &x->s->run[job->run[i]];
        json_t *known = fpl_codebooks_to_json(r->config.recipe);
        failed |= known == NULL || json_object_update(codebooks, known) != 0;
        failed |= json_array_append_new(runs, run_json(x, r));
        json_decref(known);
    }
    if (!failed)
        root = json_pack("{s:O, s:O, s:i, s:i, s:b}", "runs", runs, "codebooks", codebooks, "device",
                         x->o->device + worker % devices, "threads", x->o->threads, "measure", job->measures);
    char *json = root != NULL ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(runs);
    json_decref(codebooks);
    json_decref(root);
    struct fpl_text t = {0};
    if (json != NULL) fpl_text_add(&t, "%s\n", json);
    free(json);
    if (t.failed) fpl_text_free(&t);
    return t.text;
}
