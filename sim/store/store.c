/* store.c - see store.h.
 *
 * Two tables, and a third where runs were diagnosed (diagnoses.c).  `runs` has one row per record: the record
 * itself as JSON (record.h) and, for people with an SQLite shell and for quick questions, its scalars as
 * columns; everything that the program reads back as a result comes from the JSON.  `texts` holds small named
 * texts.  The application id marks the file as ours, user_version is the schema's number.
 *
 * The rollback journal is chosen over the write-ahead log: it also works on network disks
 * and leaves one file to copy; one commit per finished run makes its cost irrelevant.
 * A database is checked whole when it is opened, so damage is found before work is done.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../base/file.h"

#define APPLICATION_ID 0x66706c77 /* "fplw" */
#define SCHEMA 1

static const char schema_text[] =
    "CREATE TABLE runs (id TEXT PRIMARY KEY, status TEXT NOT NULL, seed TEXT, N REAL, D REAL, lr REAL,"
    " batch_tokens REAL, recipe TEXT, quantized INTEGER, steps INTEGER, loss REAL, loss_se REAL,"
    " backend TEXT, numerics INTEGER, flop REAL, seconds REAL, record TEXT NOT NULL,"
    " hash TEXT NOT NULL);"
    "CREATE TABLE texts (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;";

/* ---- errors --------------------------------------------------------------------------------- */

enum fpl_code store_error(struct fpl_store *s, int rc, const char *doing, struct fpl_error *err) {
    const char *why = sqlite3_errstr(rc);
    switch (rc & 0xff) {
    case SQLITE_NOTADB:
        return fpl_fail(err, FPL_INVALID,
                        "%s: is no study's database (the file is damaged or of another kind)", s->path);
    case SQLITE_CORRUPT:
        return fpl_fail(err, FPL_INVALID, "%s: the database is damaged (found while %s)", s->path, doing);
    case SQLITE_ERROR:
    case SQLITE_MISMATCH:
    case SQLITE_SCHEMA:
        return fpl_fail(err, FPL_INVALID, "%s: %s failed: %s", s->path, doing,
                        s->db != NULL ? sqlite3_errmsg(s->db) : why);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return fpl_fail(err, FPL_SYSTEM, "%s: %s failed: another process keeps the database locked", s->path,
                        doing);
    case SQLITE_FULL:
        return fpl_fail(err, FPL_SYSTEM, "%s: %s failed: the disk is full; what was stored before is kept",
                        s->path, doing);
    default:
        return fpl_fail(err, FPL_SYSTEM, "%s: %s failed: %s", s->path, doing, why);
    }
}

int store_prepare(struct fpl_store *s, const char *sql, sqlite3_stmt **q) {
    return sqlite3_prepare_v2(s->db, sql, -1, q, NULL);
}

int store_sql(struct fpl_store *s, const char *sql) { return sqlite3_exec(s->db, sql, NULL, NULL, NULL); }

int store_integer(struct fpl_store *s, const char *sql, int64_t *out) {
    sqlite3_stmt *q = NULL;
    int rc = store_prepare(s, sql, &q);
    if (rc == SQLITE_OK) rc = sqlite3_step(q);
    if (rc == SQLITE_ROW) {
        *out = sqlite3_column_int64(q, 0);
        rc = SQLITE_OK;
    }
    sqlite3_finalize(q);
    return rc;
}

void store_bind_text(sqlite3_stmt *q, int column, const char *text) {
    sqlite3_bind_text(q, column, text, -1, SQLITE_TRANSIENT);
}

enum fpl_code store_commit(struct fpl_store *s, sqlite3_stmt *q, const char *doing, struct fpl_error *err) {
    int rc = store_sql(s, "BEGIN IMMEDIATE");
    if (rc == SQLITE_OK) rc = sqlite3_step(q);
    if (rc == SQLITE_DONE) rc = store_sql(s, "COMMIT");
    if (rc == SQLITE_OK) return FPL_OK;
    enum fpl_code code = store_error(s, rc, doing, err);
    store_sql(s, "ROLLBACK");
    return code;
}

