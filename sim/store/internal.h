/* internal.h - what the files of sim/store share and nobody else sees. */
#ifndef FPL_STORE_INTERNAL_H
#define FPL_STORE_INTERNAL_H

#include <sqlite3.h>

#include "store.h"

struct fpl_store {
    sqlite3 *db;
    char *directory, *path;
};

/* The one line for an SQLite result code; doing: "storing a run". */
enum fpl_code store_error(struct fpl_store *s, int rc, const char *doing, struct fpl_error *err);
int store_prepare(struct fpl_store *s, const char *sql, sqlite3_stmt **q);
int store_sql(struct fpl_store *s, const char *sql);
/* First column of the first row. */
int store_integer(struct fpl_store *s, const char *sql, int64_t *out);
void store_bind_text(sqlite3_stmt *q, int column, const char *text);
/* Replace a run's diagnoses (JSON text; NULL: it has none) inside the open transaction. */
int store_diagnoses(struct fpl_store *s, const char *run, const char *points);
/* One prepared statement as one transaction. */
enum fpl_code store_commit(struct fpl_store *s, sqlite3_stmt *q, const char *doing, struct fpl_error *err);

#endif
