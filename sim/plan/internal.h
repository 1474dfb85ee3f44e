/* internal.h - shared inside sim/plan. */
#ifndef FPL_PLAN_INTERNAL_H
#define FPL_PLAN_INTERNAL_H

#include "plan.h"

/* fpl_plan_best with ln N to a tolerance (a share of 1 + ln N): a loss is known to its square. */
int fpl_plan_search(const struct fpl_fit_vector *v, const struct fpl_plan_format *format,
                    const struct fpl_plan_limits *limits, double flop, double hint, double tolerance,
                    struct fpl_plan_point *out);

/* The recipe of a run in this format that computes as the fit's own (like.c); 0: there is none. */
int fpl_recipe_like(const struct fpl_fit *fit, const struct fpl_plan_format *format, char *out, size_t size);

/* Values of one decision on every resample of a fit: count rows of `width`. */
struct fpl_samples {
    size_t count, width;
    double *value; /* [width][count] */
};
int fpl_samples_make(const struct fpl_fit *fit, size_t width, struct fpl_samples *out); /* 0: no memory */
void fpl_samples_free(struct fpl_samples *s);
static inline double *fpl_samples_of(const struct fpl_samples *s, size_t column) {
    return s->value + column * s->count;
}

#endif
