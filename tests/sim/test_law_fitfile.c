/* FIT.json: what is written reads back to the same answers and the same text; hostile, damaged
 * and truncated files give one clear line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "law_synthetic.h"

static char *text; /* of a joint and a chinchilla fit */
static struct fpl_fit *fits[2];
static struct synthetic table;

static int setup(void **state) {
    (void)state;
    const struct fpl_fit_options options = {.bootstrap = 20,
                                            .level = 0.9,
                                            .threads = 1,
                                            .hold_out = "N>9e4",
                                            .unit = FPL_UNIT_CELL,
                                            .profile = "alpha,E",
                                            .diagnose = 1};
    synthetic_joint(&table, 0.01, 1, 0);
    table.runs.run[7].status = FPL_RUN_DIVERGED;
    if (fpl_law_fit(fpl_law_find("joint"), &table.runs, &options, &fits[0], NULL) != FPL_OK) return -1;
    if (fpl_law_fit(fpl_law_find("chinchilla"), &table.runs, &options, &fits[1], NULL) != FPL_OK) return -1;
    text = fpl_fits_to_json_by(fits, 2, &table.runs, "1.2.3", "abc");
    return text == NULL;
}

static int teardown(void **state) {
    (void)state;
    fpl_fit_free(fits[0]);
    fpl_fit_free(fits[1]);
    free(text);
    synthetic_end(&table);
    return 0;
}

static enum fpl_code parse(const char *json, size_t size, struct fpl_fit ***out, size_t *count,
                           struct fpl_error *err) {
    err->code = FPL_OK;
    err->text[0] = '\0';
    return fpl_fits_parse("fit.json", json, size, out, count, err);
}

static void assert_same(const struct fpl_estimate *a, const struct fpl_estimate *b) {
    /* the centre differs, so the last digits may */
    assert_true(fabs(a->value / b->value - 1) < 1e-11 && fabs(a->lo / b->lo - 1) < 1e-11 &&
                fabs(a->hi / b->hi - 1) < 1e-11);
}

static void test_round_trip(void **state) {
    (void)state;
    struct fpl_fit **again;
    struct fpl_error err;
    size_t count;
    if (parse(text, strlen(text), &again, &count, &err) != FPL_OK) fail_msg("%s", err.text);
    assert_int_equal(count, 2);
    char *copy = fpl_fits_to_json_by(again, count, &table.runs, "1.2.3", "abc");
    assert_string_equal(text, copy);
    free(copy);
    const struct fpl_point_at at = {5e4, 8e6, NONE, 512, 3, 2, 32};
    struct fpl_answer a, b;
    assert_int_equal(fpl_fit_predict(fits[0], &at, &a, &err), FPL_OK);
    assert_int_equal(fpl_fit_predict(again[0], &at, &b, &err), FPL_OK);
    assert_same(&a.loss, &b.loss);
    assert_same(&a.loss_new, &b.loss_new);
    assert_same(&a.lr, &b.lr);
    assert_same(&a.batch_tokens, &b.batch_tokens);
    assert_same(&a.D_crit, &b.D_crit);
    assert_true(a.outside == b.outside && fabs(a.outside - 1) < 1e-12);
    assert_string_equal(a.warning, b.warning);
    struct fpl_split split;
    assert_true(fpl_fit_split(again[0], 8, &split));
    assert_true(split.share > 0 && split.share <= 1 && split.E_opt.lo <= split.E_opt.value);
    assert_false(fpl_fit_split(again[1], 8, &split)); /* chinchilla knows no formats */
    fpl_fits_free(again, count);
}

