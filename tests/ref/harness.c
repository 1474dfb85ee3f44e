/* harness.c - pack runs and comparisons of backend tests (see harness.h). */
#include "harness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static double worst;
static uint64_t digest = 0xcbf29ce484222325u; /* FNV-1a of all results */

void harness_open(struct harness *h) {
    struct fpl_error err = {0};
    const struct fpl_device_options one = {.threads = 1}, two = {.threads = 2};
    char text[256];
    const char *backend = getenv("FPLAW_TEST_BACKEND");
    h->kernels = fpl_backend(backend != NULL ? backend : "cpu");
    assert_non_null(h->kernels);
    if (h->kernels->open(&h->one, &one, &err) != FPL_OK) fail_msg("%s", err.text);
    if (h->kernels->open(&h->two, &two, &err) != FPL_OK) fail_msg("%s", err.text);
    h->kernels->describe(h->one, text, sizeof text);
    print_message("level %s; device %s\n", fpl_simd_level(), text);
    const char *wanted = getenv("FPLAW_SIMD");
    if (wanted && strcmp(wanted, "baseline") == 0) assert_string_equal(fpl_simd_level(), "baseline");
    if (wanted && strcmp(wanted, "avx2") == 0) assert_string_not_equal(fpl_simd_level(), "avx512");
}

int harness_take(void) {
    static long calls;
    const char *share = getenv("FPLAW_TEST_SHARE");
    const long every = share != NULL ? strtol(share, NULL, 10) : 1;
    return every <= 1 || calls++ % every == 0;
}

void harness_close(struct harness *h) {
    print_message("bits %016llx\n", (unsigned long long)digest);
    h->kernels->close(h->one);
    h->kernels->close(h->two);
}

/* Run on replicas [first, first + R) of the buffers, results into out[i] (host, [R][size]). */
static void run_once(const struct harness *h, struct fpl_device *dev, const char *name, harness_call *call,
                     const void *shape, int first, int R, const struct harness_buffer *b, int count,
                     unsigned char **out) {
    const struct fpl_kernels *k = h->kernels;
    void *p[HARNESS_BUFFERS] = {0};
    size_t bytes[HARNESS_BUFFERS] = {0};
    for (int i = 0; i < count; i++) {
        if (!b[i].data) continue;
        bytes[i] = b[i].shared ? b[i].size : b[i].size * (size_t)R;
        p[i] = k->alloc(dev, bytes[i]);
        assert_non_null(p[i]);
        assert_true((uintptr_t)p[i] % 64 == 0);
        const size_t offset = b[i].shared ? 0 : b[i].size * (size_t)first;
        k->upload(dev, p[i], (const unsigned char *)b[i].data + offset, bytes[i]);
    }
    call(h, dev, first, R, p, shape);
    struct fpl_error err = {0};
    if (k->check(dev, &err) != FPL_OK) fail_msg("%s: %s", name, err.text);
    for (int i = 0; i < count; i++) {
        if (!b[i].data) continue;
        k->download(dev, out[i], p[i], bytes[i]);
        k->release(dev, p[i]);
    }
}

/* NaN payloads and signs differ between instruction sets and carry no meaning. */
static void digest_floats(const unsigned char *data, size_t bytes) {
    for (size_t at = 0; at + 4 <= bytes; at += 4) {
        uint32_t word;
        memcpy(&word, data + at, 4);
        if ((word & 0x7fffffffu) > 0x7f800000u) word = 0x7fc00000u;
        digest = (digest ^ word) * 0x100000001b3u;
    }
}

static void require_same(const char *name, const char *what, int buffer, const unsigned char *got,
                         const unsigned char *want, size_t bytes) {
    if (bytes == 0 || memcmp(got, want, bytes) == 0) return;
    size_t at = 0;
    while (got[at] == want[at]) at++;
    fail_msg("%s: %s changes byte %zu of %zu of buffer %d", name, what, at, bytes, buffer);
}

void harness_run(const struct harness *h, const char *name, harness_call *call, const void *shape, int R,
                 struct harness_buffer *buffers, int count) {
    unsigned char *pack[HARNESS_BUFFERS] = {0}, *other[HARNESS_BUFFERS] = {0};
    for (int i = 0; i < count; i++) {
        pack[i] = harness_alloc((int64_t)buffers[i].size * R, 1);
        other[i] = harness_alloc((int64_t)buffers[i].size * R, 1);
    }
    run_once(h, h->one, name, call, shape, 0, R, buffers, count, pack);
    run_once(h, h->two, name, call, shape, 0, R, buffers, count, other);
    for (int i = 0; i < count; i++) {
        if (!buffers[i].data) continue;
        require_same(name, "a second thread", i, other[i], pack[i],
                     buffers[i].size * (buffers[i].shared ? 1 : (size_t)R));
    }
    for (int r = 0; R > 1 && r < R; r++) {
        run_once(h, h->one, name, call, shape, r, 1, buffers, count, other);
        for (int i = 0; i < count; i++) {
            if (!buffers[i].data || buffers[i].shared) continue;
            require_same(name, "running alone", i, other[i], pack[i] + buffers[i].size * (size_t)r,
                         buffers[i].size);
        }
    }
    for (int i = 0; i < count; i++) {
        if (buffers[i].data) digest_floats(pack[i], buffers[i].size * (buffers[i].shared ? 1 : (size_t)R));
        if (buffers[i].data && !buffers[i].shared && buffers[i].size)
            memcpy(buffers[i].data, pack[i], buffers[i].size * (size_t)R);
        free(pack[i]);
        free(other[i]);
    }
}

void harness_within(const char *name, int64_t index, double got, double want, double bound) {
    const double error = fabs(got - want);
    if (!(error <= bound))
        fail_msg("%s: element %lld is %.9g, reference %.17g: error %.3g exceeds the bound %.3g", name,
                 (long long)index, got, want, error, bound);
    if (bound > 0 && error / bound > worst) worst = error / bound;
}

void harness_same_bits(const char *name, const float *got, const float *want, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        if (isnan(got[i]) && isnan(want[i])) continue;
        if (fpl_float_bits(got[i]) != fpl_float_bits(want[i]))
            fail_msg("%s: element %lld is %a, expected %a", name, (long long)i, (double)got[i],
                     (double)want[i]);
    }
}

double harness_worst(void) {
    const double w = worst;
    worst = 0;
    return w;
}
