/* cuda_headers.cc - the rounder and the kernels against the CUDA toolkit's host conversions.
 *
 *     cuda_headers                   the stratified set of tests/kernels/sweep.h
 *     cuda_headers all               every float32 value
 *     cuda_headers tables DIRECTORY  writes cuda.FORMAT.txt for tests/kernels/golden.c
 *
 * cuda_fp8.h, cuda_fp6.h and cuda_fp4.h convert on the host, with no GPU: e4m3fn, e5m2ieee,
 * e3m2, e2m3 and e2m1 with SATFINITE, nearest even.  The 6- and 4-bit conversions map NaN to the
 * largest value, so NaN inputs are left out there.  The same file shows that C++ compiles
 * the rounder.
 */
#include <cuda_fp4.h>
#include <cuda_fp6.h>
#include <cuda_fp8.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "../../formats/format.h"
#include "../kernels/sweep.h"

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
    bool has_nan;
};

const row rows[] = {{"e4m3fn", cuda_e4m3fn, true},
                    {"e5m2ieee", cuda_e5m2, true},
                    {"e3m2", cuda_e3m2, false},
                    {"e2m3", cuda_e2m3, false},
                    {"e2m1", cuda_e2m1, false}};

void by_toolkit(const void *context, int n, const float *x, float *want, unsigned char *skip) {
    const row *r = static_cast<const row *>(context);
    for (int i = 0; i < n; i++) {
        want[i] = r->convert(x[i]);
        skip[i] = !r->has_nan && std::isnan(x[i]);
    }
}

/* The runs of equal results over all inputs in the order of their bits. */
bool write_table(const row &r, const char *directory) {
    const std::string path = std::string(directory) + "/cuda." + r.name + ".txt";
    std::FILE *f = std::fopen(path.c_str(), "w");
    if (f == nullptr) return false;
    std::fprintf(f,
                 "# What each float32 becomes: see tests/kernels/golden.c.  Made by `cuda_headers tables`.\n"
                 "peer CUDA toolkit %d.%d\nquantizer %s:rne:sat\n",
                 CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10, r.name);
    const uint64_t none = 1ull << 32; /* not comparable; none of float32's patterns */
    uint64_t last = none + 1;
    for (uint64_t bits = 0; bits < 1ull << 32; bits++) {
        const float x = fpl_bits_float(static_cast<uint32_t>(bits)), y = r.convert(x);
        uint64_t now = std::isnan(y) ? 0x7fc00000u : fpl_float_bits(y);
        if (!r.has_nan && std::isnan(x)) now = none;
        if (now == last) continue;
        last = now;
        if (now == none)
            std::fprintf(f, "%08x -\n", static_cast<unsigned>(bits));
        else
            std::fprintf(f, "%08x %08x\n", static_cast<unsigned>(bits), static_cast<unsigned>(now));
    }
    return std::fclose(f) == 0;
}

} // namespace

int main(int argc, char **argv) {
    const bool every = argc > 1 && std::strcmp(argv[1], "all") == 0;
    int failures = 0;
    for (const row &r : rows) {
        if (argc > 2 && std::strcmp(argv[1], "tables") == 0) {
            failures += !write_table(r, argv[2]);
            continue;
        }
        sweep_result result = {0, 0, 0, 0};
        const std::string quantizer = std::string(r.name) + ":rne:sat";
        if (sweep(quantizer.c_str(), "CUDA toolkit", 0, by_toolkit, &r, every, &result) != 0) failures++;
        if (result.compared < 1000000) failures++;
    }
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
