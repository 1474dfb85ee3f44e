/* objective.h - value, gradient and curvature of the objective (minimise.h) at one theta: what the
 * minimisers of minimise.c step by. */
#ifndef FPL_LAW_OBJECTIVE_H
#define FPL_LAW_OBJECTIVE_H

#include "minimise.h"

/* The parameters that are fitted, by their index in theta. */
struct fpl_layout {
    int count, index[FPL_LAW_PARAMS];
};
struct fpl_layout fpl_layout_of(const struct fpl_problem *problem);

/* Over the parameters of a layout; curvature of the residuals inside delta and outside it (as iteratively
 * reweighted least squares has it), lower triangles, rows FPL_LAW_PARAMS apart. */
struct fpl_model {
    double value, gradient[FPL_LAW_PARAMS];
    double inside[FPL_LAW_PARAMS * FPL_LAW_PARAMS], outside[FPL_LAW_PARAMS * FPL_LAW_PARAMS];
};

/* Deterministic: rows in order, in lanes that do not depend on the instruction set; one thread. */
void fpl_objective_at(const struct fpl_objective *objective, const struct fpl_layout *layout,
                      const double *theta, int priors, struct fpl_model *out);

#endif
