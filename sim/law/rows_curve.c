/* rows_curve.c - loss curves of a table, for the laws of whole trajectories.
 *
 * The rows of one `run` are one curve: `step`, the learning rate `lr` of that step, and `loss`.  Rates
 * between rows are linear, and before the first row equal to its rate, so rows without a loss may
 * stand for turns of the schedule.  A curve belongs to one cell and one group, so that
 * resampling and holding out can take whole curves, or blocks of neighbouring rows; its rows are sorted by
 * step.
 *
 * Left out: runs that are not ok, rows without a step, rate or (for the fit) loss, and rows of
 * warm-up, during which the laws say nothing.  Of a curve with more than 256 rows every k-th is used:
 * neighbouring steps repeat each other.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "problem.h"

#define POINTS_MOST 256

struct point {
    const struct fpl_run *run;
    size_t row; /* in the table */
};

static int by_curve(const void *left, const void *right) {
    const struct point *a = left, *b = right;
    const int order = strcmp(a->run->run, b->run->run);
    if (order != 0) return order;
    if (a->run->step != b->run->step) return a->run->step < b->run->step ? -1 : 1;
    return (a->row > b->row) - (a->row < b->row);
}

static void leave(struct fpl_left_out *why, size_t row, const char *text) {
    snprintf(why[row].why, sizeof why[row].why, "%s", text);
}

/* The points of the table that can be part of a schedule, sorted. */
static size_t collect(const struct fpl_runs *runs, struct point *point, struct fpl_left_out *why) {
    size_t count = 0;
    for (size_t i = 0; i < runs->count; i++) {
        const struct fpl_run *r = &runs->run[i];
        if (r->status != FPL_RUN_OK)
            leave(why, i, fpl_status_names[r->status]);
        else if (!(r->step >= 0.0 && r->step <= 1e15))
            snprintf(why[i].why, sizeof why[i].why, "step is %g", r->step);
        else if (!(r->lr >= 0.0 && r->lr <= 1e15))
            snprintf(why[i].why, sizeof why[i].why, "lr is %g", r->lr);
        else
            point[count++] = (struct point){r, i};
    }
    qsort(point, count, sizeof *point, by_curve);
    return count;
}

static enum fpl_code schedule_of(const struct point *p, size_t count, struct fpl_curve *out,
                                 struct fpl_error *err) {
    double *memory = malloc(2 * count * sizeof *memory);
    if (memory == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory for %zu steps", count);
    for (size_t i = 0; i < count; i++) {
        memory[i] = p[i].run->step;
        memory[count + i] = p[i].run->lr;
    }
    const struct fpl_schedule schedule = {count, memory, memory + count};
    enum fpl_code code = fpl_curve_make(&schedule, out, err);
    free(memory);
    return code == FPL_OK ? FPL_OK : fpl_fail_at(err, "run %s", p[0].run->run);
}

/* Rows of one curve; returns how many, and with rows NULL only marks those that cannot be used. */
static size_t curve_rows(const struct fpl_law *law, const struct point *p, size_t count,
                         const struct fpl_curve *curve, size_t cell, struct fpl_row *rows,
                         struct fpl_left_out *why) {
    const struct fpl_centre none = {0.0, 0.0};
    size_t usable = 0, used = 0;
    for (size_t i = 0; i < count; i++) {
        if (p[i].run->step <= curve->warm_step)
            leave(why, p[i].row, isnan(p[i].run->loss) ? "a turn of the schedule" : "in warm-up");
        else if (!fpl_row_refused("loss", p[i].run->loss, why[p[i].row].why, sizeof why[0].why))
            usable++;
    }
    const size_t stride = (usable + POINTS_MOST - 1) / POINTS_MOST;
    for (size_t i = 0, k = 0; i < count; i++) {
        if (why[p[i].row].why[0] != '\0' || k++ % stride != 0) continue;
        struct fpl_row *row = &rows[used++];
        struct fpl_question q = fpl_question_of_run(p[i].run);
        q.curve = curve;
        row->run = p[i].row;
        row->cell = row->group = cell;
        row->target = log(p[i].run->loss);
        fpl_law_place(law, &q, &none, &row->at);
    }
    return used;
}

static size_t curve_end(const struct point *p, size_t begin, size_t count) {
    size_t end = begin + 1;
    while (end < count && strcmp(p[end].run->run, p[begin].run->run) == 0) end++;
    return end;
}

enum fpl_code fpl_rows_of_curves(const struct fpl_law *law, const struct fpl_runs *runs,
                                 struct fpl_problem *problem, struct fpl_left_out *why,
                                 struct fpl_error *err) {
    struct point *point = malloc((runs->count + 1) * sizeof *point);
    problem->row = calloc(runs->count + 1, sizeof *problem->row);
    enum fpl_code code = FPL_OK;
    size_t curves = 0;
    if (point == NULL || problem->row == NULL) {
        free(point);
        return fpl_fail(err, FPL_SYSTEM, "out of memory for %zu runs", runs->count);
    }
    const size_t count = collect(runs, point, why);
    for (size_t i = 0; i < count; i = curve_end(point, i, count)) curves++;
    problem->curve = calloc(curves + 1, sizeof *problem->curve); /* rows point into it: never moved */
    if (problem->curve == NULL) code = fpl_fail(err, FPL_SYSTEM, "out of memory for %zu curves", curves);
    for (size_t begin = 0, end; code == FPL_OK && begin < count; begin = end) {
        struct fpl_curve *curve = &problem->curve[problem->curve_count];
        end = curve_end(point, begin, count);
        code = schedule_of(point + begin, end - begin, curve, err);
        if (code != FPL_OK) break;
        problem->curve_count++;
        curve->run = point[begin].row;
        problem->count += curve_rows(law, point + begin, end - begin, curve, problem->curve_count - 1,
                                     problem->row + problem->count, why);
    }
    if (code == FPL_OK && curves == count && count > 1)
        code = fpl_fail(err, FPL_INVALID,
                        "%s: %s takes loss curves: rows of one curve share their 'run', and no two rows do",
                        runs->source, law->name);
    problem->cells = problem->curve_count;
    if (code == FPL_OK && problem->count > 0) fpl_rows_finish(problem, runs);
    free(point);
    return code;
}
