/* identify.h - which parameters the data pin down (identify.c). */
#ifndef FPL_IDENTIFY_H
#define FPL_IDENTIFY_H

#include "fitting.h"

/* Sets fit->status to unidentified and fit->message to a plain sentence where the data leave a
 * parameter free; else the message tells of bounds and shape parameters, or is "". */
void fpl_identify(const struct fpl_objective *objective, const double *theta, struct fpl_fit *fit);

/* Condition number and pairs of parameters that trade off, as findings. */
void fpl_find_trades(const struct fpl_objective *objective, const double *theta, struct fpl_fit *fit);

#endif
