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

/* ---- the other laws --------------------------------------------------------------------------- */

static struct fpl_answer ask_all(const struct fpl_fit *fit, const struct fpl_question *q) {
    struct fpl_answer a;
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_fit_ask(fit, q, &a, &err) != FPL_OK) fail_msg("%s", err.text);
    return a;
}

static double told(const struct fpl_answer *a, const char *name) {
    for (int i = 0; i < a->told_count; i++)
        if (strcmp(a->told[i].name, name) == 0) return a->told[i].value.value;
    return NONE;
}

/* Losses of the published constants, from the formulas written a second time, in published form. */
static void test_formulas(void **state) {
    (void)state;
    const double N = 3e8, D = 2e10, P = 6, G = 64;
    const double w = 1 - exp(-6 / 2.6745 + 0.3037), a = 1 - exp(-8 / 2.2102 + 1.4072),
                 kv = 1 - exp(-7 / 0.9578 + 2.4185);
    const struct {
        const char *preset;
        double expected;
        int delta;
    } laws[] = {
        {"kumar:paper", 4299 * pow(N * w * a * kv, -0.4965) + 18060 * pow(D, -0.4965) + 2.7648, 0},
        {"kumar-ptq:paper", 0.0598 * pow(D, 0.5068) / pow(N, 0.3439) * exp(-P / 0.5907), 1},
        {"qat:paper", 0.1582 * pow(D, 0.0745) * pow(log2(G), 0.7779) / pow(N, 0.2186), 1},
        {"capacity:paper", pow(1.52e5 / pow(N * 0.6, 0.589) + 5.25e5 / pow(D * 0.9, 0.544), 0.274) + 1.35, 0},
        {"average-n:refit", 1.8172 + 482.01 / pow(2e8, 0.3478) + 2085.43 / pow(D, 0.3658), 0},
        {"chinchilla:refit", 1.8172 + 482.01 / pow(N, 0.3478) + 2085.43 / pow(D, 0.3658), 0},
    };
    struct fpl_question q;
    fpl_question_clear(&q);
    q.value[FPL_VAR_N] = N;
    q.value[FPL_VAR_D] = D;
    q.value[FPL_VAR_PW] = 6;
    q.value[FPL_VAR_PA] = 8;
    q.value[FPL_VAR_PKV] = 7;
    q.value[FPL_VAR_BITS] = P;
    q.value[FPL_VAR_GROUP] = G;
    q.value[FPL_VAR_EFF_N] = 0.6;
    q.value[FPL_VAR_EFF_D] = 0.9;
    q.value[FPL_VAR_N_MEAN] = 2e8;
    for (size_t i = 0; i < sizeof laws / sizeof laws[0]; i++) {
        struct fpl_fit *fit = preset(laws[i].preset);
        const struct fpl_answer answer = ask_all(fit, &q);
        const double x = laws[i].delta ? answer.delta.value : answer.loss.value;
        if (!(fabs(x / laws[i].expected - 1) < 1e-12))
            fail_msg("%s: %.15g, expected %.15g", laws[i].preset, x, laws[i].expected);
        assert_true(laws[i].delta == isnan(answer.loss.value));
        fpl_fit_free(fit);
    }
}

/* Tied optimum 7.0 bits, 3.5 without offsets; below gamma n bits nothing is answered, also where two
 * negative factors would make a positive one. */
static void test_kumar(void **state) {
    (void)state;
    struct fpl_fit *fit = preset("kumar:paper");
    struct fpl_question q;
    fpl_question_clear(&q);
    q.value[FPL_VAR_N] = 1e9;
    q.value[FPL_VAR_D] = 1e11;
    struct fpl_answer a = ask_all(fit, &q);
    assert_rounds(told(&a, "bits_opt"), 7.0, 0.1);
    assert_true(fabs(told(&a, "N_eff") / 1e9 - 1) < 1e-12);
    assert_true(fabs(a.loss.value - (4299 * pow(1e9, -0.4965) + 18060 * pow(1e11, -0.4965) + 2.7648)) <
                1e-12);
    static const double outside[][3] = {{8, 3.1, NONE}, {8, 8, 2.3}, {NONE, 3, 2}, {0.8, NONE, NONE}};
    for (size_t i = 0; i < 4; i++) {
        q.value[FPL_VAR_PW] = outside[i][0];
        q.value[FPL_VAR_PA] = outside[i][1];
        q.value[FPL_VAR_PKV] = outside[i][2];
        a = ask_all(fit, &q);
        assert_true(isnan(a.loss.value) && a.told_count == 0);
        assert_non_null(strstr(a.warning, "outside its domain"));
    }
    q.value[FPL_VAR_PW] = q.value[FPL_VAR_PA] = q.value[FPL_VAR_PKV] = 3.2;
    assert_true(ask_all(fit, &q).loss.value > 0);
    fit->value[6] = fit->value[8] = fit->value[10] = 0; /* offsets */
    a = ask_all(fit, &q);
    assert_rounds(told(&a, "bits_opt"), 3.5, 0.1);
    fpl_fit_free(fit);
}

