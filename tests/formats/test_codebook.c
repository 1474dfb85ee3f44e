/* test_codebook.c - lists of values as formats: files, identity, rounding.
 *
 * Rounding is compared with MPFR, which holds the distances to both neighbours exactly, on
 * codebooks of one value, of values 2^250 apart, of random values and of nf4.  Files are
 * written into a directory of the test's own.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <mpfr.h>

#include "../../formats/codebook.h"
#include "../../formats/quantizer.h"
#include "../../formats/random.h"

static uint64_t drawn;

static uint32_t draw(void) {
    uint32_t w[4];
    fpl_random_block(29, drawn++, 0, fpl_stream(FPL_STREAM_TEST, 3), w);
    return w[0];
}

/* ---- rounding -------------------------------------------------------------------------------- */

/* 1: x is nearer to b, -1: to a, 0: in the middle. */
static int nearer(double x, double a, double b) {
    mpfr_t left, right;
    mpfr_inits2(700, left, right, (mpfr_ptr)NULL);
    mpfr_set_d(left, x, MPFR_RNDN);
    mpfr_sub_d(left, left, a, MPFR_RNDN);
    mpfr_set_d(right, b, MPFR_RNDN);
    mpfr_sub_d(right, right, x, MPFR_RNDN);
    const int order = mpfr_cmp(left, right);
    mpfr_clears(left, right, (mpfr_ptr)NULL);
    return order;
}

/* floor, halves up and halves to even of f 2^r by their definitions, f as round.h has it. */
static int away(int mode, int bits, double x, double near, double far, uint32_t random) {
    mpfr_t f, span, left;
    mpfr_inits2(53, f, span, left, (mpfr_ptr)NULL);
    mpfr_set_d(left, x, MPFR_RNDN);
    mpfr_sub_d(left, left, near, MPFR_RNDN);
    mpfr_set_d(span, far, MPFR_RNDN);
    mpfr_sub_d(span, span, near, MPFR_RNDN);
    mpfr_div(f, left, span, MPFR_RNDN);
    mpfr_mul_2si(f, f, bits + (mode == FPL_SRB), MPFR_RNDN);
    if (mode == FPL_SRC)
        mpfr_rint(f, f, MPFR_RNDN);
    else
        mpfr_floor(f, f);
    const double kept = mpfr_get_d(f, MPFR_RNDN);
    mpfr_clears(f, span, left, (mpfr_ptr)NULL);
    if (mode == FPL_SRB) return kept + 2.0 * (double)random + 1.0 >= ldexp(1.0, bits + 1);
    return kept + (double)random >= ldexp(1.0, bits);
}

static float expected(const struct fpl_codebook *c, int mode, int bits, int overflow, float x,
                      uint32_t random) {
    const double y = (double)x, least = (double)c->values[0], most = (double)c->values[c->count - 1];
    if (isinf(x) && overflow == FPL_SATP) return x;
    if (y <= least) return (float)least;
    if (y >= most) return (float)most;
    int32_t below = c->count - 1;
    while ((double)c->values[below] > y) below--;
    const double a = (double)c->values[below], b = (double)c->values[below + 1];
    if (a == y) return (float)a;
    const int negative = signbit(x) != 0;
    int up;
    switch (mode) {
    case FPL_RNE:
    case FPL_RNA: {
        const int side = nearer(y, a, b);
        up = side > 0 || (side == 0 && (mode == FPL_RNA ? !negative : below % 2 == 1));
        break;
    }
    case FPL_RTZ:
        up = negative;
        break;
    case FPL_RUP:
        up = 1;
        break;
    case FPL_RDN:
        up = 0;
        break;
    default:
        up = negative != away(mode, bits, y, negative ? b : a, negative ? a : b, random);
        break;
    }
    return (float)(up ? b : a);
}

