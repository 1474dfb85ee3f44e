/* cpu.c - the CPU device: memory, the first error, and the choice of instruction set.
 *
 * A device is threads, scratch memory and a cache of packed weights.  Nothing here depends
 * on the level; operations live in vec/, compiled once per level, and fpl_cpu_kernels() picks
 * the table of the highest level that this processor and its operating system support
 * (__builtin_cpu_supports asks XGETBV too).  FPLAW_SIMD can lower the choice, never raise
 * it, and what was chosen is said by describe(), so that every record can keep it.
 *
 * Failure is kept, not returned: the first one sticks in dev->error, later operations find
 * it and do nothing, check() hands it out.
 */
#include "cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

/* ---- levels ---------------------------------------------------------------------------- */

struct level {
    const char *name;
    const struct fpl_kernels *kernels;
    int supported;
};

#ifdef FPL_X86
static int has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

static int has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

enum fpl_code fpl_simd_check(struct fpl_error *err) {
    const char *wish = getenv("FPLAW_SIMD");
    if (wish == NULL || *wish == '\0' || strcmp(wish, "avx512") == 0 || strcmp(wish, "avx2") == 0 ||
        strcmp(wish, "baseline") == 0)
        return FPL_OK;
    return fpl_fail(err, FPL_INVALID,
                    "FPLAW_SIMD: '%.40s' is no instruction set; accepted are baseline, avx2 and avx512",
                    wish);
}

/* The highest supported level that FPLAW_SIMD, if it names one, allows. */
static struct level choose_level(void) {
    const struct level levels[] = {
#ifdef FPL_X86
        {"avx512", &fpl_kernels_avx512, has_avx512()},
        {"avx2", &fpl_kernels_avx2, has_avx2()},
#endif
        {"baseline", &fpl_kernels_baseline, 1},
    };
    const size_t count = sizeof levels / sizeof levels[0];
    const char *wish = getenv("FPLAW_SIMD");
    size_t first = 0;
    for (size_t i = 0; wish != NULL && i < count; i++)
        if (strcmp(wish, levels[i].name) == 0) first = i;
    while (!levels[first].supported) first++;
    return levels[first];
}

const char *fpl_simd_level(void) { return choose_level().name; }

const struct fpl_kernels *fpl_cpu_kernels(void) { return choose_level().kernels; }

/* ---- device ---------------------------------------------------------------------------- */

enum fpl_code fpl_cpu_open(struct fpl_device **dev, const struct fpl_device_options *options,
                           struct fpl_error *err) {
    const int threads = options != NULL ? options->threads : 1;
    if (threads < 1 || threads > 4096)
        return fpl_fail(err, FPL_INVALID, "cpu: %d threads; 1 to 4096 are possible", threads);
    *dev = calloc(1, sizeof **dev);
    if (*dev == NULL) return fpl_fail(err, FPL_SYSTEM, "cpu: out of memory");
    (*dev)->threads = threads;
    (*dev)->level = fpl_simd_level();
    return FPL_OK;
}

void fpl_cpu_close(struct fpl_device *dev) {
    if (dev == NULL) return;
    for (size_t i = 0; i < sizeof dev->scratch / sizeof dev->scratch[0]; i++) free(dev->scratch[i].data);
    fpl_cpu_packs_free(dev->packs);
    free(dev);
}

void fpl_cpu_describe(const struct fpl_device *dev, char *buf, size_t size) {
    snprintf(buf, size, "%s; gemm=fma-chain", dev->level);
}

enum fpl_code fpl_cpu_check(struct fpl_device *dev, struct fpl_error *err) {
    if (dev->error.code != FPL_OK && err != NULL) *err = dev->error;
    return dev->error.code;
}

int fpl_cpu_profile;
uint64_t fpl_cpu_profile_ticks;

uint64_t fpl_cpu_ticks(void) {
#ifdef FPL_X86
    return __builtin_ia32_rdtsc();
#else
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
#endif
}

/* ---- memory ---------------------------------------------------------------------------- */

/* Whole cache lines, so that a vector never straddles the end of a line of another buffer.  Large
 * buffers in large pages, where the system has them to give: walking down the columns of a
 * matrix meets a page per line, more than the processor remembers the places of. */
static void *allocate(size_t bytes) {
    const size_t large = (size_t)2 << 20, unit = bytes < 2 * large ? 64 : large;
    if (bytes > SIZE_MAX - unit) return NULL;
    const size_t whole = bytes == 0 ? unit : (bytes + unit - 1) / unit * unit;
    void *p = aligned_alloc(unit, whole);
#ifdef MADV_HUGEPAGE
    if (p != NULL && unit == large) madvise(p, whole, MADV_HUGEPAGE); /* a wish: failing is no harm */
#endif
    return p;
}

static void *out_of_memory(struct fpl_device *dev, size_t bytes) {
    if (dev->error.code == FPL_OK)
        fpl_fail(&dev->error, FPL_MEMORY,
                 "cpu: no memory for %zu bytes; a smaller model, seq or micro_tokens needs less", bytes);
    return NULL;
}

/* Linux grants more memory than there is and kills whoever touches it, so a large request is
 * held against what is available before it is made. */
static int affordable(size_t bytes) {
    unsigned long long kilobytes = 0;
    char line[128];
    if (bytes < (size_t)1 << 26) return 1;
    FILE *f = fopen("/proc/meminfo", "re");
    if (f == NULL) return 1;
    int found = 0;
    while (!found && fgets(line, sizeof line, f) != NULL)
        found = sscanf(line, "MemAvailable: %llu", &kilobytes) == 1;
    fclose(f);
    return !found || bytes / 1024 < kilobytes;
}

void *fpl_cpu_alloc(struct fpl_device *dev, size_t bytes) {
    void *p = affordable(bytes) ? allocate(bytes) : NULL;
    if (p == NULL) return out_of_memory(dev, bytes);
    memset(p, 0, bytes);
    return p;
}

void fpl_cpu_release(struct fpl_device *dev, void *p) {
    fpl_cpu_packs_forget(dev, p, 0); /* the address may come back with other weights */
    free(p);
}

void *fpl_cpu_scratch(struct fpl_device *dev, int slot, size_t bytes) {
    if (dev->scratch[slot].size < bytes) {
        free(dev->scratch[slot].data);
        dev->scratch[slot].data = allocate(bytes);
        dev->scratch[slot].size = dev->scratch[slot].data != NULL ? bytes : 0;
    }
    if (dev->scratch[slot].data == NULL) return out_of_memory(dev, bytes);
    return dev->scratch[slot].data;
}

void fpl_cpu_upload(struct fpl_device *dev, void *to, const void *from_host, size_t bytes) {
    if (dev->error.code != FPL_OK || bytes == 0) return;
    memcpy(to, from_host, bytes);
    fpl_cpu_packs_forget(dev, to, bytes);
}

void fpl_cpu_download(struct fpl_device *dev, void *to_host, const void *from, size_t bytes) {
    if (dev->error.code == FPL_OK && bytes > 0) memcpy(to_host, from, bytes);
}

void fpl_cpu_zero(struct fpl_device *dev, void *p, size_t bytes) {
    if (dev->error.code != FPL_OK || bytes == 0) return;
    memset(p, 0, bytes);
    fpl_cpu_packs_forget(dev, p, bytes);
}
