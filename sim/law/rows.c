/* rows.c - which runs of a table a law is fitted to, and why the others are not.
 *
 * Left out always: runs that are not ok, losses or covariates that are not positive finite
 * numbers.  A table without a status column is judged by its losses: a run above 1.2 times
 * the least loss of its group counts as diverged.
 *
 * Left out of laws with a precision term: quantized runs that compute otherwise than most (manner.c).
 *
 * A cell is an exactly equal (N, D); a group an exactly equal (N, D, E, M, block).
 *
 *   laws without a learning rate   of a group, the (lr, batch) with the least mean loss over its
 *                                  seeds: elsewhere the loss is not the law's
 *   laws with a bowl or optimum    runs within a window (a share of the loss) of the least loss
 *                                  of their group
 *
 * The window of `joint` is found from the data (fit.c): from 30 % it is narrowed by steps of
 * 1.5 down to 2 %, as long as it stays above ten residual scales (so that noise does not decide
 * who is in) and five runs per parameter remain; of these windows the widest is taken whose
 * residual scale is within 10 % of the least.  Where the bowl's form limits the fit the
 * scale falls with the window, and precise tables end at the 2 % of published studies; where
 * noise limits it, nothing is gained and small studies keep practically every run.  --window
 * sets it.  `steplaw` uses the published 0.25 %.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manner.h"
#include "problem.h"

#define DIVERGED_FACTOR 1.2

#define KEYS 8

struct candidate {
    double key[KEYS]; /* the law's variables that make a group, the cell's first; -1: not given */
    double lr, batch, loss, target;
    size_t run;
    int dropped;
};

/* ---- one run ------------------------------------------------------------------------------- */

/* Positive, and of a size whose powers are still numbers. */
static int positive(double x) { return x >= 1e-30 && x <= 1e30; }

int fpl_row_refused(const char *name, double x, char *why, size_t size) {
    return positive(x) ? 0 : snprintf(why, size, "%s is %g, accepted is 1e-30 to 1e30", name, x);
}

static int takes_format(const struct fpl_law *law) {
    return (law->use & (FPL_NEED_FORMAT | FPL_TAKE_FORMAT)) != 0;
}

/* Format variables of a quantized run. */
static int refuse_format(const struct fpl_law *law, const struct fpl_run *r, char *why, size_t size) {
    if (!takes_format(law)) return snprintf(why, size, "quantized: the law has no precision term");
    if ((fpl_law_takes(law, FPL_VAR_E) && !(isfinite(r->E) && r->E >= 0.0)) ||
        (fpl_law_takes(law, FPL_VAR_M) && !(isfinite(r->M) && r->M >= 0.0)))
        return snprintf(why, size, "quantized without one exponent and mantissa width");
    if (fpl_law_takes(law, FPL_VAR_BLOCK) && !(isfinite(r->block) && r->block >= 1.0))
        return snprintf(why, size, "scale is not per fixed block (%s)",
                        r->granularity[0] ? r->granularity : "unscaled");
    return 0;
}

/* Why the law cannot use this run by itself; 0 if it can. */
static int refuse(const struct fpl_law *law, const struct fpl_run *r, const struct fpl_question *q,
                  double target, char *why, size_t size) {
    if (r->status != FPL_RUN_OK) return snprintf(why, size, "%s", fpl_status_names[r->status]);
    int told = fpl_row_refused(fpl_law_target(law), target, why, size);
    for (const struct fpl_takes *t = law->takes; t->which != FPL_VARIABLES && told == 0; t++) {
        const double x = q->value[t->which];
        if ((t->need & FPL_REQUIRED) != 0 || ((t->need & FPL_OPTIONAL) != 0 && !isnan(x)))
            told = fpl_row_refused(fpl_variables[t->which].name, x, why, size);
    }
    if (told == 0 && fpl_run_is_quantized(r) && (law->use & FPL_ANY_FORMAT) == 0)
        told = refuse_format(law, r, why, size);
    if (told == 0 && law->refuse != NULL) told = law->refuse(law, r, why, size);
    return told;
}

