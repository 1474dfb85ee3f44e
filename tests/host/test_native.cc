/* test_native.cc - matrix units against the accumulators that stand for them (formats/accumulator.h, align).
 *
 * Products of operands in a unit's own formats, by cuBLASLt on the device and by `align` on the host; printed
 * is the share of equal results for every unit of fpl_accumulator_units, which documents what the hardware
 * does, FP8
 * ("native") with and without fast accumulation.  Required is only what holds for any order of sums: an error
 * below that of K truncated additions to the unit's w bits.  Host execution's library adds in one chain of
 * float32, so there the shares only show that the program counts.  77 where no library or device is found.
 *
 *   share of equal results    K = one group of the unit, and longer
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

#include "../../formats/accumulator.h"
#include "../../formats/code.h"
#include "../../kernels/cuda/cublaslt.h"

enum { M = 64, N = 64, WORKSPACE = FPL_HOST_EXECUTION ? 1 << 16 : 32 << 20 };

static int failures;

struct type {
    const char *name, *format; /* the unit's name ends in it; "": 16 bits */
    int lt, compute, bytes, fp8;
};
static const struct type types[] = {{"e4m3", "e4m3fn", FPL_LT_R_8F_E4M3, FPL_LT_COMPUTE_32F, 1, 1},
                                    {"e5m2", "e5m2ieee", FPL_LT_R_8F_E5M2, FPL_LT_COMPUTE_32F, 1, 1},
                                    {"bf16", "bf16", FPL_LT_R_16BF, FPL_LT_COMPUTE_32F, 2, 0},
                                    {"fp16", "fp16", FPL_LT_R_16F, FPL_LT_COMPUTE_32F, 2, 0},
                                    {"tf32", "tf32", FPL_LT_R_32F, FPL_LT_COMPUTE_32F_FAST_TF32, 4, 0}};

struct matrix {
    std::vector<float> value; /* [lines][K] */
    std::vector<unsigned char> code;
};

static uint64_t state = 1;
static double uniform(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<double>(state >> 11) * 0x1p-53;
}

/* Normal values of a few binades, rounded to the format. */
static struct matrix make(const struct type *t, int lines, int K) {
    struct fpl_format f;
    struct fpl_quantizer q;
    struct fpl_quantizer_plan plan;
    struct fpl_coder coder;
    struct fpl_error err;
    struct matrix m;
    if (fpl_format_parse(t->format, &f, &err) != FPL_OK || fpl_quantizer_parse(t->format, &q, &err) != FPL_OK)
        exit(1);
    fpl_quantizer_lower(&q, NULL, &plan);
    fpl_coder_lower(&f, &coder);
    m.value.resize(static_cast<size_t>(lines * K));
    m.code.resize(m.value.size() * static_cast<size_t>(t->bytes));
    for (float &v : m.value)
        v = static_cast<float>((uniform() + uniform() + uniform() + uniform() - 2) *
                               (uniform() < 0.1 ? 8 : 1));
    (void)fpl_quantize_reference(&plan, lines, K, K, 1, m.value.data(), m.value.data(), NULL, NULL);
    for (size_t i = 0; i < m.value.size(); i++) {
        const uint32_t code = t->bytes == 4 ? fpl_float_bits(m.value[i]) : fpl_encode(&coder, m.value[i]);
        for (int b = 0; b < t->bytes; b++)
            m.code[i * static_cast<size_t>(t->bytes) + static_cast<size_t>(b)] =
                static_cast<unsigned char>(code >> (8 * b));
    }
    return m;
}

/* ---- the device --------------------------------------------------------------------------------------- */

struct device {
    const struct fpl_lt *call;
    fpl_lt_handle handle;
    void *a, *b, *c, *workspace;
};

static int good(int status, const char *what) {
    if (status == 0) return 1;
    printf("%s: status %d\n", what, status);
    return 0;
}

static int open_device(struct device *d) {
    int count = 0;
    const struct fpl_lt_library *l = fpl_lt_library();
    if (!l->found || cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
        printf("skipped: %s\n", l->found ? "no device" : l->why);
        return 0;
    }
    d->call = &l->call;
    const size_t most = 4 * 64 * 4096;
    return good(d->call->create(&d->handle), "create") && good(cudaMalloc(&d->a, most), "memory") &&
           good(cudaMalloc(&d->b, most), "memory") &&
           good(cudaMalloc(&d->c, M * N * sizeof(float)), "memory") &&
           good(cudaMalloc(&d->workspace, WORKSPACE), "workspace");
}