static void check(const struct fpl_codebook *c, const float *x, int n) {
    static const int modes[] = {FPL_RNE, FPL_RNA, FPL_RTZ, FPL_RUP, FPL_RDN, FPL_SR, FPL_SRB, FPL_SRC};
    const struct fpl_format f = {.is_signed = 1, .codebook = c->hash};
    for (size_t m = 0; m < sizeof modes / sizeof modes[0]; m++) {
        for (int overflow = 0; overflow < FPL_OVERFLOWS; overflow++) {
            struct fpl_round p;
            const int bits = 1 + (int)(draw() % 32);
            fpl_round_lower(&f, modes[m], bits, overflow, &p);
            for (int i = 0; i < n; i++) {
                const uint32_t random = draw() >> (32 - bits);
                const float got = fpl_round_value(&p, x[i], random);
                const float want = expected(c, modes[m], bits, overflow, x[i], random) + 0.0f;
                if (fpl_float_bits(got) != fpl_float_bits(want))
                    fail_msg("%d values, mode %d, sr%d, random %#x: %a rounds to %a, expected %a",
                             (int)c->count, modes[m], bits, random, (double)x[i], (double)got, (double)want);
            }
        }
    }
}

/* Values, middles, their float32 neighbours, the ends of float32, random patterns. */
static void check_around(const struct fpl_codebook *c) {
    static float x[40000];
    int n = 0;
    static const float special[] = {
        0.0f,     -0.0f,     0x1p-149f, -0x1p-149f, 0x1.fffffep127f, -0x1.fffffep127f,
        INFINITY, -INFINITY, 1.0f,      -1.0f};
    for (size_t i = 0; i < sizeof special / sizeof special[0]; i++) x[n++] = special[i];
    for (int32_t i = 0; i < c->count && n < 30000; i++) {
        const double v = (double)c->values[i];
        double at[2] = {v, v};
        if (i > 0) at[1] = (v + (double)c->values[i - 1]) / 2.0;
        for (int k = 0; k < 2; k++) {
            x[n++] = (float)at[k];
            x[n++] = nextafterf((float)at[k], INFINITY);
            x[n++] = nextafterf((float)at[k], -INFINITY);
        }
    }
    for (int i = 0; i < 300; i++) {
        const float y = fpl_bits_float(draw());
        if (!isnan(y)) x[n++] = y;
        const double u = (double)draw() * 0x1p-31 - 1.0;
        x[n++] = (float)(u * 1.2 * fmax(fabs((double)c->values[0]), (double)c->values[c->count - 1]));
    }
    for (int i = 0; i < n; i++)
        if (isnan(x[i])) x[i] = 0.0f;
    check(c, x, n);
}

static const struct fpl_codebook *add(const float *values, size_t count) {
    const struct fpl_codebook *c = NULL;
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_codebook_add(values, count, NULL, &c, &err) != FPL_OK) fail_msg("%s", err.text);
    return c;
}

static void test_rounding(void **state) {
    static const float one[] = {0.5f}, zero[] = {0.0f}, two[] = {-1.0f, 1.0f},
                       far[] = {-0x1p100f, -0x1p-149f, 0.0f, 0x1p-149f, 0x1p-120f, 1.0f, 0x1p127f},
                       close[] = {1.0f, 0x1.000002p0f, 0x1.000004p0f, 0x1.000006p0f};
    (void)state;
    check_around(add(one, 1));
    check_around(add(zero, 1));
    check_around(add(two, 2));
    check_around(add(far, 7));
    check_around(add(close, 4));
    check_around(add(fpl_named_codebooks[0].values, 16));
    for (int trial = 0; trial < 12; trial++) {
        float values[300];
        const size_t count = 2 + draw() % 200;
        for (size_t i = 0; i < count; i++)
            values[i] = trial % 3 == 2
                            ? fpl_bits_float(draw() & 0xbfffffffu)
                            : ldexpf((float)(int32_t)draw(), -(int)(draw() % (trial % 3 ? 90 : 31)));
        const struct fpl_codebook *c;
        if (fpl_codebook_add(values, count, NULL, &c, NULL) == FPL_OK) check_around(c); /* no two equal */
    }
}

