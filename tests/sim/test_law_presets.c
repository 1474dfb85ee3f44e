/* Published constants answer without any fit: the numbers of arXiv 2501.02423 and of the tables
 * in shared/laws.md, section 1. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "law_synthetic.h"

#define CHANNEL 13.1567 /* log2 of the paper's channel-wise block */

static struct fpl_fit *preset(const char *text) {
    struct fpl_fit *fit = NULL;
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_law_preset(text, &fit, &err) != FPL_OK) fail_msg("%s", err.text);
    return fit;
}

static struct fpl_answer ask(const struct fpl_fit *fit, struct fpl_point_at at) {
    struct fpl_answer answer;
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_fit_predict(fit, &at, &answer, &err) != FPL_OK) fail_msg("%s", err.text);
    return answer;
}

/* x agrees with a value printed with so many decimals. */
static void assert_rounds(double x, double printed, double unit) {
    if (!(fabs(x - printed) <= 0.5000001 * unit))
        fail_msg("%.10g, expected %g to the last digit", x, printed);
}

static void test_critical_sizes(void **state) {
    (void)state;
    struct fpl_fit *fit = preset("capybara:paper");
    assert_rounds(ask(fit, (struct fpl_point_at){1e9, 1e11, NONE, NONE, 8, 7, 128}).D_crit.value, 1730e12,
                  10e12);
    assert_rounds(ask(fit, (struct fpl_point_at){1e9, 1e11, NONE, NONE, 4, 3, 128}).D_crit.value, 27.3e12,
                  0.1e12);
    assert_rounds(ask(fit, (struct fpl_point_at){1e9, 1e11, NONE, NONE, 2, 1, 128}).D_crit.value, 0.393e12,
                  0.001e12);
    /* beyond it more data raises the loss */
    const double crit = ask(fit, (struct fpl_point_at){1e9, 1e11, NONE, NONE, 2, 1, 128}).D_crit.value;
    const double at = ask(fit, (struct fpl_point_at){1e9, crit, NONE, NONE, 2, 1, 128}).loss.value;
    assert_true(ask(fit, (struct fpl_point_at){1e9, 1.1 * crit, NONE, NONE, 2, 1, 128}).loss.value > at);
    assert_true(ask(fit, (struct fpl_point_at){1e9, 0.9 * crit, NONE, NONE, 2, 1, 128}).loss.value > at);
    fpl_fit_free(fit);
}

static void test_layouts(void **state) {
    (void)state;
    static const int exponent_bits[17] = {0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8};
    struct fpl_fit *fit = preset("capybara:paper");
    struct fpl_split split;
    for (int bits = 2; bits <= 16; bits++) {
        assert_true(fpl_fit_split(fit, bits, &split));
        assert_int_equal(split.E, exponent_bits[bits]);
        assert_int_equal(split.M, bits - 1 - split.E);
        assert_true(fabs(split.E_opt.value - (3.1926 * bits / (3.1926 + 2.9543) - 0.5)) < 1e-12);
        assert_true(isnan(split.E_opt.lo) && isnan(split.share));
    }
    assert_false(fpl_fit_split(fit, 1, &split));
    fpl_fit_free(fit);
}

static void test_penalties(void **state) {
    (void)state;
    static const struct {
        double E, M, nats;
    } rows[] = {{1, 1, 0.3799}, {1, 2, 0.0840}, {2, 1, 0.0744},
                {2, 3, 0.0061}, {5, 2, 0.0013}, {4, 3, 0.0009}};
    struct fpl_fit *fit = preset("capybara:paper");
    const double plain =
        ask(fit, (struct fpl_point_at){679477248, 104857600000, NONE, NONE, NONE, NONE, NONE}).loss.value;
    assert_rounds(plain, 2.6082, 1e-4);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct fpl_point_at at = {679477248, 104857600000, NONE,         NONE,
                                        rows[i].E, rows[i].M,    exp2(CHANNEL)};
        assert_rounds(ask(fit, at).loss.value - plain, rows[i].nats, 1e-4);
    }
    fpl_fit_free(fit);
}

static void test_cost_optimal_bits(void **state) {
    (void)state;
    static const double table[][2] = {{1e21, 4.19}, {1e24, 5.01}, {1e28, 6.34}, {1e31, 7.58}};
    struct fpl_fit *fit = preset("capybara:paper");
    for (size_t i = 0; i < 4; i++) {
        double bits, N, D;
        assert_true(fpl_fit_best_bits(fit, table[i][0], 128, &bits, &N, &D));
        assert_rounds(bits, table[i][1], 0.01);
        assert_true(fabs(6.0 / 16.0 * bits * N * D / table[i][0] - 1) < 1e-12);
        if (i == 1) assert_true(D / N < 1 && N > 6e11 && N < 1e12);
    }
    fpl_fit_free(fit);
}

