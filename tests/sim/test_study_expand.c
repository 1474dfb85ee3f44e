/* test_study_expand.c - study files: products, laws, octaves, order, merging, and every error. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../sim/base/file.h"
#include "../../sim/study/internal.h"

#define BASE                                                                                                 \
    "options: {layers: 1, width: 16, heads: 1, seq: 16, batch_tokens: 64, tokens: 64k, data: "               \
    "\"lexicon:words=64\"}\n"

static struct fpl_study *read_text(const char *text) {
    struct fpl_study *s = NULL;
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_study_parse("s.yaml", text, strlen(text), "cpu", &s, &err) != FPL_OK)
        fail_msg("%s\n%s", err.text, text);
    return s;
}

static const struct fpl_config *run_at(const struct fpl_study *s, size_t stage, size_t i) {
    assert_true(i < s->stage[stage].runs);
    return &s->run[s->stage[stage].run[i]].config;
}

static void check_near(double x, double expected, double relative) {
    if (!(fabs(x - expected) <= relative * fabs(expected)))
        fail_msg("%.9g where %.9g is expected", x, expected);
}

static void test_counts(void **unused) {
    (void)unused;
    static const struct {
        const char *text;
        size_t runs;
    } cases[] = {
        {BASE, 1},
        {BASE "seeds: 3\n", 3},
        {BASE "seeds: [5, 7]\n", 2},
        {BASE "grid: {lr: [1e-3, 2e-3], width: [8, 16, 32]}\n", 6},
        {BASE "zip: {lr: [1e-3, 2e-3], width: [8, 16]}\n", 2},
        {BASE "zip: [{lr: [1e-3, 2e-3], width: [8, 16]}, {warmup: [0, 0.1, 0.2], clip: [1, 2, 3]}]\n", 6},
        {BASE "list: [{lr: 1e-3}, {width: 8, lr: 2e-3}]\n", 2},
        {BASE "list: [{lr: 1e-3, grid: {width: [8, 16]}}, {width: 8, seeds: 3}]\n", 5},
        {BASE "seeds: 2\ngrid: {lr: [1e-3, 2e-3]}\nzip: {width: [8, 16], clip: [1, 2]}\n"
              "list: [{recipe: fp32}, {grid: {recipe: [bf16, \"full:e4m3/1x32\"]}}]\n",
         2 * 2 * 2 * 3},
        {BASE "list: [{list: [{lr: 1e-3}, {lr: 2e-3}], width: 8}, {width: 32}]\n", 3},
        {BASE "grid: {tokens_per_param: [10, 20], steps: [5]}\n", 0}, /* exclusive: refused below */
        {BASE "grid: {tokens_per_param: [10, 20]}\n", 2},
        {BASE "grid: {recipe: [\"full:e4m3/1x32\", \"full:e4m3/1x32:fp32\"]}\n",
         1}, /* one recipe in two texts */
        {BASE "grid: {lr: [1e-3, 0.001, 2e-3]}\n", 2},
        {BASE "stages: [{name: a, seeds: 2}, {name: b, seeds: [2, 3]}]\n", 3}, /* merged across stages */
        {BASE "seeds: 2\nstages: [{name: a}, {name: b, options: {lr: 1e-3}}, {name: c, seeds: [9], options: "
              "{lr: 1e-3}}]\n",
         5},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (cases[i].runs == 0) continue;
        struct fpl_study *s = read_text(cases[i].text);
        if (s->runs != cases[i].runs) fail_msg("case %zu: %zu runs, expected %zu", i, s->runs, cases[i].runs);
        for (size_t k = 0; k < s->runs; k++) {
            assert_int_equal(strlen(s->run[k].id), 16);
            assert_true(s->run[k].flop > 0);
            for (size_t j = 0; j < k; j++) assert_string_not_equal(s->run[k].id, s->run[j].id);
        }
        fpl_study_free(s);
    }
}

