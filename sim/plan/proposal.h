/* proposal.h - candidate runs of --next, shared by proposal.c and next.c. */
#ifndef FPL_PLAN_PROPOSAL_H
#define FPL_PLAN_PROPOSAL_H

#include "plan.h"

/* Every run inside the limits.  Malloced. */
enum fpl_code fpl_proposals_make(const struct fpl_fit *fit, const struct fpl_next_options *options,
                                 struct fpl_proposal **out, size_t *count, struct fpl_error *err);

#endif
