/* rows.c - which runs of a table a law is fitted to, and why the others are not.
 *
 * Left out always: runs that are not ok, losses or covariates that are not positive finite
 * numbers.  A table without a status column is judged by its losses: a run above 1.2 times
 * the least loss of its group counts as diverged.
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

#include "law_internal.h"

#define DIVERGED_FACTOR 1.2

struct candidate {
    double N, D, E, M, block, lr, batch, loss; /* E, M, block -1 where nothing is quantized */
    size_t run;
    int dropped;
};

/* ---- one run ------------------------------------------------------------------------------- */

/* Positive, and of a size whose powers are still numbers. */
static int positive(double x) { return x >= 1e-30 && x <= 1e30; }

static int is_quantized(const struct fpl_run *r) {
    if (!isnan(r->E) || !isnan(r->M)) return 1;
    return r->format[0] != '\0' && strcmp(r->format, "fp32") != 0 && strcmp(r->format, "bf16") != 0;
}

/* Why the law cannot use this run by itself; 0 if it can. */
static int refuse(const struct fpl_law *law, const struct fpl_run *r, char *why, size_t size) {
    const int format = (law->use & (FPL_NEED_FORMAT | FPL_TAKE_FORMAT)) != 0, quantized = is_quantized(r);
    if (r->status != FPL_RUN_OK) return snprintf(why, size, "%s", fpl_status_names[r->status]);
    if (!positive(r->loss)) return snprintf(why, size, "loss is %g", r->loss);
    if (!positive(r->N)) return snprintf(why, size, "N is %g", r->N);
    if (!positive(r->D)) return snprintf(why, size, "D is %g", r->D);
    if ((law->use & FPL_NEED_LR) != 0 && !positive(r->lr)) return snprintf(why, size, "lr is %g", r->lr);
    if ((law->use & FPL_NEED_LR) != 0 && !positive(r->batch_tokens))
        return snprintf(why, size, "batch_tokens is %g", r->batch_tokens);
    if (!quantized) return 0;
    if (!format) return snprintf(why, size, "quantized: the law has no precision term");
    if (!(isfinite(r->E) && r->E >= 0.0 && isfinite(r->M) && r->M >= 0.0))
        return snprintf(why, size, "quantized without one exponent and mantissa width");
    if (!(isfinite(r->block) && r->block >= 1.0))
        return snprintf(why, size, "scale is not per fixed block (%s)",
                        r->granularity[0] ? r->granularity : "unscaled");
    return 0;
}

/* ---- groups -------------------------------------------------------------------------------- */

static int compare(double a, double b) { return (a > b) - (a < b); }

static int by_group(const struct candidate *a, const struct candidate *b, int cell_only) {
    int order = compare(a->N, b->N);
    if (order == 0) order = compare(a->D, b->D);
    if (order != 0 || cell_only) return order;
    order = compare(a->E, b->E);
    if (order == 0) order = compare(a->M, b->M);
    return order != 0 ? order : compare(a->block, b->block);
}

static int by_setting(const struct candidate *a, const struct candidate *b) {
    const int order = compare(a->lr, b->lr);
    return order != 0 ? order : compare(a->batch, b->batch);
}

static int by_everything(const void *left, const void *right) {
    const struct candidate *a = left, *b = right;
    int order = by_group(a, b, 0);
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
        if (!(c[i].loss <= limit * least)) drop(&c[i], why, format, 100.0 * (c[i].loss / least - 1.0));
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
    for (size_t i = 0; i < count; i++)
        if (i < best_begin || i >= best_end)
            drop(&c[i], why, "not the best learning rate and batch of its group (%.3g %% above)",
                 100.0 * (c[i].loss / best - 1.0));
}

