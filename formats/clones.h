/* clones.h - loops that the compiler makes once per instruction set, chosen when the program
 * is loaded.
 *
 * For plain loops outside the kernels whose speed matters: measures, dtype conversions.  Their
 * results do not depend on the choice: lanes are fixed by the source, contraction is off.
 * Sanitizers cannot follow the choosing function, so their builds have the baseline only.
 */
#ifndef FPL_CLONES_H
#define FPL_CLONES_H

#if defined(__x86_64__) && defined(__GNUC__) && defined(__linux__) && !defined(__clang__) &&                 \
    !defined(FPL_SANITIZED)
#define FPL_CLONES                                                                                           \
    __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"))) /* AVX-512, AVX2 */
#else
#define FPL_CLONES
#endif

#endif
