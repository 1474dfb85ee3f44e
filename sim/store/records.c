/* records.c - records into the store and out of it, as JSON and as the table of runs.
 *
 * A record's JSON is stored with its checksum, because SQLite has none: a damaged text is
 * refused, never read as another number.
 */
#include "internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/recipe.h"
#include "../base/config.h"
#include "../base/file.h"

/* ---- writing ------------------------------------------------------------------------- */

/* SQLite has no NaN: NULL stands for it. */
static void bind_real(sqlite3_stmt *q, int column, double x) {
    if (isnan(x))
        sqlite3_bind_null(q, column);
    else
        sqlite3_bind_double(q, column, x);
}

/* What a record's configuration says beyond its fields. */
struct described {
    struct fpl_config config;
    struct fpl_recipe_summary summary;
    char backend[16];
    int numerics;
};

static enum fpl_code describe(const struct fpl_record *r, struct described *d, struct fpl_error *err) {
    struct fpl_recipe recipe;
    d->backend[0] = '\0';
    d->numerics = 0;
    const char *canonical = r->canonical != NULL ? r->canonical : "";
    enum fpl_code code = fpl_config_from_canonical(canonical, &d->config, d->backend, &d->numerics, err);
    if (code == FPL_OK) code = fpl_recipe_parse(d->config.recipe, &recipe, err);
    if (code != FPL_OK) return fpl_fail_at(err, "run %s", r->id);
    fpl_recipe_summarize(&recipe, &d->summary);
    return FPL_OK;
}

/* FLOP behind the measured seconds: training, and evaluations at a third of its cost a token. */
static double all_flop(const struct fpl_record *r, const struct fpl_config *c) {
    if (!(r->D > 0) || isnan(r->loss)) return r->flop;
    double evaluations = 1 + (double)r->eval_count;
    return r->flop * (1 + evaluations * (double)c->eval_tokens / (3 * r->D));
}

static void bind_record(sqlite3_stmt *q, const struct fpl_record *r, const struct described *d,
                        const char *json) {
    char seed[24], hash[33];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)d->config.seed);
    store_bind_text(q, 1, r->id);
    store_bind_text(q, 2, fpl_status_names[r->status]);
    store_bind_text(q, 3, seed); /* text: SQLite's integers have 63 bits */
    bind_real(q, 4, r->N);
    bind_real(q, 5, r->D);
    bind_real(q, 6, d->config.lr);
    bind_real(q, 7, (double)d->config.batch_tokens);
    store_bind_text(q, 8, d->config.recipe);
    sqlite3_bind_int(q, 9, d->summary.format[0] != '\0');
    sqlite3_bind_int64(q, 10, r->steps);
    bind_real(q, 11, r->loss);
    bind_real(q, 12, r->loss_se);
    store_bind_text(q, 13, d->backend);
    sqlite3_bind_int(q, 14, d->numerics);
    bind_real(q, 15, all_flop(r, &d->config));
    bind_real(q, 16, r->seconds);
    store_bind_text(q, 17, json);
    fpl_hash_text(json, strlen(json), hash);
    store_bind_text(q, 18, hash);
}

/* A record and its diagnoses, in one transaction. */
static enum fpl_code put_texts(struct fpl_store *s, const struct fpl_record *r, const struct described *d,
                               const char *json, const char *points, struct fpl_error *err) {
    static const char sql[] = "INSERT OR REPLACE INTO runs VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";
    sqlite3_stmt *q = NULL;
    int rc = store_sql(s, "BEGIN IMMEDIATE");
    if (rc == SQLITE_OK) rc = store_prepare(s, sql, &q);
    if (rc == SQLITE_OK) {
        bind_record(q, r, d, json);
        rc = sqlite3_step(q);
        if (rc == SQLITE_DONE) rc = SQLITE_OK;
    }
    sqlite3_finalize(q);
    if (rc == SQLITE_OK) rc = store_diagnoses(s, r->id, points);
    if (rc == SQLITE_OK) rc = store_sql(s, "COMMIT");
    if (rc == SQLITE_OK) return FPL_OK;
    const enum fpl_code code = store_error(s, rc, "storing a run", err);
    store_sql(s, "ROLLBACK");
    return code;
}