static void drop_in_groups(const struct fpl_law *law, struct candidate *c, size_t count, double window,
                           int judge, struct fpl_left_out *why) {
    for (size_t begin = 0, end; begin < count; begin = end) {
        for (end = begin; end < count && by_group(&c[begin], &c[end], 0) == 0; end++) {
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

static enum fpl_code check_columns(const struct fpl_law *law, const struct fpl_runs *runs,
                                   struct fpl_error *err) {
    static const struct {
        const char *name;
        size_t offset;
        unsigned need;
    } columns[] = {
        {"N", offsetof(struct fpl_run, N), 0},
        {"D", offsetof(struct fpl_run, D), 0},
        {"loss", offsetof(struct fpl_run, loss), 0},
        {"lr", offsetof(struct fpl_run, lr), FPL_NEED_LR},
        {"batch_tokens", offsetof(struct fpl_run, batch_tokens), FPL_NEED_LR},
        {"E", offsetof(struct fpl_run, E), FPL_NEED_FORMAT},
        {"M", offsetof(struct fpl_run, M), FPL_NEED_FORMAT},
        {"block", offsetof(struct fpl_run, block), FPL_NEED_FORMAT},
    };
    if (runs->count == 0)
        return fpl_fail(err, FPL_INVALID, "%s: %s: no runs are left to fit", runs->source, law->name);
    for (size_t c = 0; c < sizeof columns / sizeof columns[0]; c++) {
        if (columns[c].need != 0 && (law->use & columns[c].need) == 0) continue;
        size_t known = 0;
        for (size_t i = 0; i < runs->count; i++) {
            double x;
            memcpy(&x, (const char *)&runs->run[i] + columns[c].offset, sizeof x);
            known += isnan(x) ? 0 : 1;
        }
        if (known > 0) continue;
        if (strcmp(columns[c].name, "loss") == 0)
            for (size_t i = 0; i < runs->count; i++)
                if (runs->run[i].status != FPL_RUN_OK)
                    return fpl_fail(err, FPL_INVALID, "%s: %s: no run has a loss (run %s is %s)",
                                    runs->source, law->name, runs->run[i].run,
                                    fpl_status_names[runs->run[i].status]);
        return fpl_fail(err, FPL_INVALID,
                        "%s: %s needs column '%s', and no run has a value for it; --columns '%s=COLUMN' "
                        "names another column",
                        runs->source, law->name, columns[c].name, columns[c].name);
    }
    return FPL_OK;
}

void fpl_law_at_point(const struct fpl_point_at *at, const struct fpl_centre *centre,
                      struct fpl_law_at *out) {
    out->n = log(at->N) - centre->n;
    out->d = log(at->D) - centre->d;
    out->x = log(at->lr);
    out->y = log(at->batch_tokens);
    out->quantized = !isnan(at->E) && !isnan(at->M) && !isnan(at->block);
    out->e = out->quantized ? log((at->E + 0.5) / FPL_E_ORIGIN) : 0.0;
    out->m = out->quantized ? log((at->M + 0.5) / FPL_M_ORIGIN) : 0.0;
    out->g = out->quantized ? log2(at->block) : 0.0;
}

struct fpl_point_at fpl_point_of_run(const struct fpl_run *r) {
    return (struct fpl_point_at){r->N, r->D, r->lr, r->batch_tokens, r->E, r->M, r->block};
}

/* Rows of the candidates that were kept, in the order of the table. */
static void fill_rows(struct fpl_problem *p, const struct fpl_runs *runs, const struct candidate *c,
                      size_t count, const size_t *place) {
    double n = 0.0, d = 0.0;
    p->N[0] = p->D[0] = p->least_loss = HUGE_VAL;
    p->N[1] = p->D[1] = 0.0;
    size_t group = 0;
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            group += by_group(&c[i - 1], &c[i], 0) != 0;
            p->cells += by_group(&c[i - 1], &c[i], 1) != 0;
        }
        if (c[i].dropped) continue;
        struct fpl_row *row = &p->row[place[c[i].run]];
        row->run = c[i].run;
        row->cell = p->cells;
        row->group = group;
        row->target = log(c[i].loss);
        n += log(c[i].N);
        d += log(c[i].D);
        p->least_loss = fmin(p->least_loss, c[i].loss);
        p->N[0] = fmin(p->N[0], c[i].N);
        p->N[1] = fmax(p->N[1], c[i].N);
        p->D[0] = fmin(p->D[0], c[i].D);
        p->D[1] = fmax(p->D[1], c[i].D);
    }
    p->cells++;
    p->centre.n = n / (double)p->count;
    p->centre.d = d / (double)p->count;
    for (size_t i = 0; i < p->count; i++) {
        const struct fpl_point_at at = fpl_point_of_run(&runs->run[p->row[i].run]);
        fpl_law_at_point(&at, &p->centre, &p->row[i].at);
    }
}

static void set_parameters(struct fpl_problem *p) {
    const struct fpl_law *law = p->law;
    int quantized = 0;
    for (size_t i = 0; i < p->count; i++) quantized |= p->row[i].at.quantized;
    for (int j = 0; j < law->params; j++) {
        p->lo[j] = law->param[j].lo;
        p->hi[j] = j == law->floor_at ? p->least_loss : law->param[j].hi;
        const int precision =
            law->penalty_at >= 0 && ((j >= law->penalty_at && j < law->penalty_at + 3) || j == law->shift_at);
        p->active[j] = p->hi[j] > p->lo[j] && (quantized || !precision);
    }
}

int fpl_problem_active(const struct fpl_problem *problem) {
    int count = 0;
    for (int j = 0; j < problem->law->params; j++) count += problem->active[j];
    return count;
}

void fpl_problem_free(struct fpl_problem *problem) {
    free(problem->row);
    problem->row = NULL;
    problem->count = 0;
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

enum fpl_code fpl_rows_select(const struct fpl_law *law, const struct fpl_runs *runs, double window,
                              struct fpl_problem *problem, struct fpl_left_list *left,
                              struct fpl_error *err) {
    const int threads = problem->threads;
    memset(problem, 0, sizeof *problem);
    problem->law = law;
    problem->threads = threads;
    enum fpl_code code = check_columns(law, runs, err);
    if (code != FPL_OK) return code;

    struct fpl_left_out *why = calloc(runs->count, sizeof *why);
    struct candidate *c = malloc(runs->count * sizeof *c);
    size_t *place = malloc(runs->count * sizeof *place), count = 0;
    if (why == NULL || c == NULL || place == NULL) {
        code = fpl_fail(err, FPL_SYSTEM, "out of memory for %zu runs", runs->count);
        goto done;
    }
    for (size_t i = 0; i < runs->count; i++) {
        const struct fpl_run *r = &runs->run[i];
        if (refuse(law, r, why[i].why, sizeof why[i].why)) continue;
        const int q = is_quantized(r);
        c[count++] = (struct candidate){r->N,
                                        r->D,
                                        q ? r->E : -1.0,
                                        q ? r->M : -1.0,
                                        q ? r->block : -1.0,
                                        isnan(r->lr) ? 0.0 : r->lr,
                                        isnan(r->batch_tokens) ? 0.0 : r->batch_tokens,
                                        r->loss,
                                        i,
                                        0};
    }
    qsort(c, count, sizeof *c, by_everything);
    drop_in_groups(law, c, count, window > 0.0 ? window : HUGE_VAL, runs->lacks_status, why);

    for (size_t i = 0; i < runs->count; i++)
        if (why[i].why[0] == '\0') place[i] = problem->count++;
    code = list_left_out(runs, why, problem->count, left, err);
    if (code != FPL_OK) goto done;
    if (problem->count == 0) {
        code = fpl_fail(err, FPL_INVALID, "%s: %s: no run can be used; of run %s: %s", runs->source,
                        law->name, left->item[0].run, left->item[0].why);
        goto done;
    }
    problem->row = calloc(problem->count, sizeof *problem->row);
    if (problem->row == NULL) {
        code = fpl_fail(err, FPL_SYSTEM, "out of memory for %zu runs", problem->count);
        goto done;
    }
    fill_rows(problem, runs, c, count, place);
    set_parameters(problem);
    if ((law->use & FPL_NEED_FORMAT) != 0 && !problem->active[law->penalty_at])
        code = fpl_fail(err, FPL_INVALID, "%s: %s: none of the %zu runs that can be used is quantized",
                        runs->source, law->name, problem->count);
done:
    if (code != FPL_OK) fpl_problem_free(problem);
    free(why);
    free(c);
    free(place);
    return code;
}
