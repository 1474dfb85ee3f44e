/* dense.c - linear algebra of a few dozen unknowns: Cholesky, Jacobi eigenvalues, and
 * non-negative least squares of at most four.  Row-major, no allocation. */
#include <math.h>

#include "dense.h"

int fpl_factor(double *a, int n) {
    for (int j = 0; j < n; j++) {
        double pivot = a[j * n + j];
        const double whole = pivot;
        for (int k = 0; k < j; k++) pivot -= a[j * n + k] * a[j * n + k];
        if (!(pivot > 1e-14 * whole)) return 0;
        pivot = sqrt(pivot);
        a[j * n + j] = pivot;
        for (int i = j + 1; i < n; i++) {
            double sum = a[i * n + j];
            for (int k = 0; k < j; k++) sum -= a[i * n + k] * a[j * n + k];
            a[i * n + j] = sum / pivot;
        }
    }
    return 1;
}

void fpl_forward(const double *a, double *b, int n) {
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < i; k++) b[i] -= a[i * n + k] * b[k];
        b[i] /= a[i * n + i];
    }
}

int fpl_solve(double *a, double *b, int n) {
    if (!fpl_factor(a, n)) return 0;
    fpl_forward(a, b, n);
    for (int i = n - 1; i >= 0; i--) {
        for (int k = i + 1; k < n; k++) b[i] -= a[k * n + i] * b[k];
        b[i] /= a[i * n + i];
    }
    return 1;
}

/* One Jacobi rotation that clears a[p][q]. */
static void rotate(double *a, double *v, int n, int p, int q) {
    const double apq = a[p * n + q];
    if (apq == 0.0) return;
    const double theta = 0.5 * (a[q * n + q] - a[p * n + p]) / apq;
    const double t = copysign(1.0, theta) / (fabs(theta) + sqrt(theta * theta + 1.0));
    const double c = 1.0 / sqrt(t * t + 1.0), s = t * c;
    for (int k = 0; k < n; k++) {
        const double x = a[k * n + p], y = a[k * n + q];
        a[k * n + p] = c * x - s * y;
        a[k * n + q] = s * x + c * y;
    }
    for (int k = 0; k < n; k++) {
        const double x = a[p * n + k], y = a[q * n + k];
        a[p * n + k] = c * x - s * y;
        a[q * n + k] = s * x + c * y;
    }
    for (int k = 0; k < n; k++) {
        const double x = v[k * n + p], y = v[k * n + q];
        v[k * n + p] = c * x - s * y;
        v[k * n + q] = s * x + c * y;
    }
}

void fpl_eigen(double *a, double *values, double *v, int n) {
    for (int i = 0; i < n * n; i++) v[i] = i % (n + 1) == 0 ? 1.0 : 0.0;
    for (int sweep = 0; sweep < 60; sweep++) {
        double off = 0.0, diagonal = 0.0;
        for (int p = 0; p < n; p++) {
            diagonal += a[p * n + p] * a[p * n + p];
            for (int q = p + 1; q < n; q++) off += a[p * n + q] * a[p * n + q];
        }
        if (off <= 1e-30 * diagonal) break;
        for (int p = 0; p < n; p++)
            for (int q = p + 1; q < n; q++) rotate(a, v, n, p, q);
    }
    for (int i = 0; i < n; i++) values[i] = a[i * n + i];
    for (int i = 0; i < n; i++) { /* selection sort, columns along */
        int least = i;
        for (int j = i + 1; j < n; j++)
            if (values[j] < values[least]) least = j;
        const double value = values[i];
        values[i] = values[least];
        values[least] = value;
        for (int k = 0; k < n; k++) {
            const double x = v[k * n + i];
            v[k * n + i] = v[k * n + least];
            v[k * n + least] = x;
        }
    }
}

double fpl_nonnegative(const double *a, const double *b, double *x, int n) {
    double best = 0.0; /* the minimum over x = 0 */
    for (int j = 0; j < n; j++) x[j] = 0.0;
    for (int set = 1; set < 1 << n; set++) {
        double m[16], y[4], value = 0.0;
        int index[4], k = 0, feasible;
        for (int j = 0; j < n; j++)
            if (set >> j & 1) index[k++] = j;
        for (int i = 0; i < k; i++) {
            y[i] = b[index[i]];
            for (int j = 0; j < k; j++) m[i * k + j] = a[index[i] * n + index[j]];
        }
        feasible = fpl_solve(m, y, k);
        for (int i = 0; i < k && feasible; i++) {
            feasible = y[i] >= 0.0;
            value -= y[i] * b[index[i]];
        }
        if (!feasible || !(value < best)) continue;
        best = value;
        for (int j = 0; j < n; j++) x[j] = 0.0;
        for (int i = 0; i < k; i++) x[index[i]] = y[i];
    }
    return best;
}

double fpl_golden(double (*f)(double, void *), void *data, double low, double high, double *value) {
    const double ratio = 0.61803398874989485;
    double a = high - ratio * (high - low), b = low + ratio * (high - low), fa = f(a, data), fb = f(b, data);
    for (int i = 0; i < 60; i++) {
        if (fa < fb) {
            high = b;
            b = a;
            fb = fa;
            a = high - ratio * (high - low);
            fa = f(a, data);
        } else {
            low = a;
            a = b;
            fa = fb;
            b = low + ratio * (high - low);
            fb = f(b, data);
        }
    }
    *value = f(0.5 * (low + high), data);
    return 0.5 * (low + high);
}
