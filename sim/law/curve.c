/* curve.c - a learning-rate schedule as the laws of whole loss curves see it.
 *
 *   S1(s)  = sum_{i<=s} eta_i                          (arXiv 2408.11029, 2503.12811)
 *   m_i    = lambda m_(i-1) + (eta_(i-1) - eta_i),  S2(s) = sum_{i<=s} m_i,  lambda = 0.999
 *   sum_k (eta_(k-1) - eta_k) G(eta_k, S1(s) - S1(k-1))    the falls of the multi-power law
 *
 * A schedule is linear between its points, so on a segment the rate falls by one amount a step and
 * all sums have closed forms; only the state at the points is stored.  Warm-up is the schedule's
 * first rise: its rates count in S1, its rise is no (negative) annealing, and laws start after it.
 *
 * The multi-power sum has no closed form.  Its falls are grouped into at most 256 bins of equal
 * numbers of steps, each taken at its middle: a midpoint rule, whose error shrinks with the square
 * of the bin; a schedule of at most 256 falling steps is summed step by step, exactly.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "problem.h"

#define LAMBDA FPL_ANNEALING_MEMORY

/* ---- sums ------------------------------------------------------------------------------------ */

/* State `count` steps into a segment that falls by `fall` a step, from (lr, sum, momentum, area). */
struct state {
    double lr, sum, momentum, area;
};

static struct state advance(struct state s, double count, double fall) {
    const double decay = pow(LAMBDA, count), left = (1.0 - decay) / (1.0 - LAMBDA);
    struct state out;
    out.lr = s.lr - fall * count;
    out.sum = s.sum + count * s.lr - 0.5 * fall * count * (count + 1.0);
    out.momentum = decay * s.momentum + fall * left;
    out.area = s.area + LAMBDA * left * s.momentum + fall / (1.0 - LAMBDA) * (count - LAMBDA * left);
    return out;
}