/* Channel-wise is the whole law at log2 B = 13.1567; cost-optimal bits by `flop`, with a warning where
 * the law asks for fewer tokens than parameters. */
static void test_capybara_parts(void **state) {
    (void)state;
    struct fpl_fit *whole = preset("capybara:paper"), *channel = preset("capybara-channel:paper");
    struct fpl_question q;
    fpl_question_clear(&q);
    q.value[FPL_VAR_N] = 679477248;
    q.value[FPL_VAR_D] = 104857600000;
    q.value[FPL_VAR_E] = q.value[FPL_VAR_M] = 1;
    const double here = ask_all(channel, &q).loss.value;
    q.value[FPL_VAR_BLOCK] = exp2(13.1567);
    const struct fpl_answer a = ask_all(whole, &q);
    assert_true(fabs(here - a.loss.value) < 1e-12);
    assert_true(isnan(told(&a, "bits_opt")));
    /* D_crit of E1M1, channel-wise, inside the tested range: 21 to 40 billion tokens */
    q.value[FPL_VAR_N] = 40894464;
    assert_true(ask_all(whole, &q).D_crit.value > 20e9 && ask_all(whole, &q).D_crit.value < 23e9);
    q.value[FPL_VAR_N] = 679477248;
    assert_true(ask_all(whole, &q).D_crit.value > 36e9 && ask_all(whole, &q).D_crit.value < 42e9);
    q.value[FPL_VAR_BLOCK] = 128;
    static const double bits[][2] = {{1e21, 4.19}, {1e24, 5.01}, {1e28, 6.34}, {1e31, 7.58}};
    for (int i = 0; i < 4; i++) {
        q.flop = bits[i][0];
        const struct fpl_answer b = ask_all(whole, &q);
        assert_rounds(told(&b, "bits_opt"), bits[i][1], 0.01);
        const double N = told(&b, "N_bits"), D = told(&b, "D_bits");
        assert_true(fabs(6.0 / 16 * told(&b, "bits_opt") * N * D / q.flop - 1) < 1e-9);
        assert_true((D < N) == (strstr(b.warning, "fewer tokens than parameters") != NULL));
        if (i == 1) assert_true(N > 7e11 && N < 9e11 && D < N);
    }
    fpl_fit_free(whole);
    fpl_fit_free(channel);
}

/* At the ends of the ranges the loss is 0.25 % above the least, between them less, beyond more. */
static void test_bowl(void **state) {
    (void)state;
    struct fpl_fit *fit = preset("bowl:steplaw");
    struct fpl_question q;
    fpl_question_clear(&q);
    const struct fpl_answer best = ask_all(fit, &q);
    assert_true(fabs(best.lr.value / (12.48 * pow(4e8, -0.703) * pow(2.5e10, 0.220)) - 1) < 1e-9);
    assert_true(fabs(best.batch_tokens.value / (15.67 * pow(4e8, -0.209) * pow(2.5e10, 0.606)) - 1) < 1e-9);
    static const char *const names[] = {"lr_lo", "lr_hi", "batch_lo", "batch_hi"};
    for (int i = 0; i < 4; i++) {
        const int batch = i >= 2;
        const double edge = told(&best, names[i]), optimum = batch ? best.batch_tokens.value : best.lr.value;
        assert_true((edge > optimum) == (i % 2 == 1));
        for (int step = -1; step <= 1; step++) {
            q.value[FPL_VAR_LR] = best.lr.value;
            q.value[FPL_VAR_BATCH] = best.batch_tokens.value;
            q.value[batch ? FPL_VAR_BATCH : FPL_VAR_LR] = optimum * pow(edge / optimum, 1 + 0.01 * step);
            const double rise = ask_all(fit, &q).loss.value / best.loss.value - 1.0025;
            assert_true(step == 0 ? fabs(rise) < 1e-9 : (rise > 0) == (step > 0));
        }
    }
    /* the best learning rate at a batch above and below */
    for (int i = -1; i <= 1; i += 2) {
        q.value[FPL_VAR_BATCH] = best.batch_tokens.value * exp2(2 * i);
        q.value[FPL_VAR_LR] = NONE;
        struct fpl_answer a = ask_all(fit, &q);
        const double x = told(&a, "lr_at_batch");
        q.value[FPL_VAR_LR] = x;
        const double at = ask_all(fit, &q).loss.value;
        q.value[FPL_VAR_LR] = 1.03 * x;
        assert_true(ask_all(fit, &q).loss.value > at);
        q.value[FPL_VAR_LR] = x / 1.03;
        assert_true(ask_all(fit, &q).loss.value > at);
    }
    fpl_fit_free(fit);
}

