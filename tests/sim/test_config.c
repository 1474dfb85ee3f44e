/* test_config.c - the option table: every row is read, printed, limited; cross-checks; identity. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../formats/recipe.h"
#include "../../sim/base/config.h"
#include "../../sim/base/number.h"

static struct fpl_config defaults(void) {
    struct fpl_config c;
    fpl_config_defaults(&c);
    return c;
}

static void set(struct fpl_config *c, const char *key, const char *value) {
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_config_set(c, key, value, &err) != FPL_OK) fail_msg("%s=%s: %s", key, value, err.text);
}

static void refused(const char *key, const char *value, const char *part) {
    struct fpl_config c = defaults(), before = c;
    struct fpl_error err = {FPL_OK, ""};
    assert_int_equal(fpl_config_set(&c, key, value, &err), FPL_INVALID);
    if (strstr(err.text, part) == NULL) fail_msg("%s=%s: '%s' lacks '%s'", key, value, err.text, part);
    assert_memory_equal(&c, &before, sizeof c);
}

/* Row by row: the default is what the struct holds, values at the limits are accepted and read
 * back, values beyond and words are refused. */
static void test_every_row(void **unused) {
    (void)unused;
    for (const struct fpl_option *o = fpl_options; o->key != NULL; o++) {
        struct fpl_config c = defaults();
        char text[2048], again[2048], limit[FPL_NUMBER_TEXT];
        assert_ptr_equal(fpl_option_find(o->key), o);
        set(&c, o->key, o->fallback);
        assert_true(fpl_config_get(&c, o->key, text, sizeof text) > 0);
        set(&c, o->key, text);
        fpl_config_get(&c, o->key, again, sizeof again);
        assert_string_equal(text, again);
        refused(o->key, "", o->key);
        if (o->type == FPL_OPT_TEXT) continue;
        refused(o->key, "nan", o->key);
        refused(o->key, "inf", o->key);
        refused(o->key, "many", o->key);
        refused(o->key, "-1", o->key);
        fpl_number_print(o->min, limit);
        set(&c, o->key, limit);
        if (o->type == FPL_OPT_UINT) continue;
        fpl_number_print(o->max, limit);
        set(&c, o->key, limit);
        fpl_config_get(&c, o->key, text, sizeof text);
        double x = 0;
        assert_int_equal(fpl_number_parse(text, &x, NULL), FPL_OK);
        assert_true(x >= o->max && x <= o->max);
        fpl_number_print(o->max * 2 + 2, limit);
        refused(o->key, limit, o->type == FPL_OPT_INT && o->max > 1e12 ? "" : "range");
    }
}

static void test_refused(void **unused) {
    (void)unused;
    refused("widht", "32", "did you mean 'width'");
    refused("lr_finl", "1", "did you mean 'lr_final'");
    refused("xyzzyxyzzy", "1", "unknown option");
    refused("layers", "1.5", "not an integer");
    refused("layers", "0", "range");
    refused("lr", "0", "range");
    refused("beta1", "1", "range");
    refused("schedule", "linear", "cosine, wsd, constant");
    refused("recipe", "full:e9m9", "recipe");
    refused("data", "a\nb", "line break");
    char text[1100];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    refused("data", text, "longer");
}

static void test_amounts(void **unused) {
    (void)unused;
    struct fpl_config c = defaults();
    assert_true(c.tokens > 0);
    assert_int_equal(fpl_config_steps(&c), (500000 + 128) / 256);
    set(&c, "tokens_per_param", "20");
    assert_true(c.tokens <= 0);
    assert_true(fpl_config_steps(&c) == (int64_t)llround(20 * fpl_config_params(&c) / 256));
    set(&c, "steps", "7");
    assert_true(c.tokens_per_param <= 0);
    assert_int_equal(fpl_config_steps(&c), 7);
    set(&c, "tokens", "1");
    assert_int_equal(c.steps, 0);
    assert_int_equal(fpl_config_steps(&c), 1); /* at least one */
    struct fpl_error err;
    assert_int_equal(fpl_config_check(&c, &err), FPL_OK);
    set(&c, "tokens", "0");
    assert_int_equal(fpl_config_check(&c, &err), FPL_INVALID);
    c.tokens = 1e6;
    c.steps = 5;
    assert_int_equal(fpl_config_check(&c, &err), FPL_INVALID);
}