enum fpl_code fpl_store_put(struct fpl_store *s, const struct fpl_record *r, struct fpl_error *err) {
    struct described d;
    enum fpl_code code = describe(r, &d, err);
    if (code != FPL_OK) return code;
    struct fpl_record bare = *r; /* diagnoses have a place of their own (diagnoses.c) */
    bare.diagnosis_count = 0;
    char *json = fpl_record_to_json(&bare), *points = NULL;
    if (r->diagnosis_count > 0) points = fpl_diagnosis_to_text(r->diagnosis, r->diagnosis_count);
    if (json == NULL || (r->diagnosis_count > 0 && points == NULL))
        code = fpl_fail(err, FPL_SYSTEM, "%s: out of memory", s->path);
    else
        code = put_texts(s, r, &d, json, points, err);
    free(json);
    free(points);
    return code;
}

/* ---- reading ------------------------------------------------------------------------- */

int fpl_store_has(struct fpl_store *s, const char *id) {
    sqlite3_stmt *q = NULL;
    int found = 0;
    if (store_prepare(s, "SELECT 1 FROM runs WHERE id = ?", &q) == SQLITE_OK) {
        store_bind_text(q, 1, id);
        found = sqlite3_step(q) == SQLITE_ROW;
    }
    sqlite3_finalize(q);
    return found;
}

/* The record of the row (record, hash) on which q stands. */
static enum fpl_code row_record(struct fpl_store *s, sqlite3_stmt *q, struct fpl_record *r,
                                struct fpl_error *err) {
    const char *json = (const char *)sqlite3_column_text(q, 0),
               *hash = (const char *)sqlite3_column_text(q, 1);
    char found[33] = "";
    if (json != NULL) fpl_hash_text(json, strlen(json), found);
    if (json == NULL || hash == NULL || strcmp(found, hash) != 0)
        return fpl_fail(err, FPL_INVALID, "%s: the database is damaged (a record differs from its checksum)",
                        s->path);
    enum fpl_code code = fpl_record_from_json(json, r, err);
    return code == FPL_OK ? FPL_OK : fpl_fail_at(err, "%s: stored record", s->path);
}

enum fpl_code fpl_store_get(struct fpl_store *s, const char *id, struct fpl_record *r,
                            struct fpl_error *err) {
    sqlite3_stmt *q = NULL;
    enum fpl_code code;
    int rc = store_prepare(s, "SELECT record, hash FROM runs WHERE id = ?", &q);
    if (rc == SQLITE_OK) {
        store_bind_text(q, 1, id);
        rc = sqlite3_step(q);
    }
    if (rc == SQLITE_ROW)
        code = row_record(s, q, r, err);
    else if (rc == SQLITE_DONE)
        code = fpl_fail(err, FPL_INVALID, "%s: has no run %s", s->path, id);
    else
        code = store_error(s, rc, "reading a run", err);
    sqlite3_finalize(q);
    if (code != FPL_OK) return code;
    code = fpl_store_diagnoses(s, id, &r->diagnosis, &r->diagnosis_count, err);
    if (code != FPL_OK) fpl_record_free(r);
    return code;
}

/* A row of the table of runs. */
static enum fpl_code fill_run(const struct fpl_record *r, struct fpl_run *run, struct fpl_error *err) {
    struct described d;
    enum fpl_code code = describe(r, &d, err);
    if (code != FPL_OK) return code;
    const struct fpl_recipe_summary *p = &d.summary;
    fpl_run_blank(run);
    snprintf(run->run, sizeof run->run, "%s", r->id);
    run->seed = d.config.seed;
    run->status = r->status;
    run->N = r->N;
    run->D = r->D;
    run->lr = d.config.lr;
    run->batch_tokens = (double)d.config.batch_tokens;
    snprintf(run->recipe, sizeof run->recipe, "%s", d.config.recipe);
    snprintf(run->format, sizeof run->format, "%s", p->format);
    snprintf(run->granularity, sizeof run->granularity, "%s", p->granularity);
    run->E = p->E < 0 ? (double)NAN : p->E;
    run->M = p->M < 0 ? (double)NAN : p->M;
    run->block = p->block < 0 ? (double)NAN : p->block;
    run->steps = (double)r->steps;
    run->seq = (double)d.config.seq;
    run->loss = r->loss;
    run->loss_se = r->loss_se;
    snprintf(run->backend, sizeof run->backend, "%s", d.backend);
    snprintf(run->schedule, sizeof run->schedule, "%s", d.config.schedule);
    run->numerics = d.numerics;
    run->oracle = r->oracle;
    run->entropy_rate = r->entropy_rate;
    run->seconds = r->seconds;
    run->tokens_per_second = r->tokens_per_second;
    return FPL_OK;
}