static size_t segment_of(const struct fpl_curve *c, double step) {
    size_t low = 0, high = c->nodes;
    while (high - low > 1) {
        const size_t middle = (low + high) / 2;
        if (c->step[middle] <= step)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static struct state state_at(const struct fpl_curve *c, double step) {
    const size_t i = segment_of(c, step);
    const struct state s = {c->lr[i], c->sum[i], c->momentum[i], c->annealed[i]};
    const double fall = i + 1 < c->nodes ? (c->lr[i] - c->lr[i + 1]) / (c->step[i + 1] - c->step[i]) : 0.0;
    return advance(s, step - c->step[i], fall);
}

void fpl_curve_at(const struct fpl_curve *curve, double step, double *lr, double *sum, double *area) {
    const struct state s = state_at(curve, step);
    *lr = s.lr;
    *sum = s.sum;
    *area = s.area;
}

/* ---- falls ------------------------------------------------------------------------------------ */

/* The fall over steps a+1..b, its rate and the sum before, in the middle of those steps. */
static void fall_between(const struct fpl_curve *c, double a, double b, double out[3]) {
    out[0] = state_at(c, a).lr - state_at(c, b).lr;
    out[1] = log(fmax(state_at(c, 0.5 * (a + 1.0 + b)).lr, 1e-300));
    out[2] = state_at(c, fmax(a, 0.5 * (a + b - 1.0))).sum;
}

int fpl_curve_bins(const struct fpl_curve *curve, double step, double partial[3]) {
    int low = 0, high = curve->bins; /* first bin that ends beyond the step */
    while (low < high) {
        const int middle = (low + high) / 2;
        if (curve->bin_end[middle] <= step)
            low = middle + 1;
        else
            high = middle;
    }
    partial[0] = partial[1] = partial[2] = 0.0;
    const double from = low < curve->bins ? curve->bin_end[low] - curve->bin_steps[low] : step;
    if (step > from) fall_between(curve, from, step, partial);
    return low;
}

/* Bins of every segment that falls or rises; with out NULL their number. */
static int cut_bins(struct fpl_curve *c, double width, int fill) {
    int count = 0;
    for (size_t i = 0; i + 1 < c->nodes; i++) {
        const double a = c->step[i], length = c->step[i + 1] - a;
        if (c->lr[i] == c->lr[i + 1]) continue;
        const int pieces = (int)fmax(1.0, ceil(length / width - 1e-9));
        for (int k = 0; k < pieces; k++, count++) {
            if (!fill) continue;
            double fall[3];
            const double begin = a + floor(length * k / pieces),
                         end = k + 1 == pieces ? c->step[i + 1] : a + floor(length * (k + 1) / pieces);
            fall_between(c, begin, end, fall);
            c->bin_end[count] = end;
            c->bin_steps[count] = end - begin;
            c->drop[count] = fall[0];
            c->log_lr[count] = fall[1];
            c->before[count] = fall[2];
        }
    }
    return count;
}

static double falling_steps(const struct fpl_curve *c) {
    double sum = 0.0;
    for (size_t i = 0; i + 1 < c->nodes; i++)
        if (c->lr[i] != c->lr[i + 1]) sum += c->step[i + 1] - c->step[i];
    return sum;
}

static int make_bins(struct fpl_curve *c) {
    const double width = fmax(1.0, falling_steps(c) / FPL_CURVE_BINS);
    const int count = cut_bins(c, width, 0);
    double *memory = malloc(((size_t)count + 1) * 5 * sizeof *memory);
    if (memory == NULL) return 0;
    c->bin_end = memory;
    c->bin_steps = memory + count;
    c->drop = memory + 2 * (size_t)count;
    c->log_lr = memory + 3 * (size_t)count;
    c->before = memory + 4 * (size_t)count;
    c->bins = cut_bins(c, width, 1);
    return 1;
}

/* ---- a curve ------------------------------------------------------------------------------------ */

void fpl_curve_free(struct fpl_curve *curve) {
    free(curve->step);
    free(curve->bin_end);
    memset(curve, 0, sizeof *curve);
}

/* Last point of the first rise. */
static size_t end_of_warmup(const struct fpl_schedule *s) {
    size_t i = 0;
    while (i + 1 < s->count && s->lr[i + 1] > s->lr[i]) i++;
    return i;
}

static enum fpl_code check(const struct fpl_schedule *s, struct fpl_error *err) {
    if (s->count == 0) return fpl_fail(err, FPL_INVALID, "a schedule without points");
    for (size_t i = 0; i < s->count; i++) {
        if (!(s->step[i] >= 0.0 && s->step[i] <= 1e15) || (i > 0 && !(s->step[i] > s->step[i - 1])))
            return fpl_fail(err, FPL_INVALID,
                            "a schedule's steps ascend from 0; point %zu is at step %g after %g", i + 1,
                            s->step[i], i > 0 ? s->step[i - 1] : 0.0);
        if (!(s->lr[i] >= 0.0 && s->lr[i] <= 1e15))
            return fpl_fail(err, FPL_INVALID, "learning rate %g at step %g: expected a number from 0 up",
                            s->lr[i], s->step[i]);
    }
    return FPL_OK;
}

/* Sum of the rates of warm-up, up to and with the point `last`. */
static double warmup_sum(const struct fpl_schedule *s, size_t last) {
    struct state now = {s->lr[0], s->step[0] * s->lr[0], 0.0, 0.0};
    for (size_t i = 0; i < last; i++) {
        const double steps = s->step[i + 1] - s->step[i];
        now.lr = s->lr[i];
        now = advance(now, steps, (s->lr[i] - s->lr[i + 1]) / steps);
    }
    return now.sum;
}

enum fpl_code fpl_curve_make(const struct fpl_schedule *schedule, struct fpl_curve *out,
                             struct fpl_error *err) {
    memset(out, 0, sizeof *out);
    const enum fpl_code code = check(schedule, err);
    if (code != FPL_OK) return code;
    const size_t warm = end_of_warmup(schedule), nodes = schedule->count - warm;
    double *memory = malloc(5 * nodes * sizeof *memory);
    if (memory == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory for a schedule of %zu points", nodes);
    out->nodes = nodes;
    out->step = memory;
    out->lr = memory + nodes;
    out->sum = memory + 2 * nodes;
    out->momentum = memory + 3 * nodes;
    out->annealed = memory + 4 * nodes;
    struct state now = {schedule->lr[warm], warmup_sum(schedule, warm), 0.0, 0.0};
    for (size_t i = 0; i < nodes; i++) {
        const size_t from = warm + i;
        if (i > 0) {
            const double steps = schedule->step[from] - schedule->step[from - 1];
            now = advance(now, steps, (schedule->lr[from - 1] - schedule->lr[from]) / steps);
            now.lr = schedule->lr[from];
        }
        out->step[i] = schedule->step[from];
        out->lr[i] = schedule->lr[from];
        out->sum[i] = now.sum;
        out->momentum[i] = now.momentum;
        out->annealed[i] = now.area;
    }
    out->warm_step = out->step[0];
    out->last_step = out->step[nodes - 1];
    if (make_bins(out)) return FPL_OK;
    fpl_curve_free(out);
    return fpl_fail(err, FPL_SYSTEM, "out of memory for a schedule");
}