/* ---- opening -------------------------------------------------------------------------------- */

static enum fpl_code make_schema(struct fpl_store *s, struct fpl_error *err) {
    char marks[96];
    snprintf(marks, sizeof marks, "PRAGMA application_id=%d; PRAGMA user_version=%d;", APPLICATION_ID,
             SCHEMA);
    int rc = store_sql(s, "BEGIN IMMEDIATE");
    if (rc == SQLITE_OK) rc = store_sql(s, schema_text);
    if (rc == SQLITE_OK) rc = store_sql(s, marks);
    if (rc == SQLITE_OK) rc = store_sql(s, "COMMIT");
    if (rc == SQLITE_OK) return FPL_OK;
    enum fpl_code code = store_error(s, rc, "creating the database", err);
    store_sql(s, "ROLLBACK");
    return code;
}

/* SQLite reads what is missing of the last page as zeros. */
static int cut_short(struct fpl_store *s) {
    int64_t pages = 0, page = 0;
    struct stat st;
    return store_integer(s, "PRAGMA page_count", &pages) == SQLITE_OK &&
           store_integer(s, "PRAGMA page_size", &page) == SQLITE_OK && stat(s->path, &st) == 0 &&
           st.st_size < pages * page;
}

/* Ours, of a schema that is understood, undamaged. *empty: a new file without tables. */
static enum fpl_code check_database(struct fpl_store *s, int *empty, struct fpl_error *err) {
    int64_t application = 0, version = 0, tables = 0;
    int rc = store_integer(s, "SELECT count(*) FROM sqlite_master", &tables);
    if (rc == SQLITE_OK) rc = store_integer(s, "PRAGMA application_id", &application);
    if (rc == SQLITE_OK) rc = store_integer(s, "PRAGMA user_version", &version);
    if (rc != SQLITE_OK) return store_error(s, rc, "opening the database", err);
    *empty = tables == 0 && application == 0 && version == 0;
    if (*empty) return FPL_OK;
    if (application != APPLICATION_ID)
        return fpl_fail(err, FPL_INVALID, "%s: is another program's database, not a study's", s->path);
    if (version != SCHEMA)
        return fpl_fail(err, FPL_INVALID, "%s: has schema %lld, this program reads schema %d", s->path,
                        (long long)version, SCHEMA);
    if (cut_short(s))
        return store_error(s, SQLITE_CORRUPT, "opening the database: the file is cut short", err);
    sqlite3_stmt *q = NULL;
    rc = store_prepare(s, "PRAGMA quick_check(1)", &q);
    if (rc == SQLITE_OK) rc = sqlite3_step(q);
    const char *answer = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(q, 0) : NULL;
    if (rc == SQLITE_ROW) rc = answer != NULL && strcmp(answer, "ok") == 0 ? SQLITE_OK : SQLITE_CORRUPT;
    sqlite3_finalize(q);
    return rc == SQLITE_OK ? FPL_OK : store_error(s, rc, "checking the database", err);
}

static int has_journal(const struct fpl_store *s) {
    struct stat st;
    char *path = sqlite3_mprintf("%s-journal", s->path);
    int found = path != NULL && stat(path, &st) == 0;
    sqlite3_free(path);
    return found;
}

