/* runs_columns.h - the columns of a table of runs, in one table that reading, filtering and
 * writing share.  Order is RUNS.csv's (shared design); the measured columns stand last. */
#ifndef FPL_RUNS_COLUMNS_H
#define FPL_RUNS_COLUMNS_H

#include "runs.h"

enum fpl_column_kind {
    FPL_COL_TEXT,
    FPL_COL_REAL,     /* NaN prints as nan */
    FPL_COL_OPTIONAL, /* NaN prints as an empty field */
    FPL_COL_SEED,     /* uint64_t */
    FPL_COL_SMALL,    /* int */
    FPL_COL_STATUS    /* enum fpl_status by name */
};

enum fpl_column_place { FPL_COL_TABLE, FPL_COL_MEASURED, FPL_COL_HIDDEN };

struct fpl_column {
    const char *name;
    enum fpl_column_kind kind;
    enum fpl_column_place place; /* exported always, with timing, or never (filters and CSV input only) */
    size_t offset, size;         /* in struct fpl_run */
};

extern const struct fpl_column fpl_columns[]; /* last row has name NULL */

const struct fpl_column *fpl_column_find(const char *name);
/* FPL_INVALID naming the nearest column. */
enum fpl_code fpl_column_unknown(const char *name, struct fpl_error *err);
/* A numeric column of a row as double. */
double fpl_column_number(const struct fpl_column *column, const struct fpl_run *run);

#endif
