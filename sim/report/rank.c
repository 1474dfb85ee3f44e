/* rank.c - the paired ranking of recipes; see report.h for its definition.
 *
 * Seeds, learning rate, batch and size all move the loss more than most formats do, so only
 * runs that share all of them are compared: the differences inside such cells have a third
 * to half of the spread of the losses themselves. */
#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double fpl_student_95(size_t dof) {
    static const double table[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
                                   2.201,  2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
                                   2.080,  2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042};
    if (dof == 0) return (double)NAN;
    if (dof <= sizeof table / sizeof *table) return table[dof - 1];
    /* Cornish-Fisher to the second order beyond the table: error below 0.0001 */
    const double z = 1.959963985, v = (double)dof;
    return z + (z * z * z + z) / (4.0 * v) +
           (5.0 * z * z * z * z * z + 16.0 * z * z * z + 3.0 * z) / (96.0 * v * v);
}

static int compare_doubles(double a, double b) { return a < b ? -1 : a > b; }

/* Order of cells: everything that a pair must share. */
static int compare_cells(const struct fpl_run *a, const struct fpl_run *b) {
    int c = compare_doubles(a->N, b->N);
    if (c == 0) c = compare_doubles(a->D, b->D);
    if (c == 0) c = compare_doubles(a->lr, b->lr);
    if (c == 0) c = compare_doubles(a->batch_tokens, b->batch_tokens);
    if (c == 0) c = compare_doubles(a->steps, b->steps);
    if (c == 0) c = compare_doubles(a->seq, b->seq);
    if (c == 0) c = a->seed < b->seed ? -1 : a->seed > b->seed;
    return c;
}

static int compare_runs(const void *pa, const void *pb) {
    const struct fpl_run *a = *(const struct fpl_run *const *)pa, *b = *(const struct fpl_run *const *)pb;
    int c = compare_cells(a, b);
    if (c == 0) c = strcmp(a->recipe, b->recipe);
    if (c == 0) c = strcmp(a->run, b->run);
    return c;
}

static int compare_rows(const void *pa, const void *pb) {
    const struct fpl_rank_row *a = pa, *b = pb;
    if (isnan(a->gap) || isnan(b->gap)) {
        if (isnan(a->gap) != isnan(b->gap)) return isnan(a->gap) ? 1 : -1;
        return strcmp(a->recipe, b->recipe);
    }
    const int c = compare_doubles(a->gap, b->gap);
    return c != 0 ? c : strcmp(a->recipe, b->recipe);
}

static struct fpl_rank_row *row_of(struct fpl_ranking *r, const char *recipe) {
    for (size_t i = 0; i < r->count; i++)
        if (strcmp(r->row[i].recipe, recipe) == 0) return &r->row[i];
    return NULL;
}

static void collect_recipes(const struct fpl_runs *runs, struct fpl_ranking *r) {
    for (size_t i = 0; i < runs->count; i++) {
        const struct fpl_run *run = &runs->run[i];
        struct fpl_rank_row *row = row_of(r, run->recipe);
        if (row == NULL) {
            row = &r->row[r->count++];
            memset(row, 0, sizeof *row);
            memcpy(row->recipe, run->recipe, sizeof row->recipe);
            memcpy(row->format, run->format, sizeof row->format);
            memcpy(row->granularity, run->granularity, sizeof row->granularity);
            row->E = run->E;
            row->M = run->M;
            row->block = run->block;
            row->gap = row->lo = row->hi = (double)NAN;
        }
        if (run->status == FPL_RUN_OK && isfinite(run->loss))
            row->runs++;
        else
            row->failed++;
    }
}

/* The end of the cell that starts at i: [i, end). */
static size_t cell_end(const struct fpl_run *const *sorted, size_t count, size_t i) {
    size_t end = i + 1;
    while (end < count && compare_cells(sorted[i], sorted[end]) == 0) end++;
    return end;
}