static void test_settings(void **unused) {
    (void)unused;
    struct fpl_study *s = read_text("name: demo\nbudget: 1h30m\norder: file\n" BASE "stages:\n"
                                    "  - name: one\n"
                                    "    options: {width: 32, lr: 4e-3}\n"
                                    "    grid: {lr: [1e-3, 2e-3]}\n"
                                    "    list: [{recipe: bf16}, {tokens_per_param: 10, seeds: [4, 5]}]\n");
    assert_string_equal(s->name, "demo");
    check_near(s->budget, 5400, 0);
    assert_int_equal(s->runs, 6);
    const struct fpl_config *c = run_at(s, 0, 0);
    assert_int_equal(c->width, 32);
    assert_string_equal(c->recipe, "bf16");
    check_near(c->lr, 1e-3, 0);
    check_near(c->tokens, 64000, 0);
    c = run_at(s, 0, 2); /* second item, first lr, first seed */
    assert_string_equal(c->recipe, "fp32");
    check_near(c->lr, 1e-3, 0);
    assert_int_equal(c->seed, 4);
    assert_true(c->tokens <= 0);
    assert_int_equal(run_at(s, 0, 3)->seed, 5);
    check_near(run_at(s, 0, 5)->lr, 2e-3, 0);
    fpl_study_free(s);
    s = read_text(BASE);
    assert_string_equal(s->name, "s.yaml");
    fpl_study_free(s);
}

/* Constants: c N^n D^d, batch first, then the learning rate at D as trained. */
static void test_law_constants(void **unused) {
    (void)unused;
    struct fpl_study *s =
        read_text(BASE "law: {lr: {c: 12.48, N: -0.703, D: 0.22}, batch: {c: 15.67, N: -0.209, D: 0.606}}\n"
                       "order: file\n"
                       "list:\n"
                       "  - {lr: law, batch_tokens: law, tokens: 1M}\n"
                       "  - {lr: law, tokens: 1M}\n"
                       "  - {lr: law, batch_tokens: law, tokens: 1M, lr_octaves: 1.5, batch_octaves: -1}\n"
                       "  - {lr: 1e-3, batch_tokens: 64, lr_octaves: 2, batch_octaves: 1}\n");
    const double N = fpl_config_params(run_at(s, 0, 0));
    double B = 15.67 * pow(N, -0.209) * pow(1e6, 0.606);
    const struct fpl_config *c = run_at(s, 0, 0);
    assert_int_equal(c->batch_tokens % 16, 0);
    check_near((double)c->batch_tokens, B, 0.031);
    double D = (double)(fpl_config_steps(c) * c->batch_tokens);
    check_near(c->lr, 12.48 * pow(N, -0.703) * pow(D, 0.22), 5e-6);
    char text[40], again[40];
    snprintf(text, sizeof text, "%.6g", c->lr);
    snprintf(again, sizeof again, "%.17g", strtod(text, NULL) - c->lr);
    assert_string_equal(again, "0"); /* six digits, exactly */
    c = run_at(s, 0, 1);
    assert_int_equal(c->batch_tokens, 64);
    D = (double)(fpl_config_steps(c) * 64);
    check_near(c->lr, 12.48 * pow(N, -0.703) * pow(D, 0.22), 5e-6);
    c = run_at(s, 0, 2);
    check_near((double)c->batch_tokens, B / 2, 0.031);
    D = (double)(fpl_config_steps(c) * c->batch_tokens);
    check_near(c->lr, pow(2, 1.5) * 12.48 * pow(N, -0.703) * pow(D, 0.22), 5e-6);
    c = run_at(s, 0, 3);
    check_near(c->lr, 4e-3, 0);
    assert_int_equal(c->batch_tokens, 128);
    fpl_study_free(s);
}