/* Variables that are settings (learning rate, batch) make no group. */
static struct candidate candidate_of(const struct fpl_law *law, const struct fpl_run *r,
                                     const struct fpl_question *q, double target, size_t run) {
    struct candidate c = {.lr = isnan(r->lr) ? 0.0 : r->lr,
                          .batch = isnan(r->batch_tokens) ? 0.0 : r->batch_tokens,
                          .loss = r->loss,
                          .target = target,
                          .run = run};
    const int quantized = fpl_run_is_quantized(r);
    int keys = 0;
    for (const struct fpl_takes *t = law->takes; t->which != FPL_VARIABLES && keys < KEYS; t++) {
        if ((t->need & FPL_SETTING) != 0) continue;
        const double x = q->value[t->which];
        c.key[keys++] = isnan(x) || ((t->need & FPL_FORMAT) != 0 && !quantized) ? -1.0 : x;
    }
    return c;
}

/* ---- groups -------------------------------------------------------------------------------- */

static int compare(double a, double b) { return (a > b) - (a < b); }

static int by_keys(const struct candidate *a, const struct candidate *b, int keys) {
    int order = 0;
    for (int k = 0; k < keys && order == 0; k++) order = compare(a->key[k], b->key[k]);
    return order;
}

static int by_setting(const struct candidate *a, const struct candidate *b) {
    const int order = compare(a->lr, b->lr);
    return order != 0 ? order : compare(a->batch, b->batch);
}

static int by_everything(const void *left, const void *right) {
    const struct candidate *a = left, *b = right;
    int order = by_keys(a, b, KEYS);
    if (order == 0) order = by_setting(a, b);
    return order != 0 ? order : compare((double)a->run, (double)b->run);
}

static void drop(struct candidate *c, struct fpl_left_out *why, const char *format, double x) {
    if (c->dropped) return;
    c->dropped = 1;
    char text[sizeof why[0].why];
    snprintf(text, sizeof text, format, x); /* the formats are the literals below */
    memcpy(why[c->run].why, text, sizeof text);
}

static void drop_far(struct candidate *c, size_t count, double limit, const char *format,
                     struct fpl_left_out *why) {
    double least = HUGE_VAL;
    for (size_t i = 0; i < count; i++)
        if (c[i].loss < least) least = c[i].loss;
    for (size_t i = 0; i < count; i++)
        if (c[i].loss > limit * least) drop(&c[i], why, format, 100.0 * (c[i].loss / least - 1.0));
}

/* Keep the setting with the least mean loss; settings of a group are adjacent. */
static void drop_untuned(struct candidate *c, size_t count, struct fpl_left_out *why) {
    double best = HUGE_VAL;
    size_t best_begin = 0, best_end = 0;
    for (size_t begin = 0, end; begin < count; begin = end) {
        double sum = 0.0, kept = 0.0;
        for (end = begin; end < count && by_setting(&c[begin], &c[end]) == 0; end++)
            if (!c[end].dropped) {
                sum += c[end].loss;
                kept += 1.0;
            }
        if (kept > 0.0 && sum / kept < best) {
            best = sum / kept;
            best_begin = begin;
            best_end = end;
        }
    }
    if (best_end == 0) return; /* losses unknown: every setting stays */
    for (size_t i = 0; i < count; i++)
        if (i < best_begin || i >= best_end)
            drop(&c[i], why, "not the best learning rate and batch of its group (%.3g %% above)",
                 100.0 * (c[i].loss / best - 1.0));
}

static void drop_in_groups(const struct fpl_law *law, struct candidate *c, size_t count, double window,
                           int judge, struct fpl_left_out *why) {
    for (size_t begin = 0, end; begin < count; begin = end) {
        for (end = begin; end < count && by_keys(&c[begin], &c[end], KEYS) == 0; end++) {
        }
        if (judge)
            drop_far(c + begin, end - begin, DIVERGED_FACTOR,
                     "counts as diverged: loss %.3g %% above the least of its group", why);
        if ((law->use & FPL_ONLY_NEAR_BEST) != 0 && isfinite(window))
            drop_far(c + begin, end - begin, 1.0 + window,
                     "outside the window: loss %.3g %% above the best of its group", why);
        if ((law->use & FPL_ONLY_BEST) != 0) drop_untuned(c + begin, end - begin, why);
    }
}

