/* test_tensor_sweep.c - tensors quantized tile by tile against the whole of them at once.
 *
 * Shapes, quantizers, tile limits and threads are drawn at random; the tile limits are so small
 * that every kind of schedule occurs.  What is written must be what fpl_quantize_reference gives
 * for the whole tensor, the measures those of fpl_quantizer_measure, and the packed codes,
 * decoded by the few lines below through fpl_decode, the same values again.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../formats/random.h"
#include "../../sim/tensor/codes.h"
#include "../../sim/tensor/sweep.h"

static uint64_t drawn;

static uint32_t draw(uint32_t below) {
    uint32_t w[4];
    fpl_random_block(1, drawn++, 0, fpl_stream(FPL_STREAM_TEST, 77), w);
    return w[0] % below;
}

/* Mostly ordinary values of various size; zeros and the extremes now and then. */
static float draw_value(int specials) {
    const uint32_t kind = draw(40);
    const float x = ((float)draw(2000001) - 1e6f) * 1e-6f;
    if (kind == 0) return draw(2) ? 0.0f : -0.0f;
    if (kind == 1) return x * 1e-38f;
    if (kind == 2) return x * 3e38f;
    if (kind == 3 && specials) return draw(2) ? NAN : draw(2) ? INFINITY : -INFINITY;
    return ldexpf(x, (int)draw(12) - 6);
}

static const char *const quantizers[] = {
    "e4m3fn",
    "e2m1:sr",
    "e3m2:sr24/1x3",
    "e4m3/tensor",
    "e4m3fn/row",
    "int8/col",
    "e2m1/1x16:e8m0",
    "e2m1/1x16:e4m3fn+t",
    "e4m3/4x4:rceil",
    "e2m1/5x3:ue5m3fn",
    "e5m2/64x1:even",
    "e4m3/tensor:mul",
    "e2m1:sr/tensor:e4m3fn+t",
    "e2m1/row:e4m3fn+t",
    "e2m1/3x7:e4m3fn+t",
    "e3m2:sr/col:ceil",
    "-",
    "fp16",
    "e4m3/1x200",
    "e2m3/100x100:floor",
    "uint4/1x9+z",
    "uint8/row+z",
    "e2m1/1x16:e4m3fn+t+46",
    "e2m1/col+mse",
    "e2m1/7x200:e4m3fn+t",
    "e2m1/300x2:e4m3fn+t",
    "e4m3p3109e/1x8:p3109",
    "e4m3fn/tensor:delayed16m1",
};
enum { QUANTIZERS = sizeof quantizers / sizeof quantizers[0] };

struct sample {
    int64_t rows, cols;
    struct fpl_container file;
    struct fpl_tensor tensor;
    float *x, *expected, *got;
    struct fpl_quantizer q;
    const char *text;
};

static void make_sample(struct sample *s, int specials) {
    memset(s, 0, sizeof *s);
    s->rows = 1 + draw(draw(3) ? 40 : 3);
    s->cols = 1 + draw(draw(3) ? 60 : 700);
    const size_t n = (size_t)(s->rows * s->cols);
    s->x = malloc(n * sizeof *s->x);
    s->expected = malloc(n * sizeof *s->x);
    s->got = calloc(n, sizeof *s->x);
    for (size_t i = 0; i < n; i++) s->x[i] = draw_value(specials);
    if (draw(4) == 0) memset(s->x, 0, n / 2 * sizeof *s->x);
    s->text = quantizers[draw(QUANTIZERS)];
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_quantizer_parse(s->text, &s->q, &err) != FPL_OK) fail_msg("%s: %s", s->text, err.text);
    assert_int_equal(fpl_container_parse(&s->file, "x", s->x, n * sizeof *s->x, -1, &err), FPL_OK);
    s->tensor = s->file.tensors[0];
}

static void free_sample(struct sample *s) {
    fpl_container_close(&s->file);
    free(s->x);
    free(s->expected);
    free(s->got);
}

static void read_back(struct fpl_writer *w, void *to, size_t bytes, uint64_t at) {
    assert_int_equal(pread(w->fd, to, bytes, (off_t)at), (ssize_t)bytes);
}

static int close_to(double a, double b, int64_t n) {
    /* Two orders of summing n terms of one sign. */
    return a == b || (isnan(a) && isnan(b)) || fabs(a - b) <= 2.0 * (double)n * 0x1p-53 * fabs(b);
}

