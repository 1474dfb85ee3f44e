/* distribution.c - the few probabilities that fits speak of. */
#include <math.h>

#include "fitting.h"

double fpl_normal_width(double level) {
    double low = 0.0, high = 40.0;
    for (int i = 0; i < 200; i++) {
        const double middle = 0.5 * (low + high);
        if (erf(middle / sqrt(2.0)) < level)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Q(k/2, x/2), the upper incomplete gamma ratio: its series below k + 2, else Legendre's continued
 * fraction by Lentz's method (Abramowitz and Stegun 6.5.29, 6.5.31). */
double fpl_chi_squared_above(double x, double freedom) {
    const double a = 0.5 * freedom, z = 0.5 * x;
    if (!(z > 0.0)) return 1.0;
    const double front = exp(a * log(z) - z - lgamma(a));
    if (z < a + 1.0) {
        double term = 1.0 / a, sum = term;
        for (int k = 1; k < 1000 && term > 1e-17 * sum; k++) {
            term *= z / (a + k);
            sum += term;
        }
        return fmax(0.0, 1.0 - front * sum);
    }
    double b = z + 1.0 - a, c = 1e300, d = 1.0 / b, value = d;
    for (int k = 1; k < 1000; k++) {
        const double n = -k * (k - a);
        b += 2.0;
        d = 1.0 / (n * d + b);
        c = b + n / c;
        value *= d * c;
        if (fabs(d * c - 1.0) < 1e-15) break;
    }
    return front * value;
}