static enum fpl_code fill_all(struct fpl_store *s, sqlite3_stmt *q, size_t room, struct fpl_runs *out,
                              struct fpl_error *err) {
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW && out->count < room) {
        struct fpl_record r = {0};
        enum fpl_code code = row_record(s, q, &r, err);
        if (code != FPL_OK) return code;
        code = fill_run(&r, &out->run[out->count], err);
        fpl_record_free(&r);
        if (code != FPL_OK) return code;
        out->count++;
    }
    return rc == SQLITE_DONE ? FPL_OK
                             : store_error(s, rc == SQLITE_ROW ? SQLITE_BUSY : rc, "reading the runs", err);
}

enum fpl_code fpl_store_runs(struct fpl_store *s, struct fpl_runs *out, struct fpl_error *err) {
    memset(out, 0, sizeof *out);
    snprintf(out->source, sizeof out->source, "%s", s->directory);
    /* A read transaction: the count and the rows are of one moment. */
    int rc = store_sql(s, "BEGIN");
    int64_t count = 0;
    sqlite3_stmt *q = NULL;
    if (rc == SQLITE_OK) rc = store_integer(s, "SELECT count(*) FROM runs", &count);
    if (rc == SQLITE_OK) rc = store_prepare(s, "SELECT record, hash FROM runs ORDER BY id", &q);
    enum fpl_code code = rc == SQLITE_OK ? FPL_OK : store_error(s, rc, "reading the runs", err);
    if (code == FPL_OK) {
        out->run = calloc((size_t)count + 1, sizeof *out->run);
        code = out->run != NULL ? fill_all(s, q, (size_t)count, out, err)
                                : fpl_fail(err, FPL_SYSTEM, "%s: out of memory", s->path);
    }
    sqlite3_finalize(q);
    store_sql(s, "ROLLBACK");
    char *csv = code == FPL_OK ? fpl_runs_to_csv(out, 0) : NULL;
    if (csv != NULL)
        fpl_hash_text(csv, strlen(csv), out->hash);
    else if (code == FPL_OK)
        code = fpl_fail(err, FPL_SYSTEM, "%s: out of memory", s->path);
    free(csv);
    if (code != FPL_OK) fpl_runs_free(out);
    return code;
}

enum fpl_code fpl_store_speeds(struct fpl_store *s, struct fpl_store_speed **out, size_t *count,
                               struct fpl_error *err) {
    *out = NULL;
    *count = 0;
    sqlite3_stmt *q = NULL;
    size_t room = 0;
    int rc = store_prepare(
        s, "SELECT N, flop, seconds, quantized FROM runs WHERE flop > 0 AND seconds > 0 ORDER BY id", &q);
    if (rc == SQLITE_OK)
        while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
            if (*count == room) {
                room = room == 0 ? 64 : 2 * room;
                struct fpl_store_speed *larger = realloc(*out, room * sizeof *larger);
                if (larger == NULL) {
                    rc = SQLITE_NOMEM;
                    break;
                }
                *out = larger;
            }
            (*out)[(*count)++] =
                (struct fpl_store_speed){sqlite3_column_double(q, 0), sqlite3_column_double(q, 1),
                                         sqlite3_column_double(q, 2), sqlite3_column_int(q, 3)};
        }
    sqlite3_finalize(q);
    if (rc == SQLITE_DONE) return FPL_OK;
    free(*out);
    *out = NULL;
    *count = 0;
    return store_error(s, rc, "reading the runs", err);
}