static void test_other_presets(void **state) {
    (void)state;
    struct fpl_fit *fit = preset("steplaw:paper");
    struct fpl_answer a = ask(fit, (struct fpl_point_at){1e9, 1e11, NONE, NONE, NONE, NONE, NONE});
    assert_true(fabs(a.lr.value / (1.79 * pow(1e9, -0.713) * pow(1e11, 0.307)) - 1) < 1e-12);
    assert_true(fabs(a.batch_tokens.value / (0.58 * pow(1e11, 0.571)) - 1) < 1e-12);
    assert_true(isnan(a.loss.value) && isnan(a.D_crit.value) && a.outside == 0);
    fpl_fit_free(fit);
    fit = preset("steplaw:deepseek");
    a = ask(fit, (struct fpl_point_at){1e9, 1e11, NONE, NONE, NONE, NONE, NONE});
    assert_true(fabs(a.lr.value / (0.3118 * pow(6e20, -0.125)) - 1) < 1e-12);
    assert_true(fabs(a.batch_tokens.value / (0.2920 * pow(6e20, 0.3271)) - 1) < 1e-12);
    fpl_fit_free(fit);
    fit = preset("chinchilla:refit");
    a = ask(fit, (struct fpl_point_at){1e9, 1e11, NONE, NONE, NONE, NONE, NONE});
    assert_true(fabs(a.loss.value - (1.8172 + 482.01 / pow(1e9, 0.3478) + 2085.43 / pow(1e11, 0.3658))) <
                1e-12);
    fpl_fit_free(fit);
}

static void test_range_and_refusals(void **state) {
    (void)state;
    struct fpl_fit *fit = preset("capybara:paper"), *other = NULL;
    struct fpl_error err = {FPL_OK, ""};
    struct fpl_answer a = ask(fit, (struct fpl_point_at){8 * 680e6, 50e9, NONE, NONE, NONE, NONE, NONE});
    assert_true(fabs(a.outside - 3) < 1e-9);
    assert_non_null(strstr(a.warning, "3.0 octaves above"));
    static const struct {
        struct fpl_point_at at;
        const char *says;
    } bad[] = {
        {{-1, 1e9, NONE, NONE, NONE, NONE, NONE}, "N: found -1"},
        {{1e9, NONE, NONE, NONE, NONE, NONE, NONE}, "D: found nan"},
        {{1e-308, 1e9, NONE, NONE, NONE, NONE, NONE}, "N: found 1e-308, accepted is 1 to 1e+30"},
        {{1e9, 1e31, NONE, NONE, NONE, NONE, NONE}, "D: found 1e+31, accepted is 1 to 1e+30"},
        {{1e9, 1e9, 0, NONE, NONE, NONE, NONE}, "lr: found 0"},
        {{1e9, 1e9, NONE, NONE, 4, NONE, 32}, "E, M and block together"},
        {{1e9, 1e9, NONE, NONE, NONE, NONE, 32}, "E, M and block together"},
        {{1e9, 1e9, NONE, NONE, 4, -3, 32}, "0 to 64 bits"},
        {{1e9, 1e9, NONE, NONE, 4, 3, -32}, "block: found -32"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(fpl_fit_predict(fit, &bad[i].at, &a, &err), FPL_INVALID);
        if (strstr(err.text, bad[i].says) == NULL) fail_msg("%zu: %s", i, err.text);
    }
    fpl_fit_free(fit);
    const char *unknown[] = {"capybara", "capybara:", "capybara:best", "joint:paper", "kaplan:paper",
                             ":",        ""};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        assert_int_equal(fpl_law_preset(unknown[i], &other, &err), FPL_INVALID);
        assert_non_null(strstr(err.text, "capybara:paper"));
        assert_null(other);
    }
}

/* A format whose penalty cannot be told: no loss, and the unquantized learning rate. */
static void test_unknown_format(void **state) {
    (void)state;
    struct fpl_fit *fit = preset("capybara:paper");
    struct fpl_answer a = ask(fit, (struct fpl_point_at){1e8, 5e10, NONE, NONE, 4, 3, NONE});
    assert_true(isnan(a.loss.value) && isnan(a.D_crit.value));
    assert_non_null(strstr(a.warning, "fixed block"));
    fpl_fit_free(fit);
    fit = preset("steplaw:paper");
    a = ask(fit, (struct fpl_point_at){1e8, 5e10, NONE, NONE, 4, 3, 32});
    const struct fpl_answer b = ask(fit, (struct fpl_point_at){1e8, 5e10, NONE, NONE, NONE, NONE, NONE});
    assert_true(a.lr.value == b.lr.value && a.batch_tokens.value == b.batch_tokens.value);
    assert_non_null(strstr(a.warning, "nothing of number formats"));
    fpl_fit_free(fit);
}

/* Every preset of the registry has values inside its law's bounds and answers. */
static void test_registry(void **state) {
    (void)state;
    for (size_t i = 0; fpl_laws[i] != NULL; i++) {
        const char *name, *source;
        const double *values;
        for (size_t k = 0; fpl_law_preset_at(fpl_laws[i], k, &name, &source, &values); k++) {
            char text[64];
            snprintf(text, sizeof text, "%s:%s", fpl_law_name(fpl_laws[i]), name);
            struct fpl_fit *fit = preset(text);
            const struct fpl_answer a =
                ask(fit, (struct fpl_point_at){1e8, 1e10, NONE, NONE, NONE, NONE, NONE});
            assert_true(a.loss.value > 0 || (a.lr.value > 0 && a.batch_tokens.value > 0));
            assert_true(source[0] != '\0');
            fpl_fit_free(fit);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_critical_sizes), cmocka_unit_test(test_layouts),
        cmocka_unit_test(test_penalties),      cmocka_unit_test(test_cost_optimal_bits),
        cmocka_unit_test(test_other_presets),  cmocka_unit_test(test_range_and_refusals),
        cmocka_unit_test(test_unknown_format), cmocka_unit_test(test_registry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
