/* curves.c - the loss curves of a study as a table, for the laws of whole trajectories (law.h).
 *
 * A run becomes one row per kept point, all with its id: `step` = steps done, `lr` = the rate of the
 * last of them, `loss`, and D and steps so far.  Points are the evaluations on the way where there are
 * at least eight (eval_every), which are the law's loss; otherwise the training losses of single
 * batches, which a fit averages over.  Rows without a loss stand for the turns of the schedule (end of
 * warm-up, begin of a decay), since rates between rows count as linear.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/config.h"
#include "../store/store.h"
#include "../train/schedule.h"
#include "study.h"

#define LEAST_EVALUATIONS 8

struct table {
    struct fpl_runs *runs;
    size_t room;
    struct fpl_error *err;
};

static enum fpl_code add_row(struct table *t, const struct fpl_run *of, const struct fpl_config *c,
                             int64_t step, double loss) {
    if (t->runs->count == t->room) {
        const size_t room = t->room == 0 ? 1024 : 2 * t->room;
        struct fpl_run *larger = realloc(t->runs->run, room * sizeof *larger);
        if (larger == NULL) return fpl_fail(t->err, FPL_SYSTEM, "out of memory for %zu points", room);
        t->runs->run = larger;
        t->room = room;
    }
    struct fpl_run *r = &t->runs->run[t->runs->count++];
    *r = *of;
    r->step = r->steps = (double)step;
    r->D = (double)step * of->batch_tokens;
    r->lr = fpl_learning_rate(c, step > 0 ? step - 1 : 0);
    r->loss = loss;
    return FPL_OK;
}

/* Steps at which the schedule turns, ascending; at most three. */
static int turns_of(const struct fpl_config *c, int64_t turn[3]) {
    const int64_t steps = fpl_config_steps(c), warm = fpl_warmup_steps(c) + 1;
    int count = 0;
    turn[count++] = warm;
    if (strcmp(c->schedule, "wsd") == 0) {
        const int64_t decay = (int64_t)(c->decay_share * (double)steps + 0.5);
        if (steps - decay > warm && decay > 0) turn[count++] = steps - decay;
    }
    if (steps > turn[count - 1]) turn[count++] = steps;
    return count;
}

/* The run's points and turns in one ascending order. */
static enum fpl_code add_curve(struct table *t, const struct fpl_run *of, const struct fpl_config *c,
                               const struct fpl_point *point, int64_t count) {
    int64_t turn[3], last = 0;
    const int turns = turns_of(c, turn);
    enum fpl_code code = FPL_OK;
    int k = 0;
    for (int64_t i = 0; i <= count && code == FPL_OK; i++) {
        const int64_t step = i < count ? point[i].step : INT64_MAX;
        for (; k < turns && turn[k] <= step && code == FPL_OK; k++)
            if (turn[k] != step && turn[k] > last) code = add_row(t, of, c, last = turn[k], (double)NAN);
        if (i == count || step <= last || code != FPL_OK) continue;
        code = add_row(t, of, c, last = step, point[i].loss);
    }
    return code;
}

static enum fpl_code add_run(struct table *t, struct fpl_store *store, const struct fpl_run *of) {
    struct fpl_record r = {0};
    struct fpl_config c;
    enum fpl_code code = fpl_store_get(store, of->run, &r, t->err);
    if (code == FPL_OK)
        code = fpl_config_from_canonical(r.canonical != NULL ? r.canonical : "", &c, NULL, NULL, t->err);
    if (code == FPL_OK) {
        const int evaluated = r.eval_count >= LEAST_EVALUATIONS;
        code = add_curve(t, of, &c, evaluated ? r.eval : r.curve, evaluated ? r.eval_count : r.curve_count);
    }
    fpl_record_free(&r);
    return code;
}

enum fpl_code fpl_study_curves(struct fpl_store *store, struct fpl_runs *out, struct fpl_error *err) {
    struct fpl_runs whole;
    struct table t = {out, 0, err};
    memset(out, 0, sizeof *out);
    enum fpl_code code = fpl_store_runs(store, &whole, err);
    if (code != FPL_OK) return code;
    memcpy(out->source, whole.source, sizeof out->source);
    memcpy(out->hash, whole.hash, sizeof out->hash);
    for (size_t i = 0; i < whole.count && code == FPL_OK; i++) code = add_run(&t, store, &whole.run[i]);
    fpl_runs_free(&whole);
    if (code != FPL_OK) fpl_runs_free(out);
    return code;
}
