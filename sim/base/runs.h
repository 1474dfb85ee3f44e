/* runs.h - a table of runs: what laws are fitted to, wherever it came from.
 *
 * Filled from a study's store (store.h) or from any CSV.  Columns hold doubles; a column
 * that a source does not have is all NaN.
 */
#ifndef FPL_RUNS_H
#define FPL_RUNS_H

#include <stddef.h>
#include <stdint.h>

#include "../../formats/error.h"
#include "record.h"

struct fpl_run {
    char run[33]; /* id; a CSV without a `run` column: its line number */
    int64_t line; /* line of the CSV, 0 from a store */
    uint64_t seed;
    enum fpl_status status;
    double N, D, lr, batch_tokens;
    char recipe[768], format[48], granularity[32];
    double E, M, block; /* NaN where nothing is quantized; block NaN unless fixed */
    double steps, seq;
    double loss, loss_se;
    char backend[16];
    char schedule[16]; /* of the learning rate: cosine, wsd, constant; "": not known */
    int numerics;
    double oracle, entropy_rate; /* NaN where unknown; stores only */
    /* --timing */
    double seconds, tokens_per_second;
    /* Further covariates of laws, read from CSVs that have them; NaN where unknown. */
    double Pw, Pa, Pkv;  /* bits of weights, activations, keys and values */
    double bits, group;  /* bits of what is quantized; elements of a quantization group */
    double step;         /* of a loss curve: rows of one run share its id */
    double N_mean, x;    /* parameters averaged over training; any positive variable */
    double eff_N, eff_D; /* effective share of parameters and of tokens */
    double delta;        /* rise of the loss over the unquantized run */
};

/* All unknown: numbers NaN, texts empty, status ok. */
void fpl_run_blank(struct fpl_run *run);

struct fpl_runs {
    size_t count;
    struct fpl_run *run;
    char source[512]; /* path as given */
    char hash[33];    /* XXH128 of the file, or of the exported table of a store */
    char where[1024]; /* what fpl_runs_where kept, joined by "and"; "": everything */
    int lacks_status; /* a CSV without a `status` column: every row reads as ok, judged by its loss */
};

/* columns: "NAME=COLUMN" or "NAME=COLUMN*NUMBER" (a COLUMN may contain spaces); NULL-terminated
 * list or NULL.  Quoted fields, CRLF, a byte-order mark and `nan` are understood.  Errors carry
 * line and column.  A missing column is no error here: the law asks for what it needs. */
enum fpl_code fpl_runs_read_csv(const char *path, const char *const *columns, struct fpl_runs *out,
                                struct fpl_error *err);
/* Keep rows for which the expression holds: comparisons of columns with numbers or words
 * (=, ==, !=, <, <=, >, >=) joined by "and", "or", "not", parentheses: "N>1e9 and format=e4m3". */
enum fpl_code fpl_runs_where(struct fpl_runs *runs, const char *expression, struct fpl_error *err);
/* The same, without dropping anything: match[i] is 1 where the expression holds for row i. */
enum fpl_code fpl_runs_match(const struct fpl_runs *runs, const char *expression, unsigned char *match,
                             struct fpl_error *err);
/* RUNS.csv as design.md gives it, sorted by run; malloced text. */
char *fpl_runs_to_csv(const struct fpl_runs *runs, int timing);
void fpl_runs_free(struct fpl_runs *runs);

#endif