/* ---- the whole table -------------------------------------------------------------------------- */

static enum fpl_code missing_column(const struct fpl_law *law, const struct fpl_runs *runs, const char *name,
                                    struct fpl_error *err) {
    if (strcmp(name, "loss") == 0)
        for (size_t i = 0; i < runs->count; i++)
            if (runs->run[i].status != FPL_RUN_OK)
                return fpl_fail(err, FPL_INVALID, "%s: %s: no run has a loss (run %s is %s)", runs->source,
                                law->name, runs->run[i].run, fpl_status_names[runs->run[i].status]);
    return fpl_fail(err, FPL_INVALID,
                    "%s: %s needs column '%s', and no run has a value for it; --columns '%s=COLUMN' "
                    "names another column",
                    runs->source, law->name, name, name);
}

/* Every variable that the law needs, and its target, has a value somewhere. */
static enum fpl_code check_columns(const struct fpl_law *law, const struct fpl_runs *runs,
                                   const double *target, struct fpl_error *err) {
    size_t known[FPL_VARIABLES] = {0}, targets = 0;
    if (runs->count == 0)
        return fpl_fail(err, FPL_INVALID, "%s: %s: no runs are left to fit", runs->source, law->name);
    for (size_t i = 0; i < runs->count; i++) {
        const struct fpl_question q = fpl_question_of_run(&runs->run[i]);
        for (int v = 0; v < FPL_VARIABLES; v++) known[v] += isnan(q.value[v]) ? 0 : 1;
        targets += isnan(target[i]) ? 0 : 1;
    }
    const int formats = (law->use & FPL_NEED_FORMAT) != 0 ? FPL_FORMAT : 0;
    const struct fpl_takes *t = law->takes;
    for (; t->which != FPL_VARIABLES; t++) {
        const int classic = t->which == FPL_VAR_N || t->which == FPL_VAR_D;
        if (classic && (t->need & FPL_REQUIRED) != 0 && known[t->which] == 0)
            return missing_column(law, runs, fpl_variables[t->which].name, err);
    }
    if (targets == 0) return missing_column(law, runs, fpl_law_target(law), err);
    for (t = law->takes; t->which != FPL_VARIABLES; t++)
        if ((t->need & (FPL_REQUIRED | formats)) != 0 && known[t->which] == 0)
            return missing_column(law, runs, fpl_variables[t->which].name, err);
    return FPL_OK;
}

static void set_parameters(struct fpl_problem *p) {
    const struct fpl_law *law = p->law;
    int quantized = 0;
    for (size_t i = 0; i < p->count; i++) quantized |= p->row[i].at.quantized;
    for (int j = 0; j < law->params; j++) {
        p->lo[j] = law->param[j].lo;
        p->hi[j] = j == law->floor_at ? p->least_loss : law->param[j].hi;
        p->active[j] = p->hi[j] > p->lo[j] && (quantized || !fpl_param_precision(law, j)) &&
                       (law->speaks == NULL || law->speaks(p, j));
    }
}

static void widen(double range[2], double x) {
    if (isnan(x)) return;
    if (!(x >= range[0])) range[0] = x; /* NaN before the first */
    if (!(x <= range[1])) range[1] = x;
}

