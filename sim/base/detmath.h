/* detmath.h - exp, log, sin and cos in double from +, -, *, / and bit patterns alone.
 *
 * The C library picks its variants by CPU, and they differ in the last bit.  Where a result
 * decides data that must be the same on every machine (a token drawn, a table built), these
 * are used instead: every operation in them is correctly rounded by IEEE 754, so the bits
 * are the same wherever contraction is off (formats.md, section 2).
 *
 * Errors, against long double over the ranges below (tests/sim/test_data_detmath.c): at most
 * 2 ulp; sin and cos: an absolute error below 2^-52 (tests/sim/test_model_angles.c).
 * Not for hot loops: about 10 ns a call.
 */
#ifndef FPL_DETMATH_H
#define FPL_DETMATH_H

/* Natural logarithm of a finite normal x > 0. */
double fpl_det_log(double x);

/* e^x for |x| <= 700. */
double fpl_det_exp(double x);

/* sin x and cos x for |x| <= 2^20; NaN beyond. */
void fpl_det_sincos(double x, double *sine, double *cosine);

#endif
