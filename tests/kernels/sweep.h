/* sweep.h - the rounder and the vector kernels against another implementation, on many inputs.
 *
 * A peer says what float32 bit patterns become; the scalar rounder (formats/round.h) and the CPU
 * kernels are compared with it, bit for bit, all NaNs being equal.  Two sets of inputs:
 *
 *   stratified  every value of the upper 16 bits times 16 values of the lower ones, around zero
 *               and the middle: 2^20 inputs.  For formats of at most 6 mantissa bits these hold
 *               both sides of every boundary.  The kernels run at each level that the CPU has.
 *   every       all 2^32 float32 values, in two threads.  The kernels run at the level of the
 *               process (FPLAW_SIMD lowers it).
 */
#ifndef FPL_TESTS_SWEEP_H
#define FPL_TESTS_SWEEP_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* want[i] = what x[i] becomes; skip[i] (0 on entry) = 1: not comparable.  Called by several threads
 * at once; x ascends by bit pattern within a call. */
typedef void (*sweep_peer)(const void *context, int n, const float *x, float *want, unsigned char *skip);

struct sweep_result {
    int64_t compared, skipped; /* inputs */
    int64_t scalar, vector;    /* differences */
};

/* An unscaled quantizer such as "e4m3fn:rne:sat".  any_zero: a zero's sign is not compared.
 * Prints the first differences and a line of counts; returns the number of differences, or -1
 * where the quantizer is not accepted or no device opens. */
int64_t sweep(const char *quantizer, const char *peer_name, int any_zero, sweep_peer peer,
              const void *context, int every, struct sweep_result *result);

#ifdef __cplusplus
}
#endif
#endif
