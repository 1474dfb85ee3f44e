/* sweep.c - see sweep.h.  The inputs are numbered; threads take chunks of consecutive numbers and
 * only counts are shared, so the result does not depend on how the chunks fall. */
#include "sweep.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../kernels/kernels.h"

enum { CHUNK = 1 << 14, TAILS = 16, MOST_LEVELS = 3, SHOWN = 5 };

static const char *const level_names[MOST_LEVELS] = {"avx512", "avx2", "baseline"};

struct job {
    const char *name;
    struct fpl_operand operand;
    int any_zero, every, levels;
    const struct fpl_kernels *kernels[MOST_LEVELS];
    sweep_peer peer;
    const void *context;
    int64_t shown;
};

/* Input number i, ascending with i. */
static uint32_t input(int every, int64_t i) {
    static const uint16_t tails[TAILS] = {0,      1,      2,      0x1000, 0x1234, 0x3fff, 0x4000, 0x4001,
                                          0x5555, 0x7fff, 0x8000, 0x8001, 0xabcd, 0xc000, 0xfffe, 0xffff};
    if (every) return (uint32_t)i;
    return (uint32_t)(i / TAILS) << 16 | tails[i % TAILS];
}

static int differ(const struct job *j, float got, float want) {
    if (fpl_float_bits(got) == fpl_float_bits(want)) return 0;
    if (isnan(got) && isnan(want)) return 0;
    return !(j->any_zero && got == 0.0f && want == 0.0f);
}

static void show(struct job *j, const char *who, float x, float got, float want) {
#pragma omp critical(sweep_show)
    if (j->shown++ < SHOWN)
        printf("%s: %s makes %a of %a (%08x), the peer %a\n", j->name, who, (double)got, (double)x,
               fpl_float_bits(x), (double)want);
}

/* Differences of a chunk.  Most chunks have none, which one pass without branches sees. */
static int64_t differences(struct job *j, const char *who, const float *x, const float *got,
                           const float *want, const unsigned char *skip) {
    uint32_t any = 0;
    int64_t count = 0;
    for (int i = 0; i < CHUNK; i++) any |= fpl_float_bits(got[i]) ^ fpl_float_bits(want[i]);
    if (any == 0) return 0;
    for (int i = 0; i < CHUNK; i++) {
        if (skip[i] || !differ(j, got[i], want[i])) continue;
        count++;
        show(j, who, x[i], got[i], want[i]);
    }
    return count;
}

static void compare_chunk(struct job *j, struct fpl_device *const *devices, int64_t first,
                          struct sweep_result *sum) {
    const struct fpl_round round = j->operand.plan.round;
    float x[CHUNK], want[CHUNK], got[CHUNK];
    unsigned char skip[CHUNK] = {0};
    int skipped = 0;
    for (int i = 0; i < CHUNK; i++) x[i] = fpl_bits_float(input(j->every, first + i));
    j->peer(j->context, CHUNK, x, want, skip);
    for (int i = 0; i < CHUNK; i++) skipped += skip[i];
    sum->skipped += skipped;
    sum->compared += CHUNK - skipped;
    if (skipped == CHUNK) return;
    for (int i = 0; i < CHUNK; i++) got[i] = fpl_round_value(&round, x[i], 0);
    sum->scalar += differences(j, "the rounder", x, got, want, skip);
    for (int l = 0; l < j->levels; l++) {
        int64_t bad = 0;
        j->kernels[l]->quantize(devices[l], 1, 1, CHUNK, &j->operand, x, got, &bad);
        sum->vector += differences(j, "a vector kernel", x, got, want, skip);
    }
}

/* The kernels of each level that this CPU has, or of the process' level alone. */
static void take_levels(struct job *j) {
    const char *asked = getenv("FPLAW_SIMD");
    char kept[16] = "";
    if (asked != NULL) snprintf(kept, sizeof kept, "%s", asked);
    for (int l = 0; l < MOST_LEVELS && !j->every; l++) {
        setenv("FPLAW_SIMD", level_names[l], 1);
        if (strcmp(fpl_simd_level(), level_names[l]) == 0) j->kernels[j->levels++] = fpl_backend("cpu");
    }
    if (kept[0])
        setenv("FPLAW_SIMD", kept, 1);
    else
        unsetenv("FPLAW_SIMD");
    if (j->every) j->kernels[j->levels++] = fpl_backend("cpu");
}

static int open_devices(const struct job *j, struct fpl_device **devices) {
    for (int l = 0; l < j->levels; l++)
        if (j->kernels[l]->open(&devices[l], &(struct fpl_device_options){.threads = 1}, NULL) != FPL_OK)
            return 0;
    return 1;
}

int64_t sweep(const char *quantizer, const char *peer_name, int any_zero, sweep_peer peer,
              const void *context, int every, struct sweep_result *result) {
    struct job j = {
        .name = quantizer, .any_zero = any_zero, .every = every, .peer = peer, .context = context};
    struct fpl_quantizer q;
    struct sweep_result total = {0, 0, 0, 0};
    int failed = 0;
    if (fpl_quantizer_parse(quantizer, &q, NULL) != FPL_OK || q.granularity != FPL_UNSCALED) return -1;
    fpl_quantizer_lower(&q, NULL, &j.operand.plan);
    take_levels(&j);
    const int64_t inputs = every ? (int64_t)1 << 32 : (int64_t)TAILS << 16;
#pragma omp parallel num_threads(every ? 2 : 1) reduction(| : failed)
    {
        struct fpl_device *devices[MOST_LEVELS] = {NULL, NULL, NULL};
        struct sweep_result sum = {0, 0, 0, 0};
        failed = !open_devices(&j, devices);
#pragma omp for schedule(dynamic, 16)
        for (int64_t c = 0; c < inputs / CHUNK; c++)
            if (!failed) compare_chunk(&j, devices, c * CHUNK, &sum);
        for (int l = 0; l < j.levels; l++)
            if (devices[l] != NULL) j.kernels[l]->close(devices[l]);
#pragma omp critical(sweep_sum)
        {
            total.compared += sum.compared;
            total.skipped += sum.skipped;
            total.scalar += sum.scalar;
            total.vector += sum.vector;
        }
    }
    printf("%-18s %-38s %10lld inputs, %lld not comparable; differences: rounder %lld, kernels %lld\n",
           quantizer, peer_name, (long long)total.compared, (long long)total.skipped, (long long)total.scalar,
           (long long)total.vector);
    fflush(stdout);
    if (result != NULL) *result = total;
    return failed ? -1 : total.scalar + total.vector;
}