static void test_nan_and_unknown(void **state) {
    struct fpl_round p;
    const struct fpl_format nf4 = {.is_signed = 1, .codebook = add(fpl_named_codebooks[0].values, 16)->hash},
                            unknown = {.is_signed = 1, .codebook = 0x123456789abcdef0u};
    (void)state;
    fpl_round_lower(&nf4, FPL_RNE, 16, FPL_SAT, &p);
    assert_int_equal(fpl_float_bits(fpl_round_value(&p, fpl_bits_float(0xffc12345u), 0)), 0xffc12345u);
    fpl_round_lower(&unknown, FPL_RNE, 16, FPL_SAT, &p);
    assert_true(isnan(fpl_round_value(&p, 1.0f, 0))); /* nothing hides that the values are missing */
    struct fpl_error err = {FPL_OK, ""};
    assert_int_equal(fpl_codebooks_known("full:codebook(#123456789abcdef0)/row", &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "accepted: codebook(FILE)"));
    assert_int_equal(fpl_codebooks_known("full:e4m3/row", &err), FPL_OK);
}

/* P(away) over all draws of r bits is floor, or nearest, of f 2^r over 2^r. */
static void test_probabilities(void **state) {
    static const float values[] = {-4.0f, 0.0f, 1.0f, 4.0f};
    const struct fpl_format f = {.is_signed = 1, .codebook = add(values, 4)->hash};
    (void)state;
    for (int mode = FPL_SR; mode <= FPL_SRC; mode++) {
        struct fpl_round p;
        fpl_round_lower(&f, mode, 6, FPL_SAT, &p);
        for (int i = 1; i < 500; i++) {
            const float x = 1.0f + (float)i * (3.0f / 500.0f);
            const double t = ((double)x - 1.0) / 3.0 * 64.0;
            const double want = mode == FPL_SR ? floor(t) : mode == FPL_SRB ? floor(t + 0.5) : rint(t);
            int aways = 0;
            for (uint32_t random = 0; random < 64; random++) aways += fpl_round_value(&p, x, random) == 4.0f;
            assert_int_equal(aways, (int)want);
        }
    }
}

/* ---- the published values ---------------------------------------------------------------------- */

/* QLoRA (arXiv 2305.14314), appendix E. */
static void test_nf4(void **state) {
    static const double published[16] = {-1.0,
                                         -0.6961928009986877,
                                         -0.5250730514526367,
                                         -0.39491748809814453,
                                         -0.28444138169288635,
                                         -0.18477343022823334,
                                         -0.09105003625154495,
                                         0.0,
                                         0.07958029955625534,
                                         0.16093020141124725,
                                         0.24611230194568634,
                                         0.33791524171829224,
                                         0.44070982933044434,
                                         0.5626170039176941,
                                         0.7229568362236023,
                                         1.0};
    struct fpl_format f;
    struct fpl_format_limits l;
    char text[48];
    (void)state;
    assert_int_equal(fpl_element_parse("NF4", &f, NULL), FPL_OK);
    assert_int_equal(fpl_format_top_code(&f), 15);
    for (uint32_t i = 0; i < 16; i++) assert_true(fpl_format_value(&f, i) == published[i]);
    fpl_format_limits(&f, &l);
    assert_true(l.largest == 1.0 && l.smallest == published[8] && l.bits == 4);
    fpl_format_print(&f, text, sizeof text);
    assert_string_equal(text, "nf4");
    assert_int_equal(fpl_format_parse("nf4", &f, NULL), FPL_INVALID);
}

/* ---- files -------------------------------------------------------------------------------------- */

static char folder[64] = "/tmp/fplaw-codebook-XXXXXX";

static const char *file(const char *name, const char *text) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0 && fclose(f) == 0);
    return path;
}