static void test_round_sequences(void **unused) {
    (void)unused;
    assert_int_equal(study_round_sequences(0), 1);
    assert_int_equal(study_round_sequences(0.01), 1);
    assert_int_equal(study_round_sequences((double)NAN), 1);
    assert_int_equal(study_round_sequences(1.41), 1); /* sqrt(2) divides 1 from 2 */
    assert_int_equal(study_round_sequences(1.42), 2);
    for (int64_t m = 1; m <= 31; m++)
        for (int e = 0; e < 20; e++) assert_int_equal(study_round_sequences(ldexp((double)m, e)), m << e);
    for (double k = 1; k < 1e6; k *= 1.01) {
        int64_t r = study_round_sequences(k), odd = r;
        if (k >= 16) check_near((double)r, k, sqrt(17.0 / 16) - 1 + 1e-9); /* half of the widest gap */
        while (odd % 2 == 0) odd /= 2;
        assert_true(odd < 32);
    }
}

/* Fits from a file, a preset, and a stage that has not run. */
static void test_law_sources(void **unused) {
    (void)unused;
    struct fpl_study *s =
        read_text(BASE "law: {fit: \"steplaw:paper\"}\nlist: [{lr: law, batch_tokens: law, tokens: 2M}]\n");
    assert_int_equal(s->runs, 1);
    check_near((double)s->run[0].config.batch_tokens, 0.58 * pow(2e6, 0.571), 0.031);
    fpl_study_free(s);
    s = read_text(
        BASE
        "stages:\n"
        "  - {name: a, seeds: 2, grid: {lr: [1e-3, 2e-3, 4e-3]}}\n"
        "  - {name: b, after: a, law: {fit: a}, options: {lr: law}, grid: {tokens: [1M, 2M]}, seeds: 3}\n"
        "  - {name: c, after: [b], seeds: 9}\n");
    assert_int_equal(s->stages, 3);
    assert_int_equal(s->runs, 6 + 9);
    assert_int_equal(s->stage[0].resolved, 1);
    assert_int_equal(s->stage[1].resolved, 0);
    assert_int_equal(s->stage[1].runs, 6);
    assert_int_equal(s->stage[2].plan->after[0], 1); /* transitive */
    assert_true(s->stage[1].plan->planned[0].flop > 0);
    fpl_study_free(s);
}

static void order_is(const char *order, const char *expected) {
    char text[1024], found[256] = "";
    snprintf(text, sizeof text,
             BASE "order: %s\nseeds: 2\ngrid: {clip: [1, 2]}\n"
                  "list: [{recipe: fp32}, {recipe: bf16, width: 8}]\n",
             order);
    struct fpl_study *s = read_text(text);
    for (size_t i = 0; i < s->stage[0].runs; i++) {
        const struct fpl_config *c = run_at(s, 0, i);
        snprintf(found + strlen(found), sizeof found - strlen(found), "%c%d%d ", c->recipe[0], (int)c->clip,
                 (int)c->seed);
    }
    assert_string_equal(found, expected);
    fpl_study_free(s);
}

/* recipe's letter, clip, seed */
static void test_order(void **unused) {
    (void)unused;
    order_is("file", "f11 f12 f21 f22 b11 b12 b21 b22 ");
    order_is("balanced", "f11 b11 f21 b21 f12 b12 f22 b22 ");
    order_is("cost", "b11 b12 b21 b22 f11 f12 f21 f22 ");
}

