/* restart.h - is a minimum the minimum?  (restart.c) */
#ifndef FPL_RESTART_H
#define FPL_RESTART_H

#include "fitting.h"

/* The minimum from theta; of absolute residuals by smaller and smaller deltas, down to the objective's. */
void fpl_descend(const struct fpl_objective *objective, enum fpl_objective_kind kind, double *theta,
                 double tolerance, struct fpl_minimum *out);

/* Delta at which Huber's loss stands for |r|, of residuals of this scale. */
double fpl_absolute_delta(double scale);

#define FPL_JITTERS 3
/* Restarts of a minimum: from jittered parameters, from the bowl's other parametrisation, and from the
 * minima of the models nested in this one.  1: a lower one was found; theta and *minimum are it, polished.
 * *back: jittered ones that came back. */
int fpl_restart(const struct fpl_objective *objective, enum fpl_objective_kind kind, int round, double *theta,
                struct fpl_minimum *minimum, int *back);

/* The k-th model nested in the objective's (nested.c), minimised from theta: at and *value; the number of
 * parameters that it has less, 0: the law or its data have no such parameter, -1: past the last. */
int fpl_nested_minimum(const struct fpl_objective *full, const double *theta, size_t k, double *at,
                       double *value);

#endif