static void test_sizes(void **unused) {
    (void)unused;
    struct fpl_config c = defaults();
    for (int64_t width = 2; width < 600; width++) {
        c.width = width;
        int64_t f = fpl_config_ffn(&c);
        assert_true(f % 32 == 0 && f >= 32);
        if (f > 32) assert_true(llabs(3 * f - 8 * width) <= 3 * 16); /* the nearest multiple of 32 */
        if (f == 32) assert_true(8 * width <= 3 * 48);
    }
    c.width = 32;
    assert_int_equal(fpl_config_ffn(&c), 96);
    assert_true(fabs(fpl_config_params(&c) - 2.0 * (4 * 32 * 32 + 3 * 32 * 96)) < 0.5);
    assert_true(fabs(fpl_config_flop_per_token(&c, 32) -
                     (6 * fpl_config_params(&c) + 12.0 * 2 * 64 * 32 + 6.0 * 32 * 32)) < 0.5);
    /* The default micro-batch divides the batch, holds whole sequences, is as large as allowed. */
    for (int64_t sequences = 1; sequences < 200; sequences++) {
        c.batch_tokens = sequences * c.seq;
        int64_t micro = fpl_config_micro(&c);
        assert_true(micro % c.seq == 0 && c.batch_tokens % micro == 0 && micro <= 2048);
        for (int64_t larger = micro + c.seq; larger <= 2048; larger += c.seq)
            assert_true(c.batch_tokens % larger != 0);
    }
    c.seq = 4096;
    c.batch_tokens = 4096 * 3;
    assert_int_equal(fpl_config_micro(&c), 4096);
    c.micro_tokens = 4096 * 3;
    assert_int_equal(fpl_config_micro(&c), 4096 * 3);
}