static void compare_measures(const struct sample *s, const struct fpl_measure *sums) {
    struct fpl_quantizer_measure m, want;
    fpl_measure_finish(sums, &s->q, &m);
    fpl_quantizer_measure(&s->q, s->rows, s->cols, s->x, s->expected, &want);
    const int64_t n = s->rows * s->cols;
    assert_true(m.elements == want.elements && m.nonfinite == want.nonfinite);
    if (fabs(m.bits_per_value - want.bits_per_value) > 1e-12)
        fail_msg("%s %lldx%lld: bits %g %g", s->text, (long long)s->rows, (long long)s->cols,
                 m.bits_per_value, want.bits_per_value);
    assert_true(m.underflow == want.underflow && m.amax == want.amax);
    if (m.clipped != want.clipped)
        fail_msg("%s %lldx%lld: clipped %g, expected %g", s->text, (long long)s->rows, (long long)s->cols,
                 m.clipped, want.clipped);
    /* Decibels: 10/ln 10 (relative errors of both sums). */
    assert_true(m.sqnr_db == want.sqnr_db || (isnan(m.sqnr_db) && isnan(want.sqnr_db)) ||
                fabs(m.sqnr_db - want.sqnr_db) <= 20.0 * (double)n * 0x1p-53 + 1e-13 * fabs(want.sqnr_db));
    assert_true(close_to(m.relative_mean, want.relative_mean, n));
    assert_true(m.relative_max == want.relative_max || isnan(want.relative_max));
}

static void sweep_once(struct sample *s, int threads, const struct fpl_tile_limits *limits, uint64_t seed,
                       struct fpl_swept *swept) {
    char name[] = "/tmp/test_tensor_sweep_out";
    struct fpl_writer w;
    struct fpl_error err = {FPL_OK, ""};
    assert_int_equal(fpl_writer_open(&w, name, &err), FPL_OK);
    struct fpl_sweep sweep = {.in = &s->file,
                              .tensor = &s->tensor,
                              .rows = s->rows,
                              .cols = s->cols,
                              .quantizer = &s->q,
                              .seed = seed,
                              .threads = threads,
                              .limits = limits,
                              .out = &w,
                              .out_at = 12};
    memset(swept, 0, sizeof *swept);
    if (fpl_sweep_run(&sweep, swept, &err) != FPL_OK) fail_msg("%s: %s", s->text, err.text);
    read_back(&w, s->got, (size_t)(s->rows * s->cols) * 4, 12);
    fpl_writer_abandon(&w);
}

static void compare_values(const struct sample *s, const struct fpl_tile_limits *l) {
    for (int64_t i = 0; i < s->rows * s->cols; i++) {
        if (fpl_float_bits(s->got[i]) == fpl_float_bits(s->expected[i])) continue;
        if (isnan(s->got[i]) && isnan(s->expected[i])) continue;
        fail_msg("%s on %lldx%lld, tiles of %lld (%lld): element %lld of %a is %a, expected %a", s->text,
                 (long long)s->rows, (long long)s->cols, (long long)l->tile, (long long)l->local,
                 (long long)i, (double)s->x[i], (double)s->got[i], (double)s->expected[i]);
    }
}

static struct fpl_tile_limits draw_limits(void) {
    struct fpl_tile_limits l;
    l.tile = 8 + 8 * draw(30); /* multiples of 8, as in the program */
    l.local = l.tile * (1 + draw(4));
    return l;
}

static void test_tiles_are_the_whole(void **unused) {
    (void)unused;
    for (int trial = 0; trial < 3000; trial++) {
        struct sample s;
        struct fpl_swept swept, again;
        struct fpl_quantizer_plan plan;
        make_sample(&s, trial % 2);
        const uint64_t seed = draw(1000);
        const struct fpl_random_at at = {.seed = seed};
        const struct fpl_tile_limits limits = draw_limits();
        fpl_quantizer_lower(&s.q, NULL, &plan);
        fpl_quantize_reference(&plan, s.rows, s.cols, s.cols, 1, s.x, s.expected, NULL, &at);
        sweep_once(&s, 1, &limits, seed, &swept);
        compare_values(&s, &limits);
        compare_measures(&s, &swept.measure);
        if (trial % 8 == 0) { /* threads change nothing, sums included */
            sweep_once(&s, 3, &limits, seed, &again);
            compare_values(&s, &limits);
            assert_memory_equal(&swept.measure, &again.measure, sizeof swept.measure);
        }
        free_sample(&s);
    }
}

/* ---- codes ---------------------------------------------------------------------------------------- */

