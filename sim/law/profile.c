/* profile.c - profile-likelihood intervals: how far a parameter can go when all others follow.
 *
 * The parameter (its logarithm where it is published as a positive prefactor) is held by a pin
 * (struct fpl_pin), everything else is minimised again, and the interval ends where
 *
 *   2 (F(c) - F_min) E psi' / E psi^2 = chi^2_1(level)
 *
 * (nested.c: the same likelihood-ratio-type statistic).  Each end is bracketed by doubling the distance
 * and closed by the regula falsi on the square root of the statistic, which is nearly a line.  An end
 * that is not reached within 1e5 first steps (each a standard error with all others held) is infinite: the
 * data do not bound the parameter on that side.  Unlike the bootstrap it knows ridges and bounds, but takes
 * runs as independent.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../base/number.h"
#include "findings.h"

#define SHARP 1e-3 /* the pin is 1/SHARP^2 times as stiff as the data */
#define FARTHEST 1e5

struct walk {
    const struct fpl_objective *objective;
    struct fpl_pin pin;
    double theta[FPL_LAW_PARAMS]; /* of the last point, where the next one starts */
    double best, factor;
};

/* Square root of the statistic at a value of the parameter. */
static double distance(struct walk *w, double at) {
    struct fpl_objective o = *w->objective;
    struct fpl_minimum minimum;
    w->pin.at = at;
    o.pin = &w->pin;
    fpl_minimise(&o, w->theta, 200, 1e-9, &minimum);
    return sqrt(fmax(0.0, 2.0 * w->factor * (minimum.value - w->best)));
}

/* The end on one side of `from`; first: a step of about one standard error. */
static double find_end(struct walk *w, const double *theta, double from, double first, double want) {
    double inner = from, inner_value = 0.0, step = first, outer = from, outer_value = 0.0;
    memcpy(w->theta, theta, sizeof w->theta);
    while (outer_value < want) {
        if (fabs(step) > FARTHEST * fabs(first)) return step > 0.0 ? HUGE_VAL : -HUGE_VAL;
        inner = outer;
        inner_value = outer_value;
        outer = from + step;
        outer_value = distance(w, outer);
        step *= 2.0;
    }
    for (int i = 0; i < 40 && fabs(outer - inner) > 1e-4 * fabs(outer - from); i++) {
        double t = (want - inner_value) / (outer_value - inner_value);
        t = fmin(0.9, fmax(0.1, t));
        const double middle = inner + t * (outer - inner), value = distance(w, middle);
        if (value < want)
            inner = middle, inner_value = value;
        else
            outer = middle, outer_value = value;
    }
    return 0.5 * (inner + outer);
}

/* Is parameter j published as a positive number whose logarithm is what moves? */
static int is_prefactor(const struct fpl_problem *p, const double *theta, int j) {
    double moved[FPL_LAW_PARAMS], a[FPL_LAW_PARAMS], b[FPL_LAW_PARAMS];
    memcpy(moved, theta, sizeof moved);
    p->law->publish(p->law, moved, &p->centre, a);
    moved[j] += 0.5;
    p->law->publish(p->law, moved, &p->centre, b);
    return a[j] > 0.0 && fabs(b[j] / a[j] - exp(0.5)) < 1e-9;
}

static void profile_one(struct fpl_fit *fit, const struct fpl_objective *objective, const double *theta,
                        int j, double best, double factor) {
    const struct fpl_problem *p = objective->problem;
    struct walk w = {.objective = objective, .best = best, .factor = factor};
    w.pin.param = j;
    w.pin.log = is_prefactor(p, theta, j);
    const double want = fpl_normal_width(fit->level);
    const double from = w.pin.log ? log(fit->value[j]) : fit->value[j];
    /* A first step: the standard error with all others held, which is too small on a ridge. */
    double h[FPL_LAW_PARAMS * FPL_LAW_PARAMS];
    fpl_information(objective, theta, h);
    const double own = h[j * p->law->params + j],
                 first = own > 0.0 ? fmin(1.0, 1.0 / sqrt(own * factor)) : 0.1;
    w.pin.width = SHARP / sqrt(fmax(own, 1e-6));
    const double low = find_end(&w, theta, from, -first, want), high = find_end(&w, theta, from, first, want);
    fit->profiled[j] = 1;
    fit->profile[j] =
        (struct fpl_estimate){fit->value[j], w.pin.log ? exp(low) : low, w.pin.log ? exp(high) : high};
}

enum fpl_code fpl_profile(struct fpl_fit *fit, const struct fpl_objective *objective, const double *theta,
                          const char *list, struct fpl_error *err) {
    const struct fpl_law *law = fit->law;
    const double factor = fpl_test_factor(objective, theta, fpl_problem_active(objective->problem));
    double at[FPL_LAW_PARAMS];
    struct fpl_minimum minimum;
    memcpy(at, theta, sizeof at);
    fpl_minimise(objective, at, 300, 1e-10, &minimum);
    while (*list != '\0') {
        char name[64];
        const size_t length = strcspn(list, ",");
        snprintf(name, sizeof name, "%.*s", (int)(length < 60 ? length : 60), list);
        list += length + (list[length] == ',');
        int j = 0;
        while (j < law->params && strcmp(law->param[j].name, name) != 0) j++;
        if (j == law->params)
            return fpl_fail(err, FPL_INVALID, "--profile: law %s has no parameter '%s'", law->name, name);
        if (!objective->problem->active[j])
            return fpl_fail(err, FPL_INVALID, "--profile: '%s' is held in this fit of %s", name, law->name);
        profile_one(fit, objective, at, j, minimum.value, factor);
    }
    return FPL_OK;
}
