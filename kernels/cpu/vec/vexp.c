/* vexp.c - this level's exponential and logarithm over arrays.
 *
 * The operations inline nexp() and vlog(); these loops exist so that tests can hold each
 * level's code against its bound and against the other levels, value by value.
 * Missing lanes of the last vector are computed from zero (exp) or one (log) and dropped.
 */
#include "vexp.h"

void FPL_VEC(exp_array)(int64_t n, const float *x, float *out) {
    int64_t i = 0;
    for (; i + NL <= n; i += NL) nstore(out + i, nexp(nload(x + i)));
    nstore_n(out + i, nexp(nload_n(x + i, n - i)), n - i);
}

void FPL_VEC(log_array)(int64_t n, const double *x, double *out) {
    for (int64_t i = 0; i < n; i += 8) {
        double part[8] = {1, 1, 1, 1, 1, 1, 1, 1};
        size_t bytes = (size_t)(n - i < 8 ? n - i : 8) * sizeof(double);
        memcpy(part, x + i, bytes);
        vstored(part, vlog(vloadd(part)));
        memcpy(out + i, part, bytes);
    }
}
