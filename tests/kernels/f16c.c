/* f16c.c - fp16 against the processor's own conversion (F16C: VCVTPS2PH, VCVTPH2PS), under `ovf`.
 *
 *     f16c [all]
 *
 * The stratified set of sweep.h, or with `all` every float32 value; exit status 77 where the
 * processor has no F16C.  The instructions are confined to one function, so that the check for
 * them runs anywhere. */
#include <stdio.h>
#include <string.h>

#include "sweep.h"

#ifdef FPL_X86
#include <cpuid.h>
#include <immintrin.h>

__attribute__((target("f16c"))) static void by_f16c(const void *context, int n, const float *x, float *want,
                                                    unsigned char *skip) {
    (void)context, (void)skip;
    for (int i = 0; i < n; i++)
        want[i] = _cvtsh_ss(_cvtss_sh(x[i], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

int main(int argc, char **argv) {
    const int every = argc > 1 && strcmp(argv[1], "all") == 0;
    struct sweep_result r;
    unsigned a, b, c = 0, d; /* __builtin_cpu_supports() of older compilers does not know it */
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_F16C)) {
        puts("no F16C: skipped");
        return 77;
    }
    if (sweep("fp16:rne:ovf", "F16C", 0, by_f16c, NULL, every, &r) != 0) return 1;
    return r.compared != (every ? (int64_t)1 << 32 : (int64_t)1 << 20);
}
#else
int main(void) {
    puts("not an x86 processor: skipped");
    return 77;
}
#endif