static uint64_t hash_of_file(const char *name, const char *text) {
    const struct fpl_codebook *c = NULL;
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_codebook_read(file(name, text), &c, &err) != FPL_OK) fail_msg("%s", err.text);
    return c->hash;
}

static void test_identity_is_content(void **state) {
    (void)state;
    const uint64_t a = hash_of_file("a", "-1 -0.5 0\n0.5 1\n");
    assert_true(a == hash_of_file("B.txt", "# sorted otherwise\n1, 0.5,\r\n\t-0.0 -5e-1 # half\n-1"));
    assert_true(a == hash_of_file("c", "-0x1p0 -0x1p-1 0x0 .5 1e0"));
    assert_true(a != hash_of_file("a", "-1 -0.5 0\n0.5 1.0000001\n")); /* the same name, other values */
    assert_true(a != hash_of_file("d", "-1 -0.5 0\n0.5\n"));
    assert_true(fpl_codebook_find(a) != NULL && fpl_codebook_find(a)->count == 5);

    /* The text of a quantizer: the path's letters count, the rest's do not. */
    char text[256], printed[FPL_QUANTIZER_TEXT], canonical[64];
    struct fpl_quantizer q, back;
    struct fpl_error err = {FPL_OK, ""};
    snprintf(text, sizeof text, "CodeBook(%s/B.txt):SR8/1X32:E8M0", folder);
    if (fpl_quantizer_parse(text, &q, &err) != FPL_OK) fail_msg("%s", err.text);
    fpl_quantizer_print(&q, printed, sizeof printed);
    snprintf(canonical, sizeof canonical, "codebook(#%016llx):sr8/1x32:e8m0", (unsigned long long)a);
    assert_string_equal(printed, canonical);
    assert_int_equal(fpl_quantizer_parse(printed, &back, &err), FPL_OK);
    assert_memory_equal(&q, &back, sizeof q);
    size_t at = 0;
    assert_true(fpl_codebook_next(printed, &at) == a && fpl_codebook_next(printed, &at) == 0);
    snprintf(text, sizeof text, "codebook(%s/b.txt)", folder);
    assert_int_equal(fpl_quantizer_parse(text, &q, &err), FPL_INVALID);
    /* The values of nf4 in a file are nf4. */
    char sixteen[512] = "";
    for (int i = 0; i < 16; i++)
        snprintf(sixteen + strlen(sixteen), sizeof sixteen - strlen(sixteen), "%.9g\n",
                 (double)fpl_named_codebooks[0].values[i]);
    snprintf(text, sizeof text, "codebook(%s)/row", file("sixteen", sixteen));
    assert_int_equal(fpl_quantizer_parse(text, &q, &err), FPL_OK);
    fpl_quantizer_print(&q, printed, sizeof printed);
    assert_string_equal(printed, "nf4/row");
}

static void test_bad_files(void **state) {
    static const char *const rows[][2] = {
        {"", "0 values; accepted: 1 to 65536"},
        {"# nothing\n \t,\n", "0 values"},
        {"1 2 x", "line 1, column 5: found \"x\", expected a number"},
        {"1\n2\n 3..5\n", "line 3, column 2: found \"3..5\""},
        {"1 nan", "found \"nan\", expected a number"},
        {"inf", "found \"inf\""},
        {"1e39", "beyond float32"},
        {"-1e999", "beyond float32"},
        {"1 2 1.0", "the value 1 is there twice"},
        {"0 -0", "the value 0 is there twice"},
        {"0.1 0.10000000149011612", "is there twice"},
        {"1;2", "found \"1;2\""},
        {"0x", "found \"0x\""},
    };
    struct fpl_error err = {FPL_OK, ""};
    const struct fpl_codebook *c = NULL;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (fpl_codebook_read(file("bad", rows[i][0]), &c, &err) != FPL_INVALID)
            fail_msg("\"%s\" was accepted", rows[i][0]);
        if (strstr(err.text, rows[i][1]) == NULL || strstr(err.text, "/bad") == NULL)
            fail_msg("\"%s\": message \"%s\" lacks \"%s\" or the file", rows[i][0], err.text, rows[i][1]);
    }
    assert_null(c);
    assert_int_equal(fpl_codebook_parse("1\0002", 3, "zero byte", &c, &err), FPL_INVALID);
    assert_int_equal(fpl_codebook_read(folder, &c, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "no regular file"));
    assert_int_equal(fpl_codebook_read("/dev/zero", &c, &err), FPL_INVALID);
    assert_int_equal(fpl_codebook_read("/no/such", &c, &err), FPL_INVALID);
    char pipe_path[128];
    snprintf(pipe_path, sizeof pipe_path, "%s/pipe", folder);
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    assert_int_equal(fpl_codebook_read(pipe_path, &c, &err), FPL_INVALID); /* and does not wait */
}