static uint32_t bits_at(const uint8_t *row, int64_t first, int bits) {
    uint32_t code = 0;
    for (int b = 0; b < bits; b++) code |= (uint32_t)(row[(first + b) / 8] >> (first + b) % 8 & 1) << b;
    return code;
}

static uint32_t word_at(const uint8_t *p, int bytes) {
    uint32_t w = 0;
    for (int b = 0; b < bytes; b++) w |= (uint32_t)p[b] << 8 * b;
    return w;
}

/* What the parts of a packed tensor stand for: codes.h read backwards. */
static void decode(const struct fpl_quantizer *q, const struct fpl_code_layout *l, const uint8_t *file,
                   float *out) {
    struct fpl_quantizer_plan plan;
    int64_t group_rows, group_cols;
    struct fpl_format e8m0;
    fpl_quantizer_lower(q, NULL, &plan);
    fpl_quantizer_group_shape(&plan, l->rows, l->cols, &group_rows, &group_cols);
    assert_int_equal(fpl_format_parse("e8m0", &e8m0, NULL), FPL_OK);
    const struct fpl_format *scales = q->scale_rule == FPL_SCALE_FORMAT ? &q->scale_format : &e8m0;
    const float scale_2 = l->two_level ? fpl_bits_float(word_at(file + l->scale_2_at, 4)) : 1.0f;
    for (int64_t i = 0; i < l->rows; i++) {
        for (int64_t j = 0; j < l->cols; j++) {
            const int64_t g = i / group_rows * l->scale_cols + j / group_cols;
            const uint32_t code =
                bits_at(file + l->codes_at + i * l->row_bytes, j * l->coder.bits, l->coder.bits);
            float scale = 1.0f, value = fpl_decode(&q->format, code);
            if (l->scale_bytes > 0) {
                const uint32_t s = word_at(file + l->scales_at + g * l->scale_bytes, l->scale_bytes);
                scale = l->scale_is_float ? fpl_bits_float(s) : fpl_decode(scales, s);
            }
            if (l->zero_bytes > 0)
                value -= (float)word_at(file + l->zeros_at + g * l->zero_bytes, l->zero_bytes);
            const int infinite = isinf(value);
            value = value * scale * scale_2;
            out[i * l->cols + j] = infinite                 ? value
                                   : value > FPL_FLOAT_MAX  ? FPL_FLOAT_MAX
                                   : value < -FPL_FLOAT_MAX ? -FPL_FLOAT_MAX
                                                            : value;
        }
    }
}

static void pack_once(struct sample *s, const struct fpl_tile_limits *limits, uint64_t seed, int threads) {
    char name[] = "/tmp/test_tensor_sweep_codes";
    struct fpl_code_layout l;
    struct fpl_writer w;
    struct fpl_tensor parts[4];
    struct fpl_text header = {0};
    struct fpl_swept swept = {.changed = 0};
    struct fpl_error err = {FPL_OK, ""};
    assert_int_equal(fpl_codes_layout(&s->q, s->rows, s->cols, &l, &err), FPL_OK);
    const int count = fpl_codes_tensors(&l, &s->tensor, parts);
    assert_int_equal(fpl_safetensors_header(parts, (size_t)count, NULL, &header, &err), FPL_OK);
    uint64_t size = header.size;
    for (int i = 0; i < count; i++) {
        if (strstr(parts[i].name, ".codes")) l.codes_at = parts[i].at;
        if (strstr(parts[i].name, ".scales")) l.scales_at = parts[i].at;
        if (strstr(parts[i].name, ".zeros")) l.zeros_at = parts[i].at;
        if (strstr(parts[i].name, ".scale_2")) l.scale_2_at = parts[i].at;
        size = parts[i].at + parts[i].bytes;
        free(parts[i].name);
    }
    assert_int_equal(fpl_writer_open(&w, name, &err), FPL_OK);
    assert_int_equal(fpl_writer_put(&w, header.text, header.size, &err), FPL_OK);
    l.writer = &w;
    struct fpl_sweep sweep = {.in = &s->file,
                              .tensor = &s->tensor,
                              .rows = s->rows,
                              .cols = s->cols,
                              .quantizer = &s->q,
                              .seed = seed,
                              .threads = threads,
                              .limits = limits,
                              .codes = &l};
    if (fpl_sweep_run(&sweep, &swept, &err) != FPL_OK) fail_msg("%s: %s", s->text, err.text);
    uint8_t *file = malloc(size);
    read_back(&w, file, size, 0);
    struct fpl_container c;
    assert_int_equal(fpl_container_parse(&c, "codes", file, size, -1, &err), FPL_OK);
    assert_int_equal(c.count, count);
    fpl_container_close(&c);
    decode(&s->q, &l, file, s->got);
    free(file);
    fpl_text_free(&header);
    fpl_writer_abandon(&w);
}

