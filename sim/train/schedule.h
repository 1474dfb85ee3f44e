/* schedule.h - the learning rate of every step. */
#ifndef FPL_SCHEDULE_H
#define FPL_SCHEDULE_H

#include "../base/config.h"

/* Steps of linear warm-up: warmup * steps, rounded, at most steps - 1. */
int64_t fpl_warmup_steps(const struct fpl_config *c);

/* Rate of step 0 .. fpl_config_steps(c) - 1.
 *   warm-up   lr (step + 1) / (W + 1) for step < W; step W has the peak rate
 *   cosine    from lr at step W to lr_final at the last step, half a cosine wave
 *   wsd       lr, then linear to lr_final over the last decay_share of the steps
 *             (arXiv 2404.06395)
 *   constant  lr */
double fpl_learning_rate(const struct fpl_config *c, int64_t step);

#endif
