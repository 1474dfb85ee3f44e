/* bowl.c - the landscape of learning rate and batch around its optimum.
 *
 *   q(u, v) = k1 K(u + r1 v; s1) + k2 K(v + r2 u; s2)
 *   K(w; s) = 2 (e^(s w) - s w - 1) / s^2          (w^2 as s -> 0)
 *
 * u = ln(lr/lr*), v = ln(batch/batch*).  K is convex with minimum 0 at 0 and skewed by s, so q
 * is convex everywhere for positive k1, k2 (a sum of convex functions of linear forms), which
 * a polynomial of the same freedom is not.  The law multiplies the loss by e^q.
 *
 * Near s w = 0 the closed form cancels; there K = w^2 phi(s w) by the series of phi (elementary.h).
 */
#include "bowl.h"

#include "problem.h"

double fpl_bowl(const double t[6], double u, double v, double *du, double *dv, double *dt) {
    struct fpl_bowl_slopes to;
    const lanes q = bowl_of(t, exp(t[0]), exp(t[3]), all_of(u), all_of(v), &to);
    if (dt != NULL) {
        *du = to.du[0];
        *dv = to.dv[0];
        for (int j = 0; j < 6; j++) dt[j] = to.dt[j][0];
    }
    return q[0];
}

void fpl_bowl_of_form(const double h[3], double r1, double *t) {
    const double det = h[0] * h[2] - h[1] * h[1];
    const double k1 = det / (h[0] * r1 * r1 - 2.0 * h[1] * r1 + h[2]), k2 = h[2] - k1 * r1 * r1;
    t[0] = log(fmax(k1, 1e-6));
    t[1] = r1;
    t[3] = log(fmax(k2, 1e-6));
    t[4] = fmin(3.0, fmax(-3.0, (h[1] - k1 * r1) / fmax(k2, 1e-6)));
}

int fpl_bowl_mirror(const double t[6], double out[6]) {
    const double r1 = t[1], r2 = t[4];
    if (fabs(r1) < 1e-3 || fabs(r2) < 1e-3) return 0;
    out[0] = t[3] + 2.0 * log(fabs(r2));
    out[1] = 1.0 / r2;
    out[2] = t[5] * r2;
    out[3] = t[0] + 2.0 * log(fabs(r1));
    out[4] = 1.0 / r1;
    out[5] = t[2] * r1;
    return 1;
}
