/* bowl.h - the bowl of bowl.c at eight points. */
#ifndef FPL_LAW_BOWL_H
#define FPL_LAW_BOWL_H

#include "elementary.h"

struct fpl_bowl_slopes {
    lanes du, dv, dt[6];
};

/* K(w; s) = w^2 phi(s w) and its derivatives in w and s: d/dw = 2 w (e^z - 1)/z = w (2 + z phi). */
FPL_INLINE lanes bowl_bend(lanes w, double s, lanes *by_w, lanes *by_s) {
    lanes slope;
    const lanes z = s * w, p = phi_of(z, &slope);
    *by_w = w * (2.0 + z * p);
    *by_s = w * w * w * slope;
    return w * w * p;
}

/* q(u, v); k1, k2 = e^t[0], e^t[3]. */
FPL_INLINE lanes bowl_of(const double t[6], double k1, double k2, lanes u, lanes v,
                         struct fpl_bowl_slopes *to) {
    lanes w1, s1, w2, s2;
    const lanes b1 = bowl_bend(u + t[1] * v, t[2], &w1, &s1), b2 = bowl_bend(v + t[4] * u, t[5], &w2, &s2);
    to->du = k1 * w1 + k2 * t[4] * w2;
    to->dv = k1 * t[1] * w1 + k2 * w2;
    to->dt[0] = k1 * b1;
    to->dt[1] = k1 * w1 * v;
    to->dt[2] = k1 * s1;
    to->dt[3] = k2 * b2;
    to->dt[4] = k2 * w2 * u;
    to->dt[5] = k2 * s2;
    return to->dt[0] + to->dt[3];
}

#endif
