/* runs.c - the columns of a table of runs, and RUNS.csv.
 *
 * RUNS.csv is a deterministic function of the rows: sorted by run id (then seed, then the
 * order of the source), numbers with 17 significant digits, so that a study that was killed
 * and resumed exports the same bytes.  Fields are quoted only where CSV demands it (a comma,
 * a quote or a line break inside).
 */
#include "runs.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "runs_columns.h"

#define COLUMN(name, kind, place)                                                                            \
    { #name, kind, place, offsetof(struct fpl_run, name), sizeof(((struct fpl_run *)0)->name) }

const struct fpl_column fpl_columns[] = {
    COLUMN(run, FPL_COL_TEXT, FPL_COL_TABLE),
    COLUMN(seed, FPL_COL_SEED, FPL_COL_TABLE),
    COLUMN(status, FPL_COL_STATUS, FPL_COL_TABLE),
    COLUMN(N, FPL_COL_REAL, FPL_COL_TABLE),
    COLUMN(D, FPL_COL_REAL, FPL_COL_TABLE),
    COLUMN(lr, FPL_COL_REAL, FPL_COL_TABLE),
    COLUMN(batch_tokens, FPL_COL_REAL, FPL_COL_TABLE),
    COLUMN(recipe, FPL_COL_TEXT, FPL_COL_TABLE),
    COLUMN(format, FPL_COL_TEXT, FPL_COL_TABLE),
    COLUMN(granularity, FPL_COL_TEXT, FPL_COL_TABLE),
    COLUMN(E, FPL_COL_OPTIONAL, FPL_COL_TABLE),
    COLUMN(M, FPL_COL_OPTIONAL, FPL_COL_TABLE),
    COLUMN(block, FPL_COL_OPTIONAL, FPL_COL_TABLE),
    COLUMN(steps, FPL_COL_REAL, FPL_COL_TABLE),
    COLUMN(seq, FPL_COL_REAL, FPL_COL_TABLE),
    COLUMN(loss, FPL_COL_REAL, FPL_COL_TABLE),
    COLUMN(loss_se, FPL_COL_REAL, FPL_COL_TABLE),
    COLUMN(backend, FPL_COL_TEXT, FPL_COL_TABLE),
    COLUMN(numerics, FPL_COL_SMALL, FPL_COL_TABLE),
    COLUMN(seconds, FPL_COL_REAL, FPL_COL_MEASURED),
    COLUMN(tokens_per_second, FPL_COL_REAL, FPL_COL_MEASURED),
    COLUMN(schedule, FPL_COL_TEXT, FPL_COL_HIDDEN),
    COLUMN(oracle, FPL_COL_REAL, FPL_COL_HIDDEN),
    COLUMN(entropy_rate, FPL_COL_REAL, FPL_COL_HIDDEN),
    COLUMN(Pw, FPL_COL_OPTIONAL, FPL_COL_HIDDEN),
    COLUMN(Pa, FPL_COL_OPTIONAL, FPL_COL_HIDDEN),
    COLUMN(Pkv, FPL_COL_OPTIONAL, FPL_COL_HIDDEN),
    COLUMN(bits, FPL_COL_OPTIONAL, FPL_COL_HIDDEN),
    COLUMN(group, FPL_COL_OPTIONAL, FPL_COL_HIDDEN),
    COLUMN(step, FPL_COL_OPTIONAL, FPL_COL_HIDDEN),
    COLUMN(N_mean, FPL_COL_OPTIONAL, FPL_COL_HIDDEN),
    COLUMN(x, FPL_COL_OPTIONAL, FPL_COL_HIDDEN),
    COLUMN(eff_N, FPL_COL_OPTIONAL, FPL_COL_HIDDEN),
    COLUMN(eff_D, FPL_COL_OPTIONAL, FPL_COL_HIDDEN),
    COLUMN(delta, FPL_COL_OPTIONAL, FPL_COL_HIDDEN),
    {NULL, FPL_COL_TEXT, FPL_COL_HIDDEN, 0, 0},
};

const struct fpl_column *fpl_column_find(const char *name) {
    for (const struct fpl_column *c = fpl_columns; c->name != NULL; c++)
        if (strcmp(c->name, name) == 0) return c;
    return NULL;
}

enum fpl_code fpl_column_unknown(const char *name, struct fpl_error *err) {
    const char *names[sizeof fpl_columns / sizeof fpl_columns[0]];
    size_t count = 0;
    for (const struct fpl_column *c = fpl_columns; c->name != NULL; c++) names[count++] = c->name;
    names[count] = NULL;
    const char *near = fpl_nearest_word(name, names);
    if (near != NULL)
        return fpl_fail(err, FPL_INVALID, "unknown column '%s'; did you mean '%s'?", name, near);
    return fpl_fail(
        err, FPL_INVALID,
        "unknown column '%s'; columns are run seed status N D lr batch_tokens recipe format granularity E M "
        "block steps seq loss loss_se backend numerics seconds tokens_per_second schedule oracle "
        "entropy_rate Pw Pa "
        "Pkv bits group step N_mean x eff_N eff_D delta",
        name);
}

double fpl_column_number(const struct fpl_column *column, const struct fpl_run *run) {
    const char *field = (const char *)run + column->offset;
    double real;
    uint64_t seed;
    int small;
    switch (column->kind) {
    case FPL_COL_REAL:
    case FPL_COL_OPTIONAL:
        memcpy(&real, field, sizeof real);
        return real;
    case FPL_COL_SEED:
        memcpy(&seed, field, sizeof seed);
        return (double)seed;
    case FPL_COL_SMALL:
        memcpy(&small, field, sizeof small);
        return (double)small;
    case FPL_COL_TEXT:
    case FPL_COL_STATUS:
        break;
    }
    return (double)NAN;
}

void fpl_run_blank(struct fpl_run *run) {
    memset(run, 0, sizeof *run);
    for (const struct fpl_column *c = fpl_columns; c->name != NULL; c++)
        if (c->kind == FPL_COL_REAL || c->kind == FPL_COL_OPTIONAL) {
            const double none = (double)NAN;
            memcpy((char *)run + c->offset, &none, sizeof none);
        }
}

void fpl_runs_free(struct fpl_runs *runs) {
    if (runs == NULL) return;
    free(runs->run);
    memset(runs, 0, sizeof *runs);
}

/* ---- RUNS.csv --------------------------------------------------------------------------- */

static int by_run(const void *left, const void *right) {
    const struct fpl_run *a = *(const struct fpl_run *const *)left,
                         *b = *(const struct fpl_run *const *)right;
    const int order = strcmp(a->run, b->run);
    if (order != 0) return order;
    if (a->seed != b->seed) return a->seed < b->seed ? -1 : 1;
    return (a > b) - (a < b);
}

static void add_text(struct fpl_text *out, const char *text) {
    if (strpbrk(text, ",\"\r\n") == NULL) {
        fpl_text_append(out, text, strlen(text));
        return;
    }
    fpl_text_append(out, "\"", 1);
    for (; *text != '\0'; text++) {
        if (*text == '"') fpl_text_append(out, "\"", 1);
        fpl_text_append(out, text, 1);
    }
    fpl_text_append(out, "\"", 1);
}

static void add_field(struct fpl_text *out, const struct fpl_column *column, const struct fpl_run *run) {
    const double number = fpl_column_number(column, run);
    switch (column->kind) {
    case FPL_COL_TEXT:
        add_text(out, (const char *)run + column->offset);
        break;
    case FPL_COL_STATUS:
        fpl_text_add(out, "%s", run->status < FPL_RUN_STATUSES ? fpl_status_names[run->status] : "unknown");
        break;
    case FPL_COL_SEED:
        fpl_text_add(out, "%" PRIu64, run->seed);
        break;
    case FPL_COL_SMALL:
        fpl_text_add(out, "%d", (int)number);
        break;
    case FPL_COL_REAL:
    case FPL_COL_OPTIONAL:
        if (!isnan(number))
            fpl_text_add(out, "%.17g", number);
        else if (column->kind == FPL_COL_REAL)
            fpl_text_append(out, "nan", 3);
        break;
    }
}

char *fpl_runs_to_csv(const struct fpl_runs *runs, int timing) {
    const enum fpl_column_place last = timing ? FPL_COL_MEASURED : FPL_COL_TABLE;
    const struct fpl_run **order = malloc((runs->count + 1) * sizeof *order);
    if (order == NULL) return NULL;
    for (size_t i = 0; i < runs->count; i++) order[i] = &runs->run[i];
    qsort(order, runs->count, sizeof *order, by_run);

    struct fpl_text out = {NULL, 0, 0, 0};
    for (const struct fpl_column *c = fpl_columns; c->name != NULL; c++)
        if (c->place <= last) fpl_text_add(&out, "%s%s", c == fpl_columns ? "" : ",", c->name);
    fpl_text_append(&out, "\n", 1);
    for (size_t i = 0; i < runs->count; i++) {
        for (const struct fpl_column *c = fpl_columns; c->name != NULL; c++) {
            if (c->place > last) continue;
            if (c != fpl_columns) fpl_text_append(&out, ",", 1);
            add_field(&out, c, order[i]);
        }
        fpl_text_append(&out, "\n", 1);
    }
    free(order);
    if (out.failed) {
        fpl_text_free(&out);
        return NULL;
    }
    return out.text;
}
