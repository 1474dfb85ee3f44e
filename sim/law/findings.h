/* findings.h - what a fit finds out about itself and tells in sentences (fpl_finding). */
#ifndef FPL_LAW_FINDINGS_H
#define FPL_LAW_FINDINGS_H

#include "fitting.h"

/* Nested models compared: is a parameter needed, are two equal (nested.c). */
enum fpl_code fpl_find_nested(struct fpl_fit *fit, const struct fpl_objective *objective, const double *theta,
                              const struct fpl_runs *runs, struct fpl_error *err);
/* Patterns that residuals show against covariates, and the noise floor (residuals.c). */
enum fpl_code fpl_find_patterns(struct fpl_fit *fit, const struct fpl_objective *objective,
                                const double *theta, const struct fpl_runs *runs, double seed_noise,
                                double seed_freedom, struct fpl_error *err);
/* Profile-likelihood intervals of the listed parameters (profile.c). */
enum fpl_code fpl_profile(struct fpl_fit *fit, const struct fpl_objective *objective, const double *theta,
                          const char *list, struct fpl_error *err);

/* E psi' / E psi^2 of Huber's psi over the residuals: 2 (F0 - F1) times it is chi squared with as many
 * degrees as parameters differ (the likelihood-ratio-type test of Hampel et al. 1986, chapter 7);
 * for least squares it is 1/sigma^2. */
double fpl_test_factor(const struct fpl_objective *objective, const double *theta, int params);

#endif