/* fp32 if any cell holds it beside another recipe, else the recipe in most shared cells. */
static const char *choose_reference(const struct fpl_run *const *sorted, size_t count,
                                    struct fpl_ranking *r) {
    for (size_t i = 0; i < r->count; i++) r->row[i].cells = 0;
    for (size_t i = 0, end; i < count; i = end) {
        end = cell_end(sorted, count, i);
        if (strcmp(sorted[i]->recipe, sorted[end - 1]->recipe) == 0) continue;
        for (size_t j = i; j < end; j++)
            if (j == i || strcmp(sorted[j]->recipe, sorted[j - 1]->recipe) != 0)
                row_of(r, sorted[j]->recipe)->cells++;
    }
    const struct fpl_rank_row *best = NULL;
    for (size_t i = 0; i < r->count; i++) {
        if (strcmp(r->row[i].recipe, "fp32") == 0 && r->row[i].cells > 0) return r->row[i].recipe;
        if (r->row[i].cells > 0 && (best == NULL || r->row[i].cells > best->cells)) best = &r->row[i];
    }
    return best != NULL ? best->recipe : NULL;
}

/* Sums of differences to the reference, two passes: mean, then spread about it. */
static void measure_gaps(const struct fpl_run *const *sorted, size_t count, const char *reference,
                         struct fpl_ranking *r, double *sum, int second) {
    for (size_t i = 0, end; i < count; i = end) {
        end = cell_end(sorted, count, i);
        const struct fpl_run *ref = NULL;
        for (size_t j = i; j < end && ref == NULL; j++)
            if (strcmp(sorted[j]->recipe, reference) == 0) ref = sorted[j];
        if (ref == NULL) continue;
        for (size_t j = i; j < end; j++) {
            if (j > i && strcmp(sorted[j]->recipe, sorted[j - 1]->recipe) == 0) continue;
            struct fpl_rank_row *row = row_of(r, sorted[j]->recipe);
            const double d = sorted[j]->loss - ref->loss;
            if (!second) row->cells++;
            sum[row - r->row] += second ? (d - row->gap) * (d - row->gap) : d;
        }
    }
}

enum fpl_code fpl_rank_formats(const struct fpl_runs *runs, struct fpl_ranking *out, struct fpl_error *err) {
    memset(out, 0, sizeof *out);
    const struct fpl_run **sorted = malloc((runs->count + 1) * sizeof *sorted);
    double *sum = calloc(runs->count + 1, sizeof *sum);
    out->row = malloc((runs->count + 1) * sizeof *out->row);
    if (sorted == NULL || sum == NULL || out->row == NULL) {
        free(sorted);
        free(sum);
        fpl_ranking_free(out);
        return fpl_fail(err, FPL_SYSTEM, "ranking: out of memory for %zu runs", runs->count);
    }
    collect_recipes(runs, out);
    size_t count = 0;
    for (size_t i = 0; i < runs->count; i++)
        if (runs->run[i].status == FPL_RUN_OK && isfinite(runs->run[i].loss)) sorted[count++] = &runs->run[i];
    qsort(sorted, count, sizeof *sorted, compare_runs);
    const char *reference = choose_reference(sorted, count, out);
    for (size_t i = 0; i < out->count; i++) out->row[i].cells = 0;
    if (reference != NULL) {
        measure_gaps(sorted, count, reference, out, sum, 0);
        for (size_t i = 0; i < out->count; i++)
            if (out->row[i].cells > 0) out->row[i].gap = sum[i] / (double)out->row[i].cells;
        memset(sum, 0, (runs->count + 1) * sizeof *sum);
        measure_gaps(sorted, count, reference, out, sum, 1);
        for (size_t i = 0; i < out->count; i++) {
            struct fpl_rank_row *row = &out->row[i];
            row->is_reference = strcmp(row->recipe, reference) == 0;
            if (row->cells < 2) continue;
            const double n = (double)row->cells,
                         half = fpl_student_95(row->cells - 1) * sqrt(sum[i] / (n - 1.0) / n);
            row->lo = row->gap - half;
            row->hi = row->gap + half;
        }
        qsort(out->row, out->count, sizeof *out->row, compare_rows);
    }
    free(sorted);
    free(sum);
    return FPL_OK;
}

void fpl_ranking_free(struct fpl_ranking *r) {
    free(r->row);
    r->row = NULL;
    r->count = 0;
}