static enum fpl_code open_database(struct fpl_store *s, int create, struct fpl_error *err) {
    struct stat st;
    int exists = stat(s->path, &st) == 0;
    if (!exists && (errno == EACCES || errno == EIO))
        return fpl_fail(err, FPL_SYSTEM, "%s: cannot be opened: %s", s->path, strerror(errno));
    if (!exists && !create)
        return fpl_fail(err, FPL_INVALID, "%s: holds no study (there is no study.db in it)", s->directory);
    if (exists && !S_ISREG(st.st_mode)) return fpl_fail(err, FPL_INVALID, "%s: is no regular file", s->path);
    if (exists && st.st_size == 0 && !create)
        return fpl_fail(err, FPL_INVALID, "%s: is empty, no study's database", s->path);
    /* SQLite takes a stump without a journal for a new database; it is the rest of a damaged one. */
    if (exists && st.st_size > 0 && st.st_size < 512 && !has_journal(s))
        return store_error(s, SQLITE_NOTADB, "opening the database", err);
    int flags = SQLITE_OPEN_READWRITE | (create ? SQLITE_OPEN_CREATE : 0);
    int rc = sqlite3_open_v2(s->path, &s->db, flags, NULL);
    if (rc != SQLITE_OK) return store_error(s, rc, "opening the database", err);
    sqlite3_extended_result_codes(s->db, 1);
    sqlite3_busy_timeout(s->db, 30000);
    int empty = 0;
    enum fpl_code code = check_database(s, &empty, err);
    if (code != FPL_OK) return code;
    rc = store_sql(s, "PRAGMA synchronous=FULL");
    if (rc != SQLITE_OK) return store_error(s, rc, "opening the database", err);
    if (!empty) return FPL_OK;
    return create ? make_schema(s, err) : fpl_fail(err, FPL_INVALID, "%s: holds no study", s->path);
}

enum fpl_code fpl_store_open(const char *directory, int create, struct fpl_store **out,
                             struct fpl_error *err) {
    *out = NULL;
    if (create) {
        enum fpl_code code = fpl_make_directory(directory, err);
        if (code != FPL_OK) return code;
    }
    struct fpl_store *s = calloc(1, sizeof *s);
    size_t room = strlen(directory) + sizeof "/study.db";
    if (s != NULL) {
        s->directory = strdup(directory);
        s->path = malloc(room);
    }
    if (s == NULL || s->directory == NULL || s->path == NULL) {
        fpl_store_close(s);
        return fpl_fail(err, FPL_SYSTEM, "%s: out of memory", directory);
    }
    snprintf(s->path, room, "%s/study.db", directory);
    enum fpl_code code = open_database(s, create, err);
    if (code != FPL_OK) {
        fpl_store_close(s);
        return code;
    }
    *out = s;
    return FPL_OK;
}

void fpl_store_close(struct fpl_store *s) {
    if (s == NULL) return;
    sqlite3_close(s->db);
    free(s->directory);
    free(s->path);
    free(s);
}

/* ---- texts ------------------------------------------------------------------------------------ */

enum fpl_code fpl_store_set_text(struct fpl_store *s, const char *key, const char *value,
                                 struct fpl_error *err) {
    sqlite3_stmt *q = NULL;
    int rc = store_prepare(s, "INSERT OR REPLACE INTO texts VALUES (?,?)", &q);
    enum fpl_code code;
    if (rc == SQLITE_OK) {
        store_bind_text(q, 1, key);
        store_bind_text(q, 2, value);
        code = store_commit(s, q, "storing a text", err);
    } else {
        code = store_error(s, rc, "storing a text", err);
    }
    sqlite3_finalize(q);
    return code;
}

enum fpl_code fpl_store_get_text(struct fpl_store *s, const char *key, char **value, struct fpl_error *err) {
    *value = NULL;
    sqlite3_stmt *q = NULL;
    int rc = store_prepare(s, "SELECT value FROM texts WHERE key = ?", &q);
    if (rc == SQLITE_OK) {
        store_bind_text(q, 1, key);
        rc = sqlite3_step(q);
    }
    enum fpl_code code = FPL_OK;
    if (rc == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(q, 0);
        *value = strdup(text != NULL ? text : "");
        if (*value == NULL) code = fpl_fail(err, FPL_SYSTEM, "%s: out of memory", s->path);
    } else if (rc != SQLITE_DONE) {
        code = store_error(s, rc, "reading a text", err);
    }
    sqlite3_finalize(q);
    return code;
}
