/* optimum.c - the best model size for a budget, on one parameter vector of a fit.
 *
 *   min over ln N of L(N, D(N)),   D(N) = min((s C/N - 2 T)/6, max_D, D_crit(N, format))
 *
 * On the curve 6 N D = C a Chinchilla loss is a sum of two exponentials of ln N, convex, and stays
 * unimodal with the precision penalty (a third exponential); limits on D bend it but keep it
 * falling to their left.  A grid of ln N brackets the least value, so that a law with two hollows gets
 * its lower one, and golden sections follow to 1e-9 of ln N, where the loss itself is known to rounding.
 * From a hint a bracket of a factor 4 is tried first: resamples move an optimum little.
 *
 * A least value at the end of the grid is the law's answer only as far as was searched: it is marked
 * FPL_BOUND_SEARCH.  Memory and a given N are bounds that somebody chose, and are named as such.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

#define GRID 96
#define LEAST_N 1e2
#define MOST_N 1e30
#define LEAST_D 1e2
#define HINT_SPAN 1.4
#define TOLERANCE 1e-9

struct search {
    const struct fpl_fit_vector *v;
    const struct fpl_plan_format *format;
    const struct fpl_plan_limits *limits;
    double flop; /* that the format does within the budget */
};

static int given(double x) { return x > 0.0; } /* neither 0 nor NaN */

static double state_bytes(const struct fpl_plan_limits *limits) {
    return limits->state_bytes >= 0.0 ? limits->state_bytes : FPL_PLAN_STATE_BYTES;
}

double fpl_plan_memory(const struct fpl_plan_format *format, const struct fpl_plan_limits *limits, double N) {
    return N * (format->bytes + state_bytes(limits));
}

static double affordable_d(const struct search *s, double N) {
    const double T = given(s->limits->inference_tokens) ? s->limits->inference_tokens : 0.0;
    return (s->flop / N - 2.0 * T) / 6.0;
}

static double clamped_batch(const struct fpl_plan_limits *limits, double batch) {
    if (given(limits->batch_min) && batch < limits->batch_min) return limits->batch_min;
    if (given(limits->batch_max) && batch > limits->batch_max) return limits->batch_max;
    return batch;
}

static struct fpl_point_at point_of(const struct search *s, double N, double D) {
    const struct fpl_plan_format *f = s->format;
    return (struct fpl_point_at){N, D, (double)NAN, (double)NAN, f->E, f->M, f->block};
}

/* Loss at N and D; *batch is set where a limit moves it away from its optimum. */
static double loss_at(const struct search *s, double N, double D, double *batch) {
    struct fpl_point_at at = point_of(s, N, D);
    *batch = (double)NAN;
    if (given(s->limits->batch_min) || given(s->limits->batch_max)) {
        const double best = fpl_vector_batch(s->v, &at), clamped = clamped_batch(s->limits, best);
        if (clamped != best && !isnan(best)) at.batch_tokens = *batch = clamped;
    }
    return fpl_vector_loss(s->v, &at);
}

/* Tokens that are worth training on, and what limits them. */
static double tokens_of(const struct search *s, double N, unsigned *bounds) {
    double D = affordable_d(s, N), batch;
    *bounds = 0;
    if (given(s->limits->max_D) && D > s->limits->max_D) {
        D = s->limits->max_D;
        *bounds |= FPL_BOUND_MAX_D | FPL_BOUND_UNSPENT;
    }
    if (isnan(s->format->E) || !(D > LEAST_D)) return D;
    if (loss_at(s, N, D, &batch) <= loss_at(s, N, D * (1.0 - 1e-5), &batch)) return D;
    const struct fpl_point_at at = point_of(s, N, D);
    const double critical = fpl_vector_dcrit(s->v, &at);
    if (!(critical < D)) return D;
    *bounds = FPL_BOUND_D_CRIT | FPL_BOUND_UNSPENT;
    return critical;
}

static double loss_of_size(double log_n, const struct search *s) {
    unsigned bounds;
    double batch;
    const double N = exp(log_n), D = tokens_of(s, N, &bounds);
    if (!(D > 0.0)) return HUGE_VAL;
    const double loss = loss_at(s, N, D, &batch);
    return isnan(loss) ? HUGE_VAL : loss;
}

static void describe(const struct search *s, double N, double batch, struct fpl_plan_point *out) {
    struct fpl_point_at at = point_of(s, N, out->D);
    const double T = given(s->limits->inference_tokens) ? s->limits->inference_tokens : 0.0;
    out->batch_tokens = fpl_vector_batch(s->v, &at);
    if (!isnan(batch)) {
        at.batch_tokens = out->batch_tokens = batch;
        out->bounds |= FPL_BOUND_BATCH;
    }
    out->lr = fpl_vector_lr(s->v, &at);
    out->spent = (6.0 * N * out->D + 2.0 * N * T) / s->flop;
}

static int settle(const struct search *s, double N, struct fpl_plan_point *out) {
    double batch;
    *out = (struct fpl_plan_point){.N = N};
    out->D = tokens_of(s, N, &out->bounds);
    if (!(out->D >= 1.0)) return 0;
    out->loss = loss_at(s, N, out->D, &batch);
    if (!isfinite(out->loss)) return 0;
    if (given(s->limits->max_D) && out->D > s->limits->max_D * (1.0 - 1e-6)) out->bounds |= FPL_BOUND_MAX_D;
    describe(s, N, batch, out);
    return 1;
}

