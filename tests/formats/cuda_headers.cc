/* cuda_headers.cc - the rounder against the CUDA toolkit's host conversions.
 *
 * cuda_fp8.h, cuda_fp6.h and cuda_fp4.h convert on the host, with no GPU: e4m3fn, e5m2ieee,
 * e3m2, e2m3 and e2m1 with SATFINITE, nearest even.  Compared on float32 bit patterns that
 * step through every exponent, all ties of the 8-bit formats included (the low 16 bits take
 * a few values around zero and the middle).  The 6- and 4-bit conversions map NaN to the
 * largest value, so NaN inputs are left out there.  The same file shows that C++ compiles
 * the rounder.
 */
#include <cuda_fp4.h>
#include <cuda_fp6.h>
#include <cuda_fp8.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "../../formats/format.h"

namespace {

float from_fp8(__nv_fp8_storage_t code, __nv_fp8_interpretation_t kind) {
    return __half2float(__half(__nv_cvt_fp8_to_halfraw(code, kind)));
}
float from_fp6(__nv_fp6_storage_t code, __nv_fp6_interpretation_t kind) {
    return __half2float(__half(__nv_cvt_fp6_to_halfraw(code, kind)));
}

float cuda_e4m3fn(float x) {
    return from_fp8(__nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3), __NV_E4M3);
}
float cuda_e5m2(float x) { return from_fp8(__nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E5M2), __NV_E5M2); }
float cuda_e3m2(float x) {
    return from_fp6(__nv_cvt_float_to_fp6(x, __NV_E3M2, cudaRoundNearest), __NV_E3M2);
}
float cuda_e2m3(float x) {
    return from_fp6(__nv_cvt_float_to_fp6(x, __NV_E2M3, cudaRoundNearest), __NV_E2M3);
}
float cuda_e2m1(float x) {
    return __half2float(
        __half(__nv_cvt_fp4_to_halfraw(__nv_cvt_float_to_fp4(x, __NV_E2M1, cudaRoundNearest), __NV_E2M1)));
}

struct row {
    const char *name;
    float (*convert)(float);
    bool nan_too;
};

/* Number of disagreements; prints the first few. */
long compare(const row &r) {
    static const uint32_t low[16] = {0,      1,      2,      0x7fff, 0x8000, 0x8001, 0xfffe, 0xffff,
                                     0x1000, 0x3fff, 0x4000, 0x4001, 0x1234, 0xabcd, 0xc000, 0x5555};
    fpl_format format;
    fpl_round plan;
    if (fpl_format_parse(r.name, &format, nullptr) != FPL_OK) return 1;
    fpl_round_lower(&format, FPL_RNE, 16, FPL_SAT, &plan);
    long compared = 0, wrong = 0;
    for (uint32_t high = 0; high < 0x10000u; high++) {
        for (uint32_t tail : low) {
            const float x = fpl_bits_float(high << 16 | tail);
            if (std::isnan(x) && !r.nan_too) continue;
            const float ours = fpl_round_value(&plan, x, 0), theirs = r.convert(x);
            compared++;
            if (std::isnan(ours) && std::isnan(theirs)) continue;
            if (fpl_float_bits(ours) == fpl_float_bits(theirs)) continue;
            if (wrong++ < 5)
                std::printf("%s: %a gives %a, the toolkit %a\n", r.name, (double)x, (double)ours,
                            (double)theirs);
        }
    }
    std::printf("%s: %ld of %ld differ\n", r.name, wrong, compared);
    return wrong + (compared < 1000000);
}

} // namespace

int main() {
    const row rows[] = {{"e4m3fn", cuda_e4m3fn, true},
                        {"e5m2ieee", cuda_e5m2, true},
                        {"e3m2", cuda_e3m2, false},
                        {"e2m3", cuda_e2m3, false},
                        {"e2m1", cuda_e2m1, false}};
    long wrong = 0;
    for (const row &r : rows) wrong += compare(r);
    return wrong == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