/* Ranges of the law's variables, centre and bounds. The rows' n and d come uncentred. */
void fpl_rows_finish(struct fpl_problem *p, const struct fpl_runs *runs) {
    double n = 0.0, d = 0.0;
    p->least_loss = HUGE_VAL;
    for (int v = 0; v < FPL_VARIABLES; v++) p->range[v][0] = p->range[v][1] = (double)NAN;
    for (size_t i = 0; i < p->count; i++) {
        const struct fpl_question q = fpl_question_of_run(&runs->run[p->row[i].run]);
        for (int v = 0; v < FPL_VARIABLES; v++)
            if (fpl_law_keeps_range(p->law, (enum fpl_variable)v)) widen(p->range[v], q.value[v]);
        n += p->row[i].at.n;
        d += p->row[i].at.d;
        p->least_loss = fmin(p->least_loss, exp(p->row[i].target));
    }
    for (int v = 0; v < FPL_VARIABLES; v++)
        if (isnan(p->range[v][0])) p->range[v][0] = p->range[v][1] = 0.0;
    memcpy(p->N, p->range[FPL_VAR_N], sizeof p->N);
    memcpy(p->D, p->range[FPL_VAR_D], sizeof p->D);
    p->centre.n = n / (double)p->count;
    p->centre.d = d / (double)p->count;
    for (size_t i = 0; i < p->count; i++) {
        struct fpl_law_at *at = &p->row[i].at;
        at->n0 = p->centre.n;
        at->d0 = p->centre.d;
        at->n -= p->centre.n;
        at->d -= p->centre.d;
    }
    set_parameters(p);
}

/* Rows of the candidates that were kept, in the order of the table. */
static void fill_rows(struct fpl_problem *p, const struct fpl_runs *runs, const struct candidate *c,
                      size_t count, const size_t *place) {
    const struct fpl_centre none = {0.0, 0.0};
    size_t group = 0;
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            group += by_keys(&c[i - 1], &c[i], KEYS) != 0;
            p->cells += by_keys(&c[i - 1], &c[i], p->law->cell_keys) != 0;
        }
        if (c[i].dropped) continue;
        struct fpl_row *row = &p->row[place[c[i].run]];
        row->run = c[i].run;
        row->cell = p->cells;
        row->group = group;
        row->target = log(c[i].target);
        const struct fpl_question q = fpl_question_of_run(&runs->run[c[i].run]);
        fpl_law_place(p->law, &q, &none, &row->at);
    }
    p->cells++;
    fpl_rows_finish(p, runs);
}

int fpl_problem_active(const struct fpl_problem *problem) {
    int count = 0;
    for (int j = 0; j < problem->law->params; j++) count += problem->active[j];
    return count;
}

void fpl_problem_free(struct fpl_problem *problem) {
    for (size_t i = 0; i < problem->curve_count; i++) fpl_curve_free(&problem->curve[i]);
    free(problem->curve);
    free(problem->row);
    free(problem->columns);
    free(problem->weight);
    problem->columns = NULL;
    problem->weight = NULL;
    problem->curve = NULL;
    problem->row = NULL;
    problem->count = problem->curve_count = 0;
}

