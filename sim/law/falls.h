/* falls.h - what the falls of a learning rate have saved so far, of the multi-power law (falls.c). */
#ifndef FPL_FALLS_H
#define FPL_FALLS_H

/* Sum over falls of fall (1 - (1 + w)^-beta), w = exp(c - gamma (log_lr - at)) since, at most 1e15, and its
 * derivatives in beta, c and gamma. */
struct fpl_gain {
    double value, by_beta, by_c, by_gamma;
};
struct fpl_speed {
    double beta, c, gamma, at;
};
/* Adds `count` falls; since of the k-th: sum - before[k], 0 where that is negative.  The result does not
 * depend on the instruction set. */
void fpl_add_falls(struct fpl_gain *gain, const struct fpl_speed *speed, int count, const double *fall,
                   const double *log_lr, const double *before, double sum);

#endif
