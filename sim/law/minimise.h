/* minimise.h - the objective of a fit and its minimisers (objective.c, minimise.c).
 */
#ifndef FPL_LAW_MINIMISE_H
#define FPL_LAW_MINIMISE_H

#include "problem.h"

/* Summed Huber loss of log residuals: sum of w r^2/2 for |r| <= delta, w delta (|r| - delta/2)
 * beyond; delta = HUGE_VAL: least squares; plus scale^2/2 ((theta - prior_at)/prior)^2. */
struct fpl_objective {
    const struct fpl_problem *problem;
    const double *weight; /* per row, NULL: 1 */
    double delta;
    double scale;              /* of one run, weighs the pseudo-runs of the priors */
    const struct fpl_pin *pin; /* NULL: none */
};

/* Holds one published parameter (its logarithm where it is positive) at a value, by a term
 * ((f - at)/width)^2/2 whose width is far below what the data tell. */
struct fpl_pin {
    int param, log;
    double at, width;
};

/* An objective below this is rounding: log residuals of 1e-10. */
double fpl_negligible(const struct fpl_problem *problem);

struct fpl_minimum {
    double value;     /* of the objective */
    double decrement; /* predicted further decrease, a share of the value */
    int iterations, converged;
};
/* Damped Gauss-Newton with Huber weights inside the bounds, from theta, to a predicted
 * decrease below tolerance * value. */
void fpl_minimise(const struct fpl_objective *objective, double *theta, int iterations, double tolerance,
                  struct fpl_minimum *out);
/* The same from far away: least squares first, then Huber's loss with a delta that falls to the objective's.
 */
void fpl_approach(const struct fpl_objective *objective, double *theta, int iterations, double tolerance,
                  struct fpl_minimum *out);
/* Newton's method with the Hessian by differences of the analytic gradient; near a minimum. */
void fpl_polish(const struct fpl_objective *objective, double *theta, struct fpl_minimum *out);
/* Log residuals: count of them for laws of the loss, 2 count for laws of optima. */
size_t fpl_residuals(const struct fpl_problem *problem, const double *theta, double *out);
/* Information matrix (Gauss-Newton Hessian, without priors), params x params. */
void fpl_information(const struct fpl_objective *objective, const double *theta, double *h);
/* Robust scale of residuals, 1.4826 median |r|, with sqrt(n/(n - p)); sorts its argument. */
double fpl_robust_scale(double *residual, size_t count, int params);

#endif