/* Why each run of the table was dropped ("": kept) becomes the list of those left out. */
static enum fpl_code list_left_out(const struct fpl_runs *runs, const struct fpl_left_out *why, size_t kept,
                                   struct fpl_left_list *left, struct fpl_error *err) {
    free(left->item);
    left->count = 0;
    left->item = malloc((runs->count - kept + 1) * sizeof *left->item);
    if (left->item == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory");
    for (size_t i = 0; i < runs->count; i++) {
        if (why[i].why[0] == '\0') continue;
        left->item[left->count] = why[i];
        memcpy(left->item[left->count++].run, runs->run[i].run, sizeof why[i].run);
    }
    return FPL_OK;
}

/* Candidates, what is dropped of them, and rows for the rest. */
static enum fpl_code select_runs(const struct fpl_law *law, const struct fpl_runs *runs, const double *target,
                                 double window, struct fpl_problem *problem, struct fpl_left_out *why,
                                 struct fpl_error *err) {
    struct candidate *c = malloc(runs->count * sizeof *c);
    size_t *place = malloc(runs->count * sizeof *place), count = 0;
    enum fpl_code code = FPL_OK;
    if (c == NULL || place == NULL) {
        code = fpl_fail(err, FPL_SYSTEM, "out of memory for %zu runs", runs->count);
        goto done;
    }
    for (size_t i = 0; i < runs->count; i++) {
        const struct fpl_run *r = &runs->run[i];
        const struct fpl_question q = fpl_question_of_run(r);
        refuse(law, r, &q, target[i], why[i].why, sizeof why[i].why);
    }
    code = fpl_keep_one_manner(law, runs, why, &problem->other_manners, err);
    if (code != FPL_OK) goto done;
    for (size_t i = 0; i < runs->count; i++) {
        const struct fpl_question q = fpl_question_of_run(&runs->run[i]);
        if (why[i].why[0] == '\0') c[count++] = candidate_of(law, &runs->run[i], &q, target[i], i);
    }
    qsort(c, count, sizeof *c, by_everything);
    drop_in_groups(law, c, count, window > 0.0 ? window : HUGE_VAL, runs->lacks_status, why);
    for (size_t i = 0; i < runs->count; i++)
        if (why[i].why[0] == '\0') place[i] = problem->count++;
    problem->row = calloc(problem->count + 1, sizeof *problem->row);
    if (problem->row == NULL)
        code = fpl_fail(err, FPL_SYSTEM, "out of memory for %zu runs", problem->count);
    else if (problem->count > 0)
        fill_rows(problem, runs, c, count, place);
done:
    free(c);
    free(place);
    return code;
}

/* Runs of one and the same loss say nothing of what it depends on. */
static enum fpl_code check_varied(const struct fpl_problem *p, const struct fpl_runs *runs,
                                  struct fpl_error *err) {
    for (size_t i = 0; i < p->count; i++)
        if (p->count < 2 || (p->law->use & FPL_OPTIMA) != 0 || p->row[i].target != p->row[0].target)
            return FPL_OK;
    return fpl_fail(err, FPL_INVALID,
                    "%s: %s: the %zu runs that can be used all have the same %s, %g: nothing to fit",
                    runs->source, p->law->name, p->count, fpl_law_target(p->law), exp(p->row[0].target));
}

enum fpl_code fpl_rows_select(const struct fpl_law *law, const struct fpl_runs *runs, double window,
                              struct fpl_problem *problem, struct fpl_left_list *left,
                              struct fpl_error *err) {
    const int threads = problem->threads;
    memset(problem, 0, sizeof *problem);
    problem->law = law;
    problem->threads = threads;
    struct fpl_left_out *why = calloc(runs->count + 1, sizeof *why);
    double *target = fpl_law_targets(law, runs);
    enum fpl_code code = why != NULL && target != NULL
                             ? check_columns(law, runs, target, err)
                             : fpl_fail(err, FPL_SYSTEM, "out of memory for %zu runs", runs->count);
    if (code == FPL_OK)
        code = (law->use & FPL_CURVES) != 0 ? fpl_rows_of_curves(law, runs, problem, why, err)
                                            : select_runs(law, runs, target, window, problem, why, err);
    if (code == FPL_OK) code = list_left_out(runs, why, problem->count, left, err);
    if (code == FPL_OK && problem->count == 0)
        code = fpl_fail(err, FPL_INVALID, "%s: %s: no run can be used; of run %s: %s", runs->source,
                        law->name, left->item[0].run, left->item[0].why);
    if (code == FPL_OK && (law->use & FPL_NEED_FORMAT) != 0 && !problem->active[law->penalty_at])
        code = fpl_fail(err, FPL_INVALID, "%s: %s: none of the %zu runs that can be used is quantized",
                        runs->source, law->name, problem->count);
    if (code == FPL_OK) code = fpl_check_alike(problem, runs, err);
    if (code == FPL_OK) code = check_varied(problem, runs, err);
    if (code == FPL_OK && !fpl_problem_columns(problem))
        code = fpl_fail(err, FPL_SYSTEM, "out of memory for %zu runs", problem->count);
    if (code != FPL_OK) fpl_problem_free(problem);
    free(why);
    free(target);
    return code;
}