/* The keys that scripts rely on. */
static void test_keys(void **state) {
    (void)state;
    static const char *const keys[] = {"{\"schema\":\"fplaw-fit/1\",\"laws\":[{\"law\":\"joint\",",
                                       "\"status\":\"converged\"",
                                       "\"params\":{\"E\":{\"value\":",
                                       "\"objective\":{\"name\":\"huber_log\",\"delta\":",
                                       "\"rms_log_residual\":",
                                       "\"held_out\":{\"where\":\"N>9e4\"",
                                       "\"range\":{\"N\":[5120.0,",
                                       "\"runs\":{\"used\":",
                                       "\"left_out\":[{\"run\":\"r007\",\"why\":\"diverged\"}",
                                       "\"bootstrap\":{\"unit\":\"cell\",\"n\":20,\"level\":0.9",
                                       "\"base\":{\"chosen\":\"chinchilla-nd\"",
                                       "\"findings\":[\"condition number",
                                       "\"profile\":[",
                                       "\"cells\":[{\"N\":94000.0",
                                       "\"data\":{\"path\":\"synthetic\",\"xxh128\":\"",
                                       "\"program\":{\"version\":\"1.2.3\",\"revision\":\"abc\"}}"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (strstr(text, keys[i]) == NULL) fail_msg("missing: %s", keys[i]);
}

static void refused(const char *json, size_t size, const char *says) {
    struct fpl_fit **out = NULL;
    struct fpl_error err;
    size_t count = 7;
    if (parse(json, size, &out, &count, &err) == FPL_OK) fail_msg("accepted: %.200s", json);
    assert_int_equal(err.code, FPL_INVALID);
    assert_null(out);
    assert_int_equal(count, 0);
    assert_int_equal(strncmp(err.text, "fit.json", 8), 0);
    assert_null(strchr(err.text, '\n'));
    if (says != NULL && strstr(err.text, says) == NULL) fail_msg("says: %s (expected: %s)", err.text, says);
}

static void test_truncated(void **state) {
    (void)state;
    const size_t size = strlen(text);
    for (size_t cut = 0; cut + 2 < size; cut += 1 + size / 300) refused(text, cut, NULL);
    refused(text, size - 2, "not JSON");
}

/* The text with the first `from` after `key` replaced. */
static char *replaced(const char *key, const char *from, const char *to) {
    const char *at = strstr(strstr(text, key), from);
    char *out = malloc(strlen(text) + strlen(to) + 1);
    assert_non_null(at);
    assert_non_null(out);
    sprintf(out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return out;
}

static void test_damaged(void **state) {
    (void)state;
    static const struct {
        const char *key, *from, *to, *says;
    } cases[] = {
        {"schema", "fplaw-fit/1", "fplaw-fit/9", "expected \"fplaw-fit/1\""},
        {"schema", "\"fplaw-fit/1\"", "3", "'schema' is a number"},
        {"\"law\":", "joint", "nosuch", "unknown law 'nosuch'"},
        {"\"base\":", "chinchilla-nd", "nosuch", "does not stand on 'nosuch'"},
        {"\"law\":", "\"joint\"", "null", "'law': found null"},
        {"\"status\"", "converged", "fine", "expected converged"},
        {"\"params\"", "\"alpha\"", "\"alfa\"", "no parameter 'alfa'"},
        {"\"params\"", "\"alpha\"", "\"E\"", "not JSON"}, /* a key twice */
        {"\"params\"", "\"value\":", "\"valeu\":", "'E': found nothing"},
        {"\"gamma\"", "\"gamma\"", "\"x\"", "no parameter 'x'"},
        {"\"lr_shift\":{", "\"value\":", "\"value\":null,\"v\":", "'lr_shift': found null"},
        {"\"A\":", "\"value\":", "\"value\":-", "outside its domain"},
        {"\"bowl_k1\":", "\"value\":", "\"value\":-", "outside its domain"},
        {"\"range\"", "[5120.0,", "[-5120.0,", "range of N"},
        {"\"range\"", "[5120.0,", "[5120.0,1,", "two numbers"},
        {"\"used\"", ":", ":-", "'runs.used'"},
        {"\"left_out\"", "\"run\":", "\"rn\":", "objects with run and why"},
        {"\"level\"", "0.9", "9", "'bootstrap.level'"},
        {"\"vectors\"", "[[", "[[1,", "as long as bootstrap.params"},
        {"\"vectors\"", "[[", "[[],[", "as long as bootstrap.params"},
        {"\"vectors\"", "[[", "[[\"x\",", "as long as"},
        {"\"objective\"", "\"delta\":", "\"delta\":[],\"d\":", "'delta': found an array"},
        {"\"weights\"", "\"params\":[\"E\"", "\"params\":[\"alpha\"", "each of this law's parameters once"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *json = replaced(cases[i].key, cases[i].from, cases[i].to);
        refused(json, strlen(json), cases[i].says);
        free(json);
    }
}

static void test_foreign(void **state) {
    (void)state;
    static const char *const others[] = {"",
                                         "[]",
                                         "{}",
                                         "null",
                                         "3",
                                         "{\"schema\":\"fplaw-fit/1\"}",
                                         "\xff\xfe",
                                         "N,D\n1,2\n",
                                         "{\"schema\":\"fplaw-fit/1\",\"laws\":{}}",
                                         "{\"schema\":\"fplaw-fit/1\",\"laws\":[]}",
                                         "{\"schema\":\"fplaw-fit/1\",\"laws\":[3]}",
                                         "{\"schema\":\"fplaw-fit/1\",\"laws\":[{}]}"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) refused(others[i], strlen(others[i]), NULL);
    enum { DEEP = 100000 };
    char *deep = malloc(DEEP);
    assert_non_null(deep);
    memset(deep, '[', DEEP);
    refused(deep, DEEP, "not JSON");
    free(deep);
    struct fpl_fit **out;
    struct fpl_error err = {FPL_OK, ""};
    size_t count;
    assert_int_not_equal(fpl_fits_read("/nonexistent/fit.json", &out, &count, &err), FPL_OK);
    assert_non_null(strstr(err.text, "/nonexistent/fit.json"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_keys),    cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_damaged),    cmocka_unit_test(test_foreign),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