static void test_cross_checks(void **unused) {
    (void)unused;
    static const struct {
        const char *settings[8];
        const char *part; /* NULL: accepted */
    } cases[] = {
        {{"width=33"}, "heads"},
        {{"width=6", "heads=2"}, "even head width"},
        {{"heads=3"}, "heads"},
        {{"batch_tokens=100"}, "multiple of seq"},
        {{"micro_tokens=100"}, "micro_tokens"},
        {{"micro_tokens=192"}, "divide batch_tokens"},
        {{"micro_tokens=128"}, NULL},
        {{"lr=1e-6"}, "lr_final"},
        {{"lr=1e-6", "schedule=constant"}, NULL},
        {{"schedule=wsd", "warmup=0.5", "decay_share=0.6"}, "above 1"},
        {{"schedule=cosine", "warmup=0.5", "decay_share=0.6"}, NULL},
        {{"layers=1024", "width=65536", "heads=2"}, "parameters"},
        {{"tokens=1e15", "batch_tokens=64"}, "steps"},
        {{"steps=4294967295", "batch_tokens=1e9", "seq=64"}, "tokens"},
        {{"seq=1", "batch_tokens=1"}, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fpl_config c = defaults();
        struct fpl_error err = {FPL_OK, ""};
        for (const char *const *s = cases[i].settings; *s != NULL; s++) {
            char key[64];
            size_t n = strcspn(*s, "=");
            memcpy(key, *s, n);
            key[n] = '\0';
            set(&c, key, *s + n + 1);
        }
        enum fpl_code code = fpl_config_check(&c, &err);
        if (code != (cases[i].part == NULL ? FPL_OK : FPL_INVALID) ||
            (cases[i].part != NULL && strstr(err.text, cases[i].part) == NULL))
            fail_msg("case %zu: code %d, '%s'", i, (int)code, err.text);
    }
    /* Values that never went through fpl_config_set. */
    struct fpl_config c = defaults();
    struct fpl_error err;
    c.lr = (double)NAN;
    assert_int_equal(fpl_config_check(&c, &err), FPL_INVALID);
    c = defaults();
    c.layers = -1;
    assert_int_equal(fpl_config_check(&c, &err), FPL_INVALID);
}

static const char default_text[] =
    "backend=cpu\nnumerics=%d\nlayers=2\nwidth=32\nheads=2\nffn=96\nseq=64\ninit_std=0.08838834764831843\n"
    "data=FINGERPRINT\ndata_seed=0\nsteps=1953\nbatch_tokens=256\nmicro_tokens=256\nrecipe=fp32\nlr=0.005\n"
    "lr_final=1e-05\nschedule=cosine\nwarmup=0.05\ndecay_share=0.2\nweight_decay=0.1\nbeta1=0.9\nbeta2=0.95\n"
    "eps=1e-08\nclip=1\neval_tokens=65536\neval_every=0\nseed=1\n";

static void check_same_id(const struct fpl_config *a, const struct fpl_config *b, int same) {
    char *x = fpl_config_canonical(a, "cpu", "F"), *y = fpl_config_canonical(b, "cpu", "F"), i[17], j[17];
    assert_non_null(x);
    assert_non_null(y);
    fpl_config_id(x, i);
    fpl_config_id(y, j);
    assert_int_equal(strlen(i), 16);
    assert_int_equal(strcmp(i, j) == 0, same);
    free(x);
    free(y);
}

static void test_identity(void **unused) {
    (void)unused;
    struct fpl_config c = defaults(), d = defaults();
    char expected[1024], *text = fpl_config_canonical(&c, "cpu", "FINGERPRINT");
    snprintf(expected, sizeof expected, default_text, FPL_NUMERICS);
    assert_string_equal(text, expected);
    free(text);
    /* Two texts of one training. */
    set(&d, "tokens", "500001");
    check_same_id(&c, &d, 1);
    set(&d, "steps", "1953");
    set(&d, "ffn", "96");
    set(&d, "micro_tokens", "256");
    set(&d, "checkpoint_every", "10");
    check_same_id(&c, &d, 1);
    /* Every option that counts changes it. */
    static const char *const changed[][2] = {
        {"layers", "3"},         {"width", "16"},        {"heads", "1"},      {"ffn", "64"},
        {"seq", "32"},           {"init_std", "0.1"},    {"data_seed", "2"},  {"tokens", "1M"},
        {"batch_tokens", "512"}, {"micro_tokens", "64"}, {"recipe", "bf16"},  {"lr", "5.0001e-3"},
        {"lr_final", "0"},       {"schedule", "wsd"},    {"warmup", "0"},     {"decay_share", "1"},
        {"weight_decay", "0"},   {"beta1", "0.8"},       {"beta2", "0.9"},    {"eps", "1e-9"},
        {"clip", "0"},           {"eval_tokens", "64"},  {"eval_every", "5"}, {"seed", "2"}};
    for (size_t i = 0; i < sizeof changed / sizeof *changed; i++) {
        d = defaults();
        set(&d, changed[i][0], changed[i][1]);
        check_same_id(&c, &d, 0);
    }
}

static void test_from_canonical(void **unused) {
    (void)unused;
    struct fpl_config c = defaults(), d;
    set(&c, "recipe", "full:e4m3fn/1x32:e8m0");
    set(&c, "lr", "0.0033333333333333335");
    set(&c, "seed", "18446744073709551615");
    char *text = fpl_config_canonical(&c, "cpu", "kind:0123"), backend[16];
    int numerics = 0;
    struct fpl_error err = {FPL_OK, ""};
    assert_int_equal(fpl_config_from_canonical(text, &d, backend, &numerics, &err), FPL_OK);
    assert_string_equal(backend, "cpu");
    assert_int_equal(numerics, FPL_NUMERICS);
    char *again = fpl_config_canonical(&d, "cpu", d.data);
    assert_string_equal(text, again);
    assert_true(d.seed == UINT64_MAX);
    free(text);
    free(again);
    assert_int_equal(fpl_config_from_canonical("layers", &d, NULL, NULL, &err), FPL_INVALID);
    assert_int_equal(fpl_config_from_canonical("numerics=x\n", &d, NULL, NULL, &err), FPL_INVALID);
    assert_int_equal(fpl_config_from_canonical("colour=red\n", &d, NULL, NULL, &err), FPL_INVALID);
}

/* The recipe is kept in its canonical form, whatever was written. */
static void test_recipe_text(void **unused) {
    (void)unused;
    struct fpl_config c = defaults();
    struct fpl_recipe r;
    for (const struct fpl_recipe_preset *p = fpl_recipe_presets; p->name != NULL; p++) {
        set(&c, "recipe", p->example);
        assert_int_equal(fpl_recipe_parse(p->example, &r, NULL), FPL_OK);
        assert_string_equal(c.recipe, r.text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_row),      cmocka_unit_test(test_refused),
        cmocka_unit_test(test_amounts),        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_cross_checks),   cmocka_unit_test(test_identity),
        cmocka_unit_test(test_from_canonical), cmocka_unit_test(test_recipe_text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
