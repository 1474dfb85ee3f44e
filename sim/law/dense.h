/* dense.h - small dense linear algebra, row-major, and a minimum along a line (dense.c). */
#ifndef FPL_LAW_DENSE_H
#define FPL_LAW_DENSE_H

/* Solve the symmetric positive definite n x n system in place (a destroyed); 0: not definite. */
int fpl_solve(double *a, double *b, int n);
/* The same in two steps: Cholesky factor in place (0: not definite), then L y = b. */
int fpl_factor(double *a, int n);
void fpl_forward(const double *a, double *b, int n);
/* Eigenvalues (ascending) and vectors (columns of v) of a symmetric matrix (a destroyed). */
void fpl_eigen(double *a, double *values, double *v, int n);
/* Minimise x'Ax - 2 b'x over x >= 0, n <= 4; returns the minimum. */
double fpl_nonnegative(const double *a, const double *b, double *x, int n);
/* Golden-section minimum of f over [low, high], where f is unimodal; *value gets f there. */
double fpl_golden(double (*f)(double, void *), void *data, double low, double high, double *value);

#endif
