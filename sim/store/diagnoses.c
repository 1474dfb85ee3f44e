/* diagnoses.c - diagnoses of runs: a table beside `runs`, made when the first one is stored.
 *
 * One row per run that has any, JSON text with its checksum as in records.c.  They are kept out
 * of the record's own text because they may be a thousand times its size, and the table of
 * runs reads every record.  The schema's number stays: a program that does not know the table
 * leaves it alone, and a store without it has no diagnoses.
 */
#include <stdlib.h>
#include <string.h>

#include "../base/file.h"
#include "internal.h"

static const char table_text[] =
    "CREATE TABLE IF NOT EXISTS diagnoses (run TEXT PRIMARY KEY, points TEXT NOT NULL,"
    " hash TEXT NOT NULL) WITHOUT ROWID;";

static int has_table(struct fpl_store *s, int64_t *found) {
    *found = 0;
    return store_integer(s, "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'diagnoses'",
                         found);
}

int store_diagnoses(struct fpl_store *s, const char *run, const char *points) {
    sqlite3_stmt *q = NULL;
    char hash[33];
    int64_t found = 0;
    int rc = points != NULL ? store_sql(s, table_text) : has_table(s, &found);
    if (rc != SQLITE_OK || (points == NULL && !found)) return rc;
    rc = store_prepare(s, "DELETE FROM diagnoses WHERE run = ?", &q);
    if (rc == SQLITE_OK) store_bind_text(q, 1, run);
    if (rc == SQLITE_OK) rc = sqlite3_step(q);
    sqlite3_finalize(q);
    if (rc != SQLITE_DONE || points == NULL) return rc == SQLITE_DONE ? SQLITE_OK : rc;
    rc = store_prepare(s, "INSERT INTO diagnoses VALUES (?,?,?)", &q);
    if (rc == SQLITE_OK) {
        fpl_hash_text(points, strlen(points), hash);
        store_bind_text(q, 1, run);
        store_bind_text(q, 2, points);
        store_bind_text(q, 3, hash);
        rc = sqlite3_step(q);
    }
    sqlite3_finalize(q);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* The points of the row (points, hash) on which q stands. */
static enum fpl_code row_points(struct fpl_store *s, sqlite3_stmt *q, struct fpl_diagnosis_point **points,
                                int64_t *count, struct fpl_error *err) {
    const char *text = (const char *)sqlite3_column_text(q, 0),
               *hash = (const char *)sqlite3_column_text(q, 1);
    char found[33] = "";
    if (text != NULL) fpl_hash_text(text, strlen(text), found);
    if (text == NULL || hash == NULL || strcmp(found, hash) != 0)
        return fpl_fail(err, FPL_INVALID,
                        "%s: the database is damaged (diagnoses differ from their checksum)", s->path);
    const enum fpl_code code = fpl_diagnosis_from_text(text, points, count, err);
    return code == FPL_OK ? FPL_OK : fpl_fail_at(err, "%s", s->path);
}

enum fpl_code fpl_store_diagnoses(struct fpl_store *s, const char *run, struct fpl_diagnosis_point **points,
                                  int64_t *count, struct fpl_error *err) {
    sqlite3_stmt *q = NULL;
    int64_t found;
    *points = NULL;
    *count = 0;
    int rc = has_table(s, &found);
    if (rc == SQLITE_OK && !found) return FPL_OK;
    if (rc == SQLITE_OK) rc = store_prepare(s, "SELECT points, hash FROM diagnoses WHERE run = ?", &q);
    if (rc == SQLITE_OK) {
        store_bind_text(q, 1, run);
        rc = sqlite3_step(q);
    }
    const enum fpl_code code = rc == SQLITE_ROW    ? row_points(s, q, points, count, err)
                               : rc == SQLITE_DONE ? FPL_OK
                                                   : store_error(s, rc, "reading diagnoses", err);
    sqlite3_finalize(q);
    return code;
}

enum fpl_code fpl_store_diagnosed(struct fpl_store *s,
                                  enum fpl_code (*visit)(void *context, const char *run,
                                                         struct fpl_error *err),
                                  void *context, struct fpl_error *err) {
    sqlite3_stmt *q = NULL;
    int64_t found;
    enum fpl_code code = FPL_OK;
    int rc = has_table(s, &found);
    if (rc == SQLITE_OK && !found) return FPL_OK;
    if (rc == SQLITE_OK) rc = store_prepare(s, "SELECT run FROM diagnoses ORDER BY run", &q);
    while (rc == SQLITE_OK && code == FPL_OK && (rc = sqlite3_step(q)) == SQLITE_ROW) {
        code = visit(context, (const char *)sqlite3_column_text(q, 0), err);
        rc = SQLITE_OK;
    }
    sqlite3_finalize(q);
    if (code != FPL_OK || rc == SQLITE_OK || rc == SQLITE_DONE) return code;
    return store_error(s, rc, "reading diagnoses", err);
}
