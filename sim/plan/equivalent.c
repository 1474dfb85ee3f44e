/* equivalent.c - what a format's gap is worth: the speed that makes up for it, and how much smaller a
 * reference run would have the same loss.
 *
 *   break-even   s with  best_format(s C) = best_ref(s_ref C),  as s/s_ref: above it the format wins
 *   same N       N'/N  with L_ref(N', D) = l        same D   D'/D with L_ref(N, D') = l
 *   same C       C'/C  with best_ref(C') = l
 *   l = L_format(N, D) at the reference's optimum (N, D)
 *
 * A best loss falls, or rests, as the budget grows (plan.h leaves tokens beyond the critical size unspent),
 * so each is one root.  It is found by Illinois' false position on ln loss against the logarithm: the curves
 * are nearly lines there, and about ten evaluations reach 1e-10.
 */
#include <math.h>

#include "internal.h"

#define MOST_SPEED 0x1p60
#define LEAST_SHARE 1e-12
#define STEPS 60
#define CLOSE 1e-11
#define COARSE 1e-7 /* of ln N */

/* f is decreasing over [low, high], f(low) >= 0 >= f(high); the root. */
static double falling_root(double (*f)(double, void *), void *data, double low, double high, double at_low,
                           double at_high) {
    double middle = low;
    int last = 0;
    for (int i = 0; i < STEPS && high - low > CLOSE; i++) {
        const double share = at_low / (at_low - at_high);
        middle = isfinite(share) ? low + share * (high - low) : 0.5 * (low + high);
        const double value = f(middle, data);
        if (value == 0.0) return middle;
        if (value > 0.0) {
            low = middle, at_low = value;
            if (last > 0) at_high *= 0.5;
            last = 1;
        } else {
            high = middle, at_high = value;
            if (last < 0) at_low *= 0.5;
            last = -1;
        }
        if (fabs(value) < 1e-14) break;
    }
    return middle;
}

struct target {
    const struct fpl_fit_vector *v;
    const struct fpl_plan_format *format;
    const struct fpl_plan_limits *limits;
    double flop, hint, log_loss;
    struct fpl_point_at at;
};

/* ln of the best loss at flop e^x over the target. */
static double best_above(double x, void *data) {
    struct target *t = data;
    struct fpl_plan_point p;
    if (!fpl_plan_search(t->v, t->format, t->limits, t->flop * exp(x), t->hint, COARSE, &p))
        return (double)HUGE_VAL;
    t->hint = p.N;
    return log(p.loss) - t->log_loss;
}

double fpl_plan_break_even(const struct fpl_fit_vector *v, const struct fpl_plan_format *format,
                           const struct fpl_plan_format *ref, const struct fpl_plan_limits *limits,
                           double flop, const double hint[2]) {
    struct fpl_plan_point base;
    if (!fpl_plan_best(v, ref, limits, flop, hint[1], &base)) return (double)NAN;
    struct target t = {
        .v = v, .format = format, .limits = limits, .hint = hint[0], .log_loss = log(base.loss)};
    t.flop = flop * ref->speed / format->speed;
    const double none = best_above(0.0, &t); /* at the reference's own speed */
    if (none == 0.0) return 1.0;
    /* widen by octaves, then by more, to the side where the root is */
    const double side = none > 0.0 ? 1.0 : -1.0;
    double near = 0.0, at_near = none;
    for (double step = log(2.0); fabs(near) < log(MOST_SPEED); step *= 1.7) {
        const double far = side * fmin(fabs(near) + step, log(MOST_SPEED));
        const double at_far = best_above(far, &t);
        if (side * at_far <= 0.0) {
            if (side > 0.0) return exp(falling_root(best_above, &t, near, far, at_near, at_far));
            return exp(falling_root(best_above, &t, far, near, at_far, at_near));
        }
        if (!isfinite(at_far) || far == near) break;
        near = far, at_near = at_far;
    }
    return side > 0.0 ? (double)HUGE_VAL : (double)NAN;
}

static double smaller_n(double x, void *data) {
    const struct target *t = data;
    struct fpl_point_at at = t->at;
    at.N *= exp(x);
    return log(fpl_vector_loss(t->v, &at)) - t->log_loss;
}

static double smaller_d(double x, void *data) {
    const struct target *t = data;
    struct fpl_point_at at = t->at;
    at.D *= exp(x);
    return log(fpl_vector_loss(t->v, &at)) - t->log_loss;
}

static double share_of(double (*f)(double, void *), struct target *t) {
    const double at_one = f(0.0, t);
    double near = 0.0, at_near = at_one;
    if (!(at_one <= 1e-13)) return (double)NAN; /* the loss is below the reference's own */
    if (at_one > -1e-13) return 1.0;
    for (double step = 0.25; near > log(LEAST_SHARE); step *= 1.7) {
        const double far = fmax(near - step, log(LEAST_SHARE)), at_far = f(far, t);
        if (isnan(at_far)) return (double)NAN;
        if (at_far >= 0.0) return exp(falling_root(f, t, far, near, at_far, at_near));
        near = far, at_near = at_far;
    }
    return (double)NAN;
}

void fpl_plan_equivalents(const struct fpl_fit_vector *v, const struct fpl_plan_format *ref,
                          const struct fpl_plan_limits *limits, double flop, const struct fpl_plan_point *at,
                          double loss, double share[3]) {
    struct target t = {v,
                       ref,
                       limits,
                       flop,
                       at->N,
                       log(loss),
                       {at->N, at->D, (double)NAN, (double)NAN, ref->E, ref->M, ref->block}};
    share[0] = share_of(smaller_n, &t);
    share[1] = share_of(smaller_d, &t);
    share[2] = share_of(best_above, &t);
}
