/* capybara.h - the floating-point quantization law's functions, shared with its parts, which hold
 * some of its parameters and place E, M and block in their own way. */
#ifndef FPL_LAW_CAPYBARA_H
#define FPL_LAW_CAPYBARA_H

#include "block.h"

enum { CN, ALPHA, CD, BETA, EPS, GAMMA, DELTA, NU };

fpl_law_rows fpl_capybara_rows;
fpl_law_value fpl_capybara_log_dcrit;
void fpl_capybara_publish(const struct fpl_law *law, const double *theta, const struct fpl_centre *centre,
                          double *published);
void fpl_capybara_internal(const struct fpl_law *law, const double *published,
                           const struct fpl_centre *centre, double *theta);
int fpl_capybara_start(const struct fpl_problem *problem, double (*theta)[FPL_LAW_PARAMS], int room);

/* ln L and its gradient with the penalty g D^data_rise/N^size_rise/(gamma ...); g is 0 where nothing is
 * quantized.  The rises count as alpha and beta plus constants. */
FPL_INLINE void capybara_loop(const double *t, const struct fpl_block *at, double size_rise, double data_rise,
                              const struct fpl_values *out) {
    const double cn = t[CN], alpha = t[ALPHA], cd = t[CD], beta = t[BETA], eps = t[EPS], gamma = t[GAMMA],
                 delta = t[DELTA], nu = t[NU];
    lanes *const value = out->value, *const grad = out->grad;
    const int s = out->stride;
    for (int k = 0; k < at->count; k++) {
        const lanes n = at->n[k], d = at->d[k], e = at->e[k], m = at->m[k];
        const lanes first = exp_of(cn - alpha * n), second = exp_of(cd - beta * d);
        const lanes penalty = at->g[k] * exp_of(data_rise * d - size_rise * n - gamma - delta * e - nu * m);
        const lanes loss = first + second + eps + penalty, by = 1.0 / loss;
        const lanes a = first * by, b = second * by, p = penalty * by;
        value[k] = log_of(loss);
        grad[CN * s + k] = a;
        grad[ALPHA * s + k] = -(a + p) * n;
        grad[CD * s + k] = b;
        grad[BETA * s + k] = (p - b) * d;
        grad[EPS * s + k] = by;
        grad[GAMMA * s + k] = -p;
        grad[DELTA * s + k] = -p * e;
        grad[NU * s + k] = -p * m;
    }
}

#endif