static void test_sizes(void **state) {
    const size_t room = 9 * (FPL_CODEBOOK_MOST + 1) + 1;
    char *text = malloc(room), *huge = malloc(FPL_CODEBOOK_FILE_MOST + 2);
    struct fpl_error err = {FPL_OK, ""};
    const struct fpl_codebook *c = NULL;
    size_t used = 0;
    (void)state;
    assert_non_null(text);
    assert_non_null(huge);
    for (int i = 0; i < FPL_CODEBOOK_MOST; i++)
        used += (size_t)snprintf(text + used, room - used, "%d\n", i - 32768);
    assert_int_equal(fpl_codebook_parse(text, used, "all", &c, &err), FPL_OK);
    assert_int_equal(c->count, FPL_CODEBOOK_MOST);
    struct fpl_format_limits l;
    const struct fpl_format f = {.is_signed = 1, .codebook = c->hash};
    fpl_format_limits(&f, &l);
    assert_int_equal(l.bits, 16);
    used += (size_t)snprintf(text + used, room - used, "99999\n");
    assert_int_equal(fpl_codebook_parse(text, used, "one more", &c, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "line 65537: more than the 65536 values"));
    memset(huge, ' ', FPL_CODEBOOK_FILE_MOST + 1);
    huge[FPL_CODEBOOK_FILE_MOST + 1] = '\0';
    assert_int_equal(fpl_codebook_read(file("huge", huge), &c, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "accepted: at most"));
    free(text);
    free(huge);
}

/* What a codebook lacks decides what may be asked of it. */
static void test_refused_uses(void **state) {
    struct fpl_quantizer q;
    struct fpl_error err = {FPL_OK, ""};
    char text[256];
    (void)state;
    const char *path = file("nozero", "-1 1 2");
    snprintf(text, sizeof text, "codebook(%s)/row", path);
    assert_int_equal(fpl_quantizer_parse(text, &q, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "without a zero cannot be scaled"));
    snprintf(text, sizeof text, "codebook(%s):rtz", path);
    assert_int_equal(fpl_quantizer_parse(text, &q, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "rtz needs a codebook with a zero"));
    snprintf(text, sizeof text, "codebook(%s):rna", path);
    assert_int_equal(fpl_quantizer_parse(text, &q, &err), FPL_OK);
    snprintf(text, sizeof text, "codebook(%s)/row", file("onlyzero", "0"));
    assert_int_equal(fpl_quantizer_parse(text, &q, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "nothing but zero"));
}

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state) {
    static const char *const names[] = {"a",    "B.txt", "c",      "d",        "sixteen", "bad",
                                        "pipe", "huge",  "nozero", "onlyzero", NULL};
    (void)state;
    for (const char *const *name = names; *name != NULL; name++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", folder, *name);
        unlink(path);
    }
    mpfr_free_cache();
    return rmdir(folder) != 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rounding),
        cmocka_unit_test(test_nan_and_unknown),
        cmocka_unit_test(test_probabilities),
        cmocka_unit_test(test_nf4),
        cmocka_unit_test(test_identity_is_content),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_refused_uses),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