static void test_codes_decode_to_the_values(void **unused) {
    (void)unused;
    for (int trial = 0; trial < 1500; trial++) {
        struct sample s;
        struct fpl_quantizer_plan plan;
        struct fpl_code_layout l;
        make_sample(&s, 0);
        if (fpl_codes_layout(&s.q, s.rows, s.cols, &l, NULL) != FPL_OK) {
            assert_true(s.q.identity);
            free_sample(&s);
            continue;
        }
        const uint64_t seed = draw(1000);
        const struct fpl_random_at at = {.seed = seed};
        const struct fpl_tile_limits limits = draw_limits();
        fpl_quantizer_lower(&s.q, NULL, &plan);
        fpl_quantize_reference(&plan, s.rows, s.cols, s.cols, 1, s.x, s.expected, NULL, &at);
        pack_once(&s, &limits, seed, 1 + trial % 3);
        for (int64_t i = 0; i < s.rows * s.cols && l.coder.integers; i++)
            if (s.expected[i] == 0.0f) s.expected[i] = 0.0f; /* two's complement has one zero */
        compare_values(&s, &limits);
        free_sample(&s);
    }
}

static void test_values_without_a_code(void **unused) {
    (void)unused;
    struct sample s;
    struct fpl_code_layout l;
    struct fpl_swept swept = {.changed = 0};
    struct fpl_error err;
    struct fpl_writer w;
    float x[3] = {1.0f, NAN, 2.0f};
    memset(&s, 0, sizeof s);
    assert_int_equal(fpl_quantizer_parse("e2m1", &s.q, &err), FPL_OK);
    assert_int_equal(fpl_container_parse(&s.file, "x", x, sizeof x, -1, &err), FPL_OK);
    assert_int_equal(fpl_codes_layout(&s.q, 1, 3, &l, &err), FPL_OK);
    assert_int_equal(fpl_writer_open(&w, "/tmp/test_tensor_sweep_nan", &err), FPL_OK);
    l.writer = &w;
    struct fpl_sweep sweep = {.in = &s.file,
                              .tensor = s.file.tensors,
                              .rows = 1,
                              .cols = 3,
                              .quantizer = &s.q,
                              .threads = 1,
                              .codes = &l};
    assert_int_equal(fpl_sweep_run(&sweep, &swept, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "element 1 is nan"));
    fpl_writer_abandon(&w);
    fpl_container_close(&s.file);
}

/* Every code of every small format is the code of its value. */
static void test_codes_are_a_bijection(void **unused) {
    (void)unused;
    static const char *const formats[] = {
        "e4m3fn",   "e4m3",       "e5m2ieee",   "e5m2",    "e3m2",        "e2m3", "e2m1", "e4m3fnuz",
        "e5m2fnuz", "e4m3p3109e", "e3m4p3109f", "ue5m3fn", "ue8m0",       "int8", "int4", "mxint8",
        "fp16",     "bf16",       "e4m3ns",     "e1m2",    "ue4m3p3109e", "e8m3p3109f", "e8m0"};
    for (size_t k = 0; k < sizeof formats / sizeof formats[0]; k++) {
        struct fpl_format f;
        struct fpl_coder c;
        if (fpl_format_parse(formats[k], &f, NULL) != FPL_OK) continue;
        fpl_coder_lower(&f, &c);
        uint32_t unused_codes = 0;
        for (uint32_t code = 0; code < 1u << c.bits; code++) {
            const float v = fpl_decode(&f, code);
            const uint32_t back = fpl_encode(&c, v);
            if (isnan(v)) {
                unused_codes++;
                if (c.nan != UINT32_MAX) assert_true(isnan(fpl_decode(&f, back)));
                continue;
            }
            /* The least two's complement code is no value of the format. */
            if (c.integers && c.is_signed && code == c.sign) continue;
            if (back != code)
                fail_msg("%s: code %#x is %a, which has code %#x", formats[k], code, (double)v, back);
        }
        assert_true(unused_codes < 1u << (c.bits - 1));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codes_are_a_bijection),
        cmocka_unit_test(test_tiles_are_the_whole),
        cmocka_unit_test(test_codes_decode_to_the_values),
        cmocka_unit_test(test_values_without_a_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
