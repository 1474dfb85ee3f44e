/* manner.h - runs whose arithmetic a law's covariates do not tell apart (manner.c). */
#ifndef FPL_MANNER_H
#define FPL_MANNER_H

#include "problem.h"

/* Whether anything of a run is quantized. */
int fpl_run_is_quantized(const struct fpl_run *run);

/* How a recipe computes, apart from its formats' E and M and the width of its 1xB blocks, as a text that two
 * recipes share only if nothing else differs; "" for an empty recipe.  operands 0: which of the six
 * operands are quantized does not count either. */
#define FPL_MANNER_TEXT 1024
void fpl_manner_of(const char *recipe, int operands, char out[FPL_MANNER_TEXT]);

/* Of the quantized runs that are used so far (why[i] ""), those keep that compute as most of them do; the
 * others are left out with a reason.  *others: how many. */
enum fpl_code fpl_keep_one_manner(const struct fpl_law *law, const struct fpl_runs *runs,
                                  struct fpl_left_out *why, size_t *others, struct fpl_error *err);

/* Laws of one condition: every run used is of the same size, data and format as far as the law asks for it.
 */
enum fpl_code fpl_check_alike(const struct fpl_problem *problem, const struct fpl_runs *runs,
                              struct fpl_error *err);

#endif