static void test_durations(void **unused) {
    (void)unused;
    double x;
    static const struct {
        const char *text;
        double seconds;
    } good[] = {{"3600", 3600}, {"1h", 3600},   {"1h30m", 5400}, {"90m", 5400},
                {"45s", 45},    {"1.5h", 5400}, {"2k", 2000}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(fpl_study_duration(good[i].text, &x), 1);
        check_near(x, good[i].seconds, 0);
    }
    static const char *const bad[] = {"",     "0",  "-1",  "h",    "1d",  "1h30",
                                      "soon", "0s", "nan", "1e10", "-1h", "inf"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_int_equal(fpl_study_duration(bad[i], &x), 0);
}

static void test_errors(void **unused) {
    (void)unused;
    static const char *const cases[][2] = {
        {"- a\n", "s.yaml:1: a study is a map"},
        {BASE "gird: {lr: [1]}\n", "s.yaml:2: unknown key of a study 'gird'; did you mean 'grid'?"},
        {BASE "lr: 1e-3\n", "s.yaml:2: option 'lr' belongs under 'options'"},
        {BASE "grid: {lrr: [1e-3]}\n", "s.yaml:2: unknown option 'lrr'; did you mean 'lr'?"},
        {BASE "grid: {lr: []}\n", "s.yaml:2: grid: lr: the list of values is empty"},
        {BASE "grid: {}\n", "s.yaml:2: grid: is empty"},
        {BASE "grid:\n", "s.yaml:2: grid: a map"},
        {BASE "grid: [1]\n", "a list is found"},
        {BASE "grid: {lr: 1e-3}\n", "s.yaml:2: grid: lr: a list of values is expected, a value is found"},
        {BASE "grid:\n  lr: [1e-3, [2]]\n", "s.yaml:3: lr: a value is expected, a list is found"},
        {BASE "grid:\n  lr:\n    - 1e-3\n    - fast\n", "s.yaml:5: lr: 'fast' is not a number"},
        {BASE "grid: {width: [16, 1e9]}\n", "s.yaml:2: width: 1e9 is outside the accepted range"},
        {BASE "grid: {lr: [nan]}\n", "s.yaml:2: lr: 'nan' is not a number"},
        {BASE "grid: {recipe: [\"full:e4m3/1x\"]}\n", "s.yaml:2: recipe: "},
        {BASE "zip: {lr: [1e-3, 2e-3], width: [16]}\n", "s.yaml:2: zip: width has 1 values, lr has 2"},
        {BASE "zip: []\n", "zip: is empty"},
        {BASE "zip: [{}]\n", "zip: is empty"},
        {BASE "list: []\n", "list: is empty"},
        {BASE "list: [5]\n", "list: every element is a map"},
        {BASE "list: [{}]\n", "list: an element is empty"},
        {BASE "list: [{colour: red}]\n", "unknown option 'colour'"},
        {BASE "list: [{gird: {lr: [1]}}]\n", "did you mean 'grid'?"},
        {BASE "list: [{lr: [1]}]\n", "lr: a value is expected, a list is found"},
        {BASE "seeds: 0\n", "seeds: a list of integers or a count"},
        {BASE "seeds: many\n", "seeds: a list of integers or a count"},
        {BASE "seeds: []\n", "seeds: the list is empty"},
        {BASE "seeds: {a: 1}\n", "a map is found"},
        {BASE "seeds: [1, x]\n", "seed: 'x'"},
        {BASE "seeds: 2\ngrid: {seed: [1]}\n", "seed is set twice for one run"},
        {BASE "grid: {lr: [1e-3]}\nlist:\n  - lr: 2e-3\n",
         "s.yaml:2: lr is set twice for one run, first in line 4"},
        {BASE "grid: {lr: [1e-3]}\nzip: {lr: [2e-3]}\n", "lr is set twice"},
        {BASE "grid: {tokens: [1M], steps: [5]}\n", "steps and tokens (line 2) exclude each other"},
        {"options: {tokens: 1M, steps: 5}\n", "s.yaml:1: tokens and steps exclude each other"},
        {"options: [1]\n", "options: a map"},
        {"options: {width: 32, width: 16}\n", "key 'width' is given twice"},
        {BASE "grid: {heads: [1, 3]}\n", "s.yaml:1: width 16, heads 3"},
        {BASE "grid:\n  batch_tokens: [64, 100]\n", "batch_tokens 100 is not a multiple of seq 16"},
        {BASE "list:\n  - {seq: 16}\n  - {seq: 24}\n",
         "s.yaml:4: batch_tokens 64 is not a multiple of seq 24"},
        {BASE "grid: {data: [\"lexicn\"]}\n", "lexicn"},
        {BASE "grid: {data: [\"bytes:/no/such/file\"]}\n", "/no/such/file"},
        {BASE "grid: {lr: [law]}\n", "lr is 'law', but neither the stage nor the study has a law"},
        {BASE "grid: {width: [law]}\n", "width: 'law' is not a number"},
        {BASE "grid: {batch_tokens: [law]}\nlaw: {lr: {c: 1}}\n", "no constants for batch"},
        {BASE "grid: {lr: [law]}\nlaw: {batch: {c: 1}}\n", "no constants for lr"},
        {BASE "list: [{batch_tokens: law, steps: 9}]\nlaw: {batch: {c: 1}}\n", "needs the amount of data"},
        {BASE "law: {lr: {N: 1}}\n", "the constant c is missing"},
        {BASE "law: {lr: {c: 1, M: 1}}\n", "unknown constant of a law 'M'"},
        {BASE "law: {lr: {c: -1}}\n", "outside the accepted range"},
        {BASE "law: {lr: {c: 1, D: 99}}\n", "outside the accepted range"},
        {BASE "law: {lr: 5}\n", "law: lr: a map"},
        {BASE "law: {lr: {c: 1e30}}\ngrid: {lr: [law]}\n", "lr: 1e+30 is outside"},
        {BASE "law: {lr: {c: 1e-9}}\ngrid: {lr: [law]}\n", "lr_final"},
        {BASE "law: {}\n", "either constants (lr, batch) or a fit"},
        {BASE "law: {fit: a, lr: {c: 1}}\n", "both are given"},
        {BASE "law: {fti: a}\n", "did you mean 'fit'?"},
        {BASE "law: {fit: /no/such.json}\n", "/no/such.json"},
        {BASE "law: {fit: \"steplaw:nobody\"}\n", "nobody"},
        {BASE "law: {fit: \"steplaw:paper\", law: stepplaw}\n", "no known law"},
        {BASE "law: {fit: \"chinchilla:epoch\"}\nlist: [{lr: law}]\n", "s.yaml:2: "},
        {BASE "law: 5\n", "law: a map is expected"},
        {BASE "grid: {lr_octaves: [30]}\n", "outside the accepted range -20 to 20"},
        {BASE "grid: {lr_octaves: [x]}\n", "lr_octaves: 'x' is not a number"},
        {BASE "budget: soon\n", "s.yaml:2: budget: a positive time"},
        {BASE "budget: {minutes: 5}\n", "unknown key of the budget 'minutes'"},
        {BASE "budget: [1]\n", "budget: a positive time"},
        {BASE "budget: -5\n", "budget: a positive time"},
        {BASE "order: random\n", "order: balanced, file or cost"},
        {BASE "name: []\n", "name: a text"},
        {BASE "stages: []\n", "stages: a list of stages is expected, an empty list"},
        {BASE "stages: {a: 1}\n", "stages: a list of stages"},
        {BASE "stages: [5]\n", "stages: every element is a map"},
        {BASE "stages: [{grid: {lr: [1e-3]}}]\n", "a stage has no name"},
        {BASE "stages: [{name: a/b}]\n", "name of a stage"},
        {BASE "stages: [{name: a}, {name: a}]\n", "two stages are called 'a'"},
        {BASE "stages: [{name: a, affter: b}]\n", "did you mean 'after'?"},
        {BASE "stages: [{name: a, after: b}, {name: b}]\n", "after: 'b' is no earlier stage"},
        {BASE "stages: [{name: a, after: a}]\n", "after: 'a' is no earlier stage"},
        {BASE "stages: [{name: a, after: {b: 1}}]\n", "names of stages are expected"},
        {BASE "stages: [{name: a}, {name: b, law: {fit: a}}]\n", "must come after it"},
        {BASE "stages: [{name: a}]\ngrid: {lr: [1e-3]}\n", "'grid' stands beside 'stages'"},
        {BASE "stages:\n  - {name: a}\n  - {name: b, after: a, law: {fit: a}, options: {lr: law}, grid: "
              "{heads: [3]}}\n",
         "s.yaml:4: width 16, heads 3"},
        {BASE "stages:\n  - {name: a}\n  - {name: b, after: a, law: {fit: a}}\n"
              "  - {name: c, after: a, law: {fit: a, where: N>1}}\n",
         "s.yaml:5: law: two fits of stage 'a' with different `where`"},
        {BASE "seeds: 1000\ngrid: {lr_octaves: [-3,-2,-1,0,1,2,3], batch_octaves: [0,1,2]}\n",
         "more than 20000 runs"},
        {BASE "seeds: [1, 1e99]\n", "seed: "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fpl_study *s = (struct fpl_study *)(uintptr_t)1;
        struct fpl_error err = {FPL_OK, ""};
        enum fpl_code code = fpl_study_parse("s.yaml", cases[i][0], strlen(cases[i][0]), "cpu", &s, &err);
        if (code != FPL_INVALID || s != NULL || strstr(err.text, cases[i][1]) == NULL ||
            strncmp(err.text, "s.yaml:", 7) != 0)
            fail_msg("case %zu: code %d, '%s' lacks '%s'", i, (int)code, err.text, cases[i][1]);
    }
}

/* Runs beyond a text's tokens would repeat it. */
static void test_corpus(void **unused) {
    (void)unused;
    char path[] = "/tmp/test_study.XXXXXX", text[600];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    struct fpl_text t = {0};
    for (int i = 0; i < 3000; i++) fpl_text_add(&t, "word %d and more\n", i);
    assert_int_equal(fpl_file_write(path, t.text, t.size, NULL), FPL_OK);
    fpl_text_free(&t);
    struct fpl_study *s = NULL;
    struct fpl_error err = {FPL_OK, ""};
    snprintf(text, sizeof text,
             "options: {layers: 1, width: 16, heads: 1, seq: 16, batch_tokens: 64, data: \"bytes:%s\"}\n"
             "grid: {tokens: [10k, 1M]}\n",
             path);
    assert_int_equal(fpl_study_parse("s.yaml", text, strlen(text), "cpu", &s, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "the data has"));
    remove(path);
}

/* The example of study.h is a study. */
static void test_header_example(void **unused) {
    (void)unused;
    char *header = NULL, text[4096] = "";
    size_t size = 0;
    assert_int_equal(fpl_file_read(FPL_TEST_SOURCE "/sim/study/study.h", 1 << 20, &header, &size, NULL),
                     FPL_OK);
    char *line = strstr(header, "* Example:\n");
    assert_non_null(line);
    for (line = strchr(line, '\n') + 1; strncmp(line, " */", 3) != 0; line = strchr(line, '\n') + 1) {
        size_t n = strcspn(line, "\n");
        assert_true(n > 4 && strlen(text) + n < sizeof text);
        strncat(text, line + 5, n - 4); /* " *   " and the line's end */
    }
    free(header);
    char *data = strstr(text, "\"bytes:dict.txt\"");
    assert_non_null(data);
    memcpy(data, "\"lexicon\"       ", 16);
    struct fpl_study *s = read_text(text);
    assert_int_equal(s->stages, 2);
    assert_int_equal(s->stage[0].runs, 2 * 2 * 3 * 3);
    assert_int_equal(s->stage[1].runs, 3 * 2 * 3 * 3);
    fpl_study_free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_law_constants), cmocka_unit_test(test_round_sequences),
        cmocka_unit_test(test_law_sources),   cmocka_unit_test(test_order),
        cmocka_unit_test(test_durations),     cmocka_unit_test(test_errors),
        cmocka_unit_test(test_corpus),        cmocka_unit_test(test_header_example)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