static void close_device(struct device *d) {
    if (d->handle != NULL) (void)d->call->destroy(d->handle);
    void *const memory[] = {d->a, d->b, d->c, d->workspace};
    for (void *p : memory) (void)cudaFree(p);
}

/* out[M][N] = sum_k a[i][k] b[j][k].  In the library's words: D[N, M] = op T of b, a.  0: no such product
 * here. */
static int multiply(const struct device *d, const struct type *ta, const struct type *tb,
                    const struct matrix &a, const struct matrix &b, int K, int fast, float *out) {
    const int32_t transposed = FPL_LT_OP_T;
    const int8_t fast_flag = static_cast<int8_t>(fast);
    const uint32_t none = 0;
    const uint64_t most = WORKSPACE;
    const float one = 1.0f, zero = 0.0f;
    fpl_lt_desc desc = NULL;
    fpl_lt_layout la = NULL, lb = NULL, lc = NULL;
    fpl_lt_preference preference = NULL;
    struct fpl_lt_heuristic h;
    int found = 0;
    const uint64_t lines = K;
    int ok = good(d->call->desc_create(&desc, ta->compute, FPL_LT_R_32F), "desc") &&
             good(d->call->desc_set(desc, FPL_LT_DESC_TRANSA, &transposed, sizeof transposed), "op") &&
             (!ta->fp8 ||
              good(d->call->desc_set(desc, FPL_LT_DESC_FAST_ACCUM, &fast_flag, sizeof fast_flag), "fast")) &&
             good(d->call->layout_create(&la, ta->lt, lines, M, K), "a") &&
             good(d->call->layout_create(&lb, tb->lt, lines, N, K), "b") &&
             good(d->call->layout_create(&lc, FPL_LT_R_32F, N, M, N), "c") &&
             good(d->call->preference_create(&preference), "preference") &&
             good(d->call->preference_set(preference, FPL_LT_PREF_MAX_WORKSPACE_BYTES, &most, sizeof most),
                  "workspace") &&
             good(d->call->preference_set(preference, FPL_LT_PREF_REDUCTION_SCHEME_MASK, &none, sizeof none),
                  "scheme");
    for (int k = FPL_LT_PREF_MIN_ALIGNMENT_A_BYTES; ok && k <= FPL_LT_PREF_MIN_ALIGNMENT_D_BYTES; k++) {
        const uint32_t sixteen = 16;
        ok = good(d->call->preference_set(preference, k, &sixteen, sizeof sixteen), "alignment");
    }
    struct fpl_lt_heuristic list[8];
    const int status =
        ok ? d->call->heuristic(d->handle, desc, lb, la, lc, lc, preference, 8, list, &found) : 1;
    int usable = -1;
    for (int i = 0; status == FPL_LT_SUCCESS && i < found && usable < 0; i++)
        if (list[i].state == FPL_LT_SUCCESS) usable = i;
    if (usable >= 0) {
        h = list[usable];
        ok = good(cudaMemcpyAsync(d->a, a.code.data(), a.code.size(), cudaMemcpyHostToDevice, NULL),
                  "upload") &&
             good(cudaMemcpyAsync(d->b, b.code.data(), b.code.size(), cudaMemcpyHostToDevice, NULL),
                  "upload") &&
             good(d->call->matmul(d->handle, desc, &one, d->b, lb, d->a, la, &zero, d->c, lc, d->c, lc,
                                  &h.algorithm, d->workspace, WORKSPACE, NULL),
                  "matmul") &&
             good(cudaMemcpyAsync(out, d->c, M * N * sizeof(float), cudaMemcpyDeviceToHost, NULL),
                  "download") &&
             good(cudaDeviceSynchronize(), "waiting");
        failures += !ok;
    }
    if (desc != NULL) (void)d->call->desc_destroy(desc);
    if (la != NULL) (void)d->call->layout_destroy(la);
    if (lb != NULL) (void)d->call->layout_destroy(lb);
    if (lc != NULL) (void)d->call->layout_destroy(lc);
    if (preference != NULL) (void)d->call->preference_destroy(preference);
    return ok && usable >= 0;
}