/* ---- the search -------------------------------------------------------------------------------- */

static double golden(const struct search *s, double low, double high, double tolerance) {
    const double ratio = 0.61803398874989485;
    double a = high - ratio * (high - low), b = low + ratio * (high - low);
    double fa = loss_of_size(a, s), fb = loss_of_size(b, s);
    while (high - low > tolerance * (1.0 + fabs(low))) {
        const int left = fa < fb;
        if (left)
            high = b, b = a, fb = fa;
        else
            low = a, a = b, fa = fb;
        if (left)
            a = high - ratio * (high - low), fa = loss_of_size(a, s);
        else
            b = low + ratio * (high - low), fb = loss_of_size(b, s);
        if (!(b > a)) break;
    }
    return 0.5 * (low + high);
}

/* ln N of the least loss on the grid; *end: it is the first (-1) or last (1) point. */
static double on_grid(const struct search *s, double low, double high, double *step, int *end) {
    int best = 0;
    double least = HUGE_VAL;
    *step = (high - low) / (GRID - 1);
    for (int i = 0; i < GRID; i++) {
        const double value = loss_of_size(low + *step * i, s);
        if (value < least) least = value, best = i;
    }
    *end = least == HUGE_VAL ? 2 : best == 0 ? -1 : best == GRID - 1;
    return low + *step * best;
}

/* Is the loss at the hint below that to both sides? */
static int brackets(const struct search *s, double hint, double low, double high) {
    if (!(hint - HINT_SPAN > low) || !(hint + HINT_SPAN < high)) return 0;
    const double middle = loss_of_size(hint, s);
    return middle < loss_of_size(hint - HINT_SPAN, s) && middle < loss_of_size(hint + HINT_SPAN, s);
}

static struct search search_of(const struct fpl_fit_vector *v, const struct fpl_plan_format *format,
                               const struct fpl_plan_limits *limits, double flop) {
    return (struct search){v, format, limits, flop * format->speed};
}

int fpl_plan_at_size(const struct fpl_fit_vector *v, const struct fpl_plan_format *format,
                     const struct fpl_plan_limits *limits, double flop, double N,
                     struct fpl_plan_point *out) {
    const struct search s = search_of(v, format, limits, flop);
    return settle(&s, N, out);
}

int fpl_plan_search(const struct fpl_fit_vector *v, const struct fpl_plan_format *format,
                    const struct fpl_plan_limits *limits, double flop, double hint, double tolerance,
                    struct fpl_plan_point *out) {
    const struct search s = search_of(v, format, limits, flop);
    const double T = given(limits->inference_tokens) ? limits->inference_tokens : 0.0;
    const double per = format->bytes + state_bytes(limits);
    const double held = given(limits->memory) && per > 0.0 ? limits->memory / per : HUGE_VAL;
    if (given(limits->N)) {
        if (limits->N > held * (1.0 + 1e-12) || !settle(&s, limits->N, out)) return 0;
        out->bounds |= FPL_BOUND_N;
        return 1;
    }
    const double most = fmin(MOST_N, s.flop / (2.0 * T + 6.0 * LEAST_D)), low = log(LEAST_N);
    const double high = log(fmin(most, held));
    double step, at;
    int end = 0;
    if (!(high > low)) return 0;
    if (given(hint) && brackets(&s, log(hint), low, high)) {
        at = golden(&s, log(hint) - HINT_SPAN, log(hint) + HINT_SPAN, tolerance);
    } else {
        const double grid = on_grid(&s, low, high, &step, &end);
        if (end == 2) return 0;
        at = golden(&s, fmax(low, grid - step), fmin(high, grid + step), tolerance);
    }
    /* the last point of the grid can still be the neighbour of an inner optimum */
    const int at_high = high - at < 1e-7 * high, at_low = at - low < 1e-7;
    if (!settle(&s, at_high ? exp(high) : at_low ? exp(low) : exp(at), out)) return 0;
    if (at_high) out->bounds |= held <= most ? FPL_BOUND_MEMORY : FPL_BOUND_SEARCH;
    if (at_low) out->bounds |= FPL_BOUND_SEARCH;
    if (out->spent > 1.0 - 1e-6) out->bounds &= ~(unsigned)FPL_BOUND_UNSPENT;
    return 1;
}

int fpl_plan_best(const struct fpl_fit_vector *v, const struct fpl_plan_format *format,
                  const struct fpl_plan_limits *limits, double flop, double hint,
                  struct fpl_plan_point *out) {
    return fpl_plan_search(v, format, limits, flop, hint, TOLERANCE, out);
}

void fpl_plan_bounds_text(unsigned bounds, char *text, size_t size) {
    static const struct {
        unsigned bound;
        const char *words;
    } rows[] = {{FPL_BOUND_MEMORY, "N is what the memory holds"},
                {FPL_BOUND_MAX_D, "D is at its limit"},
                {FPL_BOUND_D_CRIT, "D is the format's critical data size"},
                {FPL_BOUND_BATCH, "the batch is at its limit, not at the law's optimum"},
                {FPL_BOUND_SEARCH, "the law has no optimum inside the sizes searched (1e2 to 1e30): this "
                                   "is their end"},
                {FPL_BOUND_UNSPENT, "part of the budget is left unspent"}};
    text[0] = '\0';
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const size_t used = strlen(text);
        if (bounds & rows[i].bound)
            snprintf(text + used, size - used, "%s%s", used > 0 ? "; " : "", rows[i].words);
    }
}