/* Compute-optimal sizes of Chinchilla's form have a closed form: N = G (C/6)^(beta/(alpha+beta)). */
static void test_compute_optimum(void **state) {
    (void)state;
    struct fpl_fit *fit = preset("chinchilla:refit");
    struct fpl_question q;
    fpl_question_clear(&q);
    q.value[FPL_VAR_N] = 7e10;
    q.value[FPL_VAR_D] = 1.4e12;
    const struct fpl_answer own = ask_all(fit, &q);
    q.flop = 6 * 7e10 * 1.4e12;
    const struct fpl_answer a = ask_all(fit, &q);
    const double alpha = 0.3478, beta = 0.3658,
                 G = pow(alpha * 482.01 / (beta * 2085.43), 1 / (alpha + beta));
    const double N = G * pow(q.flop / 6, beta / (alpha + beta));
    assert_true(fabs(told(&a, "N_opt") / N - 1) < 1e-5); /* a minimum is known to the root of rounding */
    assert_true(fabs(told(&a, "N_opt") * told(&a, "D_opt") * 6 / q.flop - 1) < 1e-12);
    assert_true(told(&a, "N_opt") == told(&own, "N_opt"));
    assert_true(told(&a, "loss_opt") <= a.loss.value);
    fpl_fit_free(fit);
}

/* Gradual pruning: the mean of the cubic schedule against a sum over steps. */
static void test_pruned_mean(void **state) {
    (void)state;
    const double before = 8e8, after = 2e8, begin = 0.25, end = 0.75;
    double sum = 0;
    enum { STEPS = 200000 };
    for (int i = 0; i < STEPS; i++) {
        const double t = (i + 0.5) / STEPS, z = fmin(1, fmax(0, (t - begin) / (end - begin)));
        sum += after + (before - after) * pow(1 - z, 3);
    }
    assert_true(fabs(fpl_pruned_mean(before, after, begin, end) / (sum / STEPS) - 1) < 1e-8);
    assert_true(fpl_pruned_mean(before, before, begin, end) == before);
}

/* What a question lacks is said in one line with what the law takes. */
static void test_questions(void **state) {
    (void)state;
    struct fpl_fit *fit = preset("qat:paper");
    struct fpl_question q;
    struct fpl_answer a;
    struct fpl_error err = {FPL_OK, ""};
    fpl_question_clear(&q);
    q.value[FPL_VAR_N] = q.value[FPL_VAR_D] = 1e9;
    assert_int_equal(fpl_fit_ask(fit, &q, &a, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "group: found nan"));
    assert_non_null(strstr(err.text, "qat takes N D group"));
    q.value[FPL_VAR_GROUP] = 1;
    a = ask_all(fit, &q);
    assert_true(isnan(a.delta.value) && strstr(a.warning, "outside its domain") != NULL);
    q.value[FPL_VAR_BLOCK] = 32; /* the group, where it is not given */
    q.value[FPL_VAR_GROUP] = NONE;
    assert_true(ask_all(fit, &q).delta.value > 0);
    fpl_fit_free(fit);
}

/* Every preset of the registry has values inside its law's bounds and answers. */
static void test_registry(void **state) {
    (void)state;
    size_t laws = 0;
    for (size_t i = 0; fpl_laws[i] != NULL; i++) {
        const char *name, *source;
        const double *values;
        for (size_t k = 0; fpl_law_preset_at(fpl_laws[i], k, &name, &source, &values); k++) {
            char text[64];
            struct fpl_question q;
            snprintf(text, sizeof text, "%s:%s", fpl_law_name(fpl_laws[i]), name);
            struct fpl_fit *fit = preset(text);
            fpl_question_clear(&q);
            for (int v = 0; v < FPL_VARIABLES; v++)
                if (fpl_law_takes(fpl_laws[i], (enum fpl_variable)v) == 2) q.value[v] = 8;
            q.value[FPL_VAR_N] = q.value[FPL_VAR_N_MEAN] = 1e8;
            q.value[FPL_VAR_D] = 1e10;
            const struct fpl_answer a = ask_all(fit, &q);
            assert_true(a.loss.value > 0 || a.delta.value > 0 ||
                        (a.lr.value > 0 && a.batch_tokens.value > 0));
            assert_true(source[0] != '\0');
            double theta[FPL_LAW_PARAMS];
            fpl_laws[i]->internal(fpl_laws[i], values, &fit->centre, theta);
            for (int j = 0; j < fpl_laws[i]->params; j++) assert_true(isfinite(theta[j]));
            fpl_fit_free(fit);
            laws++;
        }
    }
    assert_true(laws >= 11);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_critical_sizes), cmocka_unit_test(test_layouts),
        cmocka_unit_test(test_penalties),      cmocka_unit_test(test_cost_optimal_bits),
        cmocka_unit_test(test_other_presets),  cmocka_unit_test(test_range_and_refusals),
        cmocka_unit_test(test_unknown_format), cmocka_unit_test(test_formulas),
        cmocka_unit_test(test_kumar),          cmocka_unit_test(test_capybara_parts),
        cmocka_unit_test(test_bowl),           cmocka_unit_test(test_compute_optimum),
        cmocka_unit_test(test_pruned_mean),    cmocka_unit_test(test_questions),
        cmocka_unit_test(test_registry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