/* ---- the comparison ------------------------------------------------------------------------------------ */

static float aligned_sum(const struct fpl_accumulator_plan *p, const float *a, const float *b, int K) {
    float acc = 0.0f;
    for (int k = 0; k < K; k += p->terms)
        acc = fpl_accumulate_align(p->fraction, acc, K - k < p->terms ? K - k : p->terms, a + k, 1, b + k, 1);
    return acc;
}

static double share(const struct fpl_accumulator_plan *p, const struct matrix &a, const struct matrix &b,
                    int K, const float *got) {
    int equal = 0;
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++)
            equal += fpl_float_bits(aligned_sum(p, &a.value[static_cast<size_t>(i * K)],
                                                &b.value[static_cast<size_t>(j * K)], K)) ==
                     fpl_float_bits(got[i * N + j]);
    return static_cast<double>(equal) / (M * N);
}

/* K additions, each truncated to 13 bits of the largest partial sum: the coarsest unit known. */
static void check_bound(const struct type *t, const struct matrix &a, const struct matrix &b, int K,
                        const float *got) {
    const double unit = t->fp8 ? 0x1p-12 : 0x1p-22;
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            double exact = 0, sum = 0;
            for (int k = 0; k < K; k++) {
                const double p = static_cast<double>(a.value[static_cast<size_t>(i * K + k)]) *
                                 static_cast<double>(b.value[static_cast<size_t>(j * K + k)]);
                exact += p;
                sum += fabs(p);
            }
            const double error = fabs(static_cast<double>(got[i * N + j]) - exact);
            if (error <= (K + 1) * unit * sum) continue;
            if (failures++ < 5)
                printf("%s, K = %d: element (%d, %d) is %a, exactly %a: beyond the bound\n", t->name, K, i, j,
                       static_cast<double>(got[i * N + j]), exact);
        }
}

/* Which units have these operands: *_fp8, *_tf32, and those without a suffix. */
static int is_unit_of(const struct fpl_accumulator_unit *u, const struct type *t) {
    const int fp8 = strstr(u->name, "_fp8") != NULL, tf32 = strstr(u->name, "_tf32") != NULL;
    return t->fp8 ? fp8 : t->bytes == 4 ? tf32 : !fp8 && !tf32;
}

static void compare(const struct device *d, const struct type *ta, const struct type *tb, int K, int fast) {
    const struct matrix a = make(ta, M, K), b = make(tb, N, K);
    std::vector<float> got(M * N);
    if (!multiply(d, ta, tb, a, b, K, fast, got.data())) {
        printf("%-5s x %-5s K = %4d%s: not on this device\n", ta->name, tb->name, K, fast ? " fast" : "");
        return;
    }
    check_bound(ta, a, b, K, got.data());
    printf("%-5s x %-5s K = %4d%s:", ta->name, tb->name, K, fast ? " fast" : "");
    for (const struct fpl_accumulator_unit *u = fpl_accumulator_units; u->name != NULL; u++) {
        struct fpl_accumulator parsed;
        struct fpl_accumulator_plan plan;
        struct fpl_error err;
        if (!is_unit_of(u, ta)) continue;
        if (fpl_accumulator_parse(u->name, &parsed, &err) != FPL_OK) exit(1);
        fpl_accumulator_lower(&parsed, &plan);
        printf(" %s (%s) %.4f", u->name, u->text, share(&plan, a, b, K, got.data()));
    }
    printf("\n");
}

int main(void) {
    struct device d;
    memset(&d, 0, sizeof d);
    if (!open_device(&d)) return 77;
    const int depths[] = {16, 32, 64, 128, 1024};
    for (int K : depths)
        for (const struct type &t : types) {
            compare(&d, &t, t.lt == FPL_LT_R_8F_E5M2 ? &types[0] : &t, K, 0);
            if (t.fp8) compare(&d, &t, t.lt == FPL_LT_R_8F_E5M2 ? &types[0] : &t, K, 1);
        }
    close_device(&d);
    return failures != 0;
}
