/* Records as JSON: every field survives, every number keeps its bits, wrong texts are
 * refused with the key named. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../sim/base/record.h"

static struct fpl_record example(void) {
    struct fpl_record r = {.status = FPL_RUN_COLLAPSED,
                           .why = "step 12: \"why\" with a \\ and \t",
                           .id = "0123456789abcdef",
                           .N = 26624,
                           .D = 499968,
                           .steps = 1953,
                           .loss = 1.0 / 3.0,
                           .loss_se = 0x1p-1074,
                           .oracle = (double)NAN,
                           .entropy_rate = 0.954,
                           .unigram_entropy = 2.7182818284590452,
                           .spikes = 3,
                           .nonfinite = INT64_MAX,
                           .seconds = 1e-300,
                           .tokens_per_second = 1.7976931348623157e308,
                           .flop = 6e15,
                           .peak_bytes = 1e9,
                           .joules = (double)NAN,
                           .backend = "cpu",
                           .variants = "avx512; gemm=own",
                           .simd = "avx512",
                           .host = "host",
                           .cpu = "cpu",
                           .compiler = "cc",
                           .revision = "abc",
                           .numerics = 1};
    r.canonical = strdup("backend=cpu\nnumerics=1\nlayers=2\n");
    r.curve_count = 2;
    r.curve = calloc(2, sizeof *r.curve);
    r.curve[0] = (struct fpl_point){1, 3.4, (double)NAN, (double)INFINITY};
    r.curve[1] = (struct fpl_point){2, -0.0, 0.1, (double)-INFINITY};
    r.eval_count = 1;
    r.eval = calloc(1, sizeof *r.eval);
    r.eval[0] = (struct fpl_point){7, 0.1, 0.2, 0.3};
    return r;
}

/* Equal bits, all NaNs equal. */
static int same(double a, double b) { return (isnan(a) && isnan(b)) || memcmp(&a, &b, sizeof a) == 0; }

static void round_trip(void **state) {
    (void)state;
    struct fpl_record a = example(), b;
    struct fpl_error err = {0};
    char *text = fpl_record_to_json(&a);
    assert_non_null(text);
    assert_int_equal(fpl_record_from_json(text, &b, &err), FPL_OK);
    assert_int_equal(b.status, a.status);
    assert_string_equal(b.why, a.why);
    assert_string_equal(b.id, a.id);
    assert_string_equal(b.canonical, a.canonical);
    assert_true(b.nonfinite == a.nonfinite && b.steps == a.steps && b.spikes == a.spikes);
    assert_true(same(a.loss, b.loss) && same(a.loss_se, b.loss_se) && same(a.oracle, b.oracle));
    assert_true(same(a.seconds, b.seconds) && same(a.tokens_per_second, b.tokens_per_second));
    assert_true(same(a.N, b.N) && same(a.D, b.D) && same(a.joules, b.joules));
    assert_true(same(a.entropy_rate, b.entropy_rate) && same(a.unigram_entropy, b.unigram_entropy));
    assert_string_equal(b.variants, a.variants);
    assert_int_equal(b.curve_count, 2);
    assert_int_equal(b.eval_count, 1);
    for (int i = 0; i < 2; i++) {
        assert_true(b.curve[i].step == a.curve[i].step && same(b.curve[i].loss, a.curve[i].loss));
        assert_true(same(b.curve[i].se, a.curve[i].se) && same(b.curve[i].grad_norm, a.curve[i].grad_norm));
    }
    char *again = fpl_record_to_json(&b);
    assert_string_equal(text, again); /* every field, also those not compared above */
    free(text);
    free(again);
    fpl_record_free(&a);
    fpl_record_free(&b);
}

static void an_empty_record(void **state) {
    (void)state;
    struct fpl_record a = {0}, b;
    struct fpl_error err = {0};
    char *text = fpl_record_to_json(&a);
    assert_int_equal(fpl_record_from_json(text, &b, &err), FPL_OK);
    assert_string_equal(b.canonical, "");
    free(text);
    fpl_record_free(&b);
}

static void a_host_name_in_another_encoding(void **state) {
    (void)state;
    struct fpl_record a = {.host = "caf\xe9"}, b;
    struct fpl_error err = {0};
    char *text = fpl_record_to_json(&a);
    assert_non_null(text);
    assert_int_equal(fpl_record_from_json(text, &b, &err), FPL_OK);
    assert_string_equal(b.host, "caf?");
    free(text);
    fpl_record_free(&b);
}

/* Replace `from` by `to` in the example's JSON; the reader must refuse it, naming `named`. */
static void refuses(const char *from, const char *to, const char *named) {
    struct fpl_record a = example(), b;
    struct fpl_error err = {0};
    char *text = fpl_record_to_json(&a);
    char *at = strstr(text, from);
    assert_non_null(at);
    const size_t size = strlen(text) + strlen(to) + 1;
    char *changed = malloc(size);
    snprintf(changed, size, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    assert_int_equal(fpl_record_from_json(changed, &b, &err), FPL_INVALID);
    if (strstr(err.text, named) == NULL) fail_msg("\"%s\" does not name %s", err.text, named);
    assert_null(strchr(err.text, '\n'));
    assert_null(b.curve);
    free(text);
    free(changed);
    fpl_record_free(&a);
}

static void wrong_texts(void **state) {
    (void)state;
    refuses("fplaw-record/1", "fplaw-record/2", "schema");
    refuses("\"collapsed\"", "\"failed\"", "status");
    refuses("\"steps\":1953", "\"steps\":-1", "steps");
    refuses("\"steps\":1953", "\"steps\":1.5", "steps");
    refuses("\"steps\":1953", "\"steps\":\"x\"", "steps");
    refuses("\"steps\":1953", "\"step\":1953", "step");
    refuses("\"numerics\":1", "\"numerics\":3000000000", "numerics");
    refuses("\"loss\":0.3", "\"loss\":[],\"x\":0.3", "x");
    refuses("\"N\":26624.0", "\"N\":\"many\"", "N");
    refuses("\"id\":\"0123456789abcdef\"", "\"id\":\"0123456789abcdef0\"", "id");
    refuses("\"host\":\"host\"", "\"host\":null", "host");
    refuses("\"host\":\"host\",", "", "host");
    refuses("\"host\":\"host\"", "\"cpu\":\"a\",\"host\":\"host\"", "cpu");
    refuses("\"eval\":[[7,", "\"eval\":[[", "eval");
    refuses("\"eval\":[[7,", "\"eval\":[[7.5,", "eval");
    refuses("\"eval\":[[7,0", "\"eval\":[{},[7,0", "point 1");
    refuses("\"canonical\":\"", "\"canonical\":null,\"junk\":\"", "junk");
    refuses("\"canonical\":\"", "\"canonical\":\"\\u0000", "line 1");
}

static void what_is_no_json(void **state) {
    (void)state;
    static const char *const texts[] = {"", "{", "[]", "null", "1", "{\"schema\":1}", "{} {}", "\xff"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct fpl_record r;
        struct fpl_error err = {0};
        assert_int_equal(fpl_record_from_json(texts[i], &r, &err), FPL_INVALID);
        assert_true(err.text[0] != '\0');
        fpl_record_free(&r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(round_trip), cmocka_unit_test(an_empty_record),
                                       cmocka_unit_test(a_host_name_in_another_encoding),
                                       cmocka_unit_test(wrong_texts), cmocka_unit_test(what_is_no_json)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
