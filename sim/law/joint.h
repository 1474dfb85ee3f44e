/* joint.h - where things are in theta of joint (joint.c), and its values (joint_rows.c). */
#ifndef FPL_LAW_JOINT_H
#define FPL_LAW_JOINT_H

#include "base.h"

/* Offsets from gamma. */
enum { GAMMA, DELTA, NU, LR_C, LR_N, LR_D, BATCH_C, BATCH_N, BATCH_D, K1, R1, S1, K2, R2, S2, SHIFT, TAIL };

/* Exponents of the penalty: the base's, or its own behind them. */
static inline int joint_alpha(const struct fpl_law *law) {
    return law->base->alpha_at >= 0 ? law->base->alpha_at : law->base->params;
}

static inline int joint_beta(const struct fpl_law *law) {
    return law->base->beta_at >= 0 ? law->base->beta_at : law->base->params + 1;
}

fpl_law_rows fpl_joint_rows;

#endif
