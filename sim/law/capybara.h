/* capybara.h - the floating-point quantization law's functions, shared with its parts, which hold
 * some of its parameters and place E, M and block in their own way. */
#ifndef FPL_LAW_CAPYBARA_H
#define FPL_LAW_CAPYBARA_H

#include "law_internal.h"

fpl_law_value fpl_capybara_log_loss, fpl_capybara_log_dcrit;
void fpl_capybara_publish(const struct fpl_law *law, const double *theta, const struct fpl_centre *centre,
                          double *published);
void fpl_capybara_internal(const struct fpl_law *law, const double *published,
                           const struct fpl_centre *centre, double *theta);
int fpl_capybara_start(const struct fpl_problem *problem, double (*theta)[FPL_LAW_PARAMS], int room);

#endif
