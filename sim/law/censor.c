/* censor.c - diverged runs as what they are: losses known only to be high.
 *
 * A run that diverged at a learning rate says that the bowl is steep there, though not how steep.
 * With --censor every diverged or collapsed run of a cell that the fit uses (and, in a table without
 * a status column, every run above 1.2 times the least loss of its group) becomes a row with the
 * target ln(1.2 x least loss of its group): predictions above it cost nothing, predictions below it
 * are residuals like any other (a one-sided, Tobit-like term under Huber's loss).
 *
 * Only laws with a bowl can use them; they do not count in the residuals' scale and root mean square.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "problem.h"

#define DIVERGED_FACTOR 1.2 /* of rows.c */

static int same(double a, double b) { return a == b || (isnan(a) && isnan(b)); }

/* A row of the same group whose least loss bounds the run from below. */
static const struct fpl_row *row_of_group(const struct fpl_problem *p, const struct fpl_runs *runs,
                                          const struct fpl_run *r) {
    for (size_t i = 0; i < p->count; i++) {
        const struct fpl_run *o = &runs->run[p->row[i].run];
        if (o->N == r->N && o->D == r->D && same(o->E, r->E) && same(o->M, r->M) &&
            same(o->block, r->block) && !p->row[i].censored)
            return &p->row[i];
    }
    return NULL;
}

static double least_of_group(const struct fpl_problem *p, size_t group) {
    double least = HUGE_VAL;
    for (size_t i = 0; i < p->count; i++)
        if (p->row[i].group == group && !p->row[i].censored) least = fmin(least, p->row[i].target);
    return least;
}

static int usable(double x) { return isfinite(x) && x > 0.0; }

static int diverged(const struct fpl_run *r, const char *why) {
    return r->status == FPL_RUN_DIVERGED || r->status == FPL_RUN_COLLAPSED ||
           strncmp(why, "counts as diverged", 18) == 0;
}

/* The table's run by its name; names are unique in stores and line numbers elsewhere. */
static const struct fpl_run *run_named(const struct fpl_runs *runs, const char *name) {
    for (size_t i = 0; i < runs->count; i++)
        if (strcmp(runs->run[i].run, name) == 0) return &runs->run[i];
    return NULL;
}

enum fpl_code fpl_censor_rows(struct fpl_problem *problem, const struct fpl_runs *runs,
                              struct fpl_left_list *left, struct fpl_error *err) {
    const struct fpl_law *law = problem->law;
    if ((law->use & FPL_NEED_LR) == 0 || (law->use & FPL_OPTIMA) != 0 || law->log_loss == NULL)
        return fpl_fail(
            err, FPL_INVALID,
            "--censor: law %s has no landscape of learning rates that a diverged run could tell of",
            law->name);
    struct fpl_row *row = realloc(problem->row, (problem->count + left->count) * sizeof *row);
    if (row == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory");
    problem->row = row;
    size_t kept = 0;
    for (size_t k = 0; k < left->count; k++) {
        const struct fpl_run *r = run_named(runs, left->item[k].run);
        const struct fpl_row *group = NULL;
        if (r != NULL && diverged(r, left->item[k].why) && usable(r->lr) && usable(r->batch_tokens))
            group = row_of_group(problem, runs, r);
        if (group == NULL) {
            left->item[kept++] = left->item[k];
            continue;
        }
        const struct fpl_question question = fpl_question_of_run(r);
        struct fpl_row *added = &problem->row[problem->count];
        memset(added, 0, sizeof *added);
        fpl_law_place(law, &question, &problem->centre, &added->at);
        added->target = log(DIVERGED_FACTOR) + least_of_group(problem, group->group);
        added->run = (size_t)(r - runs->run);
        added->cell = group->cell;
        added->group = group->group;
        added->censored = 1;
        problem->count++;
    }
    left->count = kept;
    return fpl_problem_columns(problem) ? FPL_OK : fpl_fail(err, FPL_SYSTEM, "out of memory");
}
