/* decision.h - the value of a decision on one parameter vector (decision.c). */
#ifndef FPL_PLAN_DECISION_H
#define FPL_PLAN_DECISION_H

#include "plan.h"

/* ln units; NaN: undefined on this vector. */
double fpl_decision_value(const struct fpl_decision_of *d, const struct fpl_fit_vector *v);

#endif
