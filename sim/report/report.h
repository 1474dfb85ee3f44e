/* report.h - a study and its fits as one self-contained HTML file.
 *
 * Sections: what was asked, the ranking of formats (paired by everything but the recipe),
 * loss against N and D with fitted curves, the gap by exponent bits, mantissa bits and
 * block, the LR x batch bowls, fitted constants beside published ones, the floor against the
 * data's true entropy where it is known, residuals, every fitted law by itself, and every run in a table
 * that sorts.
 *
 * Figures are drawn by gnuplot (a child process, started by posix_spawn) and inlined as
 * data-URI images, so that the file needs nothing beside it; inlined SVG elements would
 * share ids.  The text is escaped: a name in a study cannot become markup.
 *
 * Determinism: the file depends on the store, the fits and gnuplot's version only; it
 * carries no clock time.
 */
#ifndef FPL_REPORT_H
#define FPL_REPORT_H

#include "../base/file.h"
#include "../base/runs.h"

/* Inputs: study directories, tables of runs (NAME.csv) and FIT.json files in any order.  A directory's own
 * fit.json (and fit-<stage>.json) is read too unless FIT.json files are named. */
struct fpl_report_options {
    const char *const *inputs;
    int count;
    const char *out;
    const char *version;        /* of the program, for the footer */
    const char *const *columns; /* of tables: "NAME=COLUMN[*NUMBER]", NULL-terminated or NULL (runs.h) */
    const char *figures;        /* directory that also gets each figure as NAME.svg; may be NULL */
};
int fpl_report_is_table(const char *path); /* NAME.csv */
enum fpl_code fpl_report_write(const struct fpl_report_options *options, struct fpl_error *err);

/* ---- paired ranking (rank.c) ------------------------------------------------------------
 * Runs that agree in everything but the recipe form a cell; the gap of a recipe is the mean
 * over cells of its loss minus the reference's in the same cell, with Student's interval.
 * The reference is fp32 where it shares cells with others, else the recipe that shares most
 * cells (ties: lowest mean loss).  Runs that are not ok are left out. */
struct fpl_rank_row {
    char recipe[768], format[48], granularity[32]; /* as long as struct fpl_run has them */
    double E, M, block;
    size_t cells;        /* shared with the reference */
    size_t runs, failed; /* ok runs of the recipe, and those that diverged or collapsed */
    double gap, lo, hi;  /* nats per token; NaN where no cell is shared; lo = hi = NaN for one */
    int is_reference;
};
struct fpl_ranking {
    struct fpl_rank_row *row; /* sorted by gap, unpaired last */
    size_t count;
};
enum fpl_code fpl_rank_formats(const struct fpl_runs *runs, struct fpl_ranking *out, struct fpl_error *err);
void fpl_ranking_free(struct fpl_ranking *r);

/* Two-sided 95 % quantile of Student's distribution with dof >= 1 degrees of freedom. */
double fpl_student_95(size_t dof);

/* ---- HTML pieces (html.c) ---------------------------------------------------------------- */
void fpl_html_escaped(struct fpl_text *t, const char *text);
void fpl_html_begin(struct fpl_text *t, const char *title);
void fpl_html_end(struct fpl_text *t, const char *version);

/* ---- figures (plot.c) -------------------------------------------------------------------- */
/* Run a gnuplot script (terminal and output are set by this call; width and height in
 * points) and append <img> with the drawing and the alternative text; NAME.svg is also
 * written to `figures` unless NULL. */
enum fpl_code fpl_plot(struct fpl_text *t, const char *name, const char *alt, int width, int height,
                       const char *script, const char *figures, struct fpl_error *err);

#endif
