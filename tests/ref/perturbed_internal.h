/* perturbed_internal.h - reading and writing with errors; shared by the perturbed_*.c files. */
#ifndef FPL_TEST_PERTURBED_INTERNAL_H
#define FPL_TEST_PERTURBED_INTERNAL_H

#include "harness.h"
#include "perturbed.h"

static inline struct bounded get(const double *p) { return exactly(*p); }

static inline void put(double *p, struct bounded x) { *p = harness_draw() & 1 ? x.v + x.e : x.v - x.e; }

void perturbed_attention_forward(struct fpl_device *dev, int R, int64_t B, int64_t T, int64_t H, int64_t D,
                                 const double *cosines, const double *sines, double *qkv, double *probs,
                                 double *out, const struct fpl_attention *quantized);
void perturbed_attention_backward(struct fpl_device *dev, int R, int64_t B, int64_t T, int64_t H, int64_t D,
                                  const double *cosines, const double *sines, const double *qkv,
                                  const double *probs, const double *out, const double *dout, double *dqkv,
                                  const struct fpl_attention *quantized);

/* Scores x[n] become exponentials exp(x[j] - max) with bounds; returns their sum.  What softmax
 * gives does not depend on the shift, so the shift has no error of its own; subtracting it
 * rounds once. */
struct bounded perturbed_exponentials(struct bounded *x, int64_t n, double *max);

#endif
