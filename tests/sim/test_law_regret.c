/* Regret of published learning-rate and batch laws on the 1,911 runs of Step Law against the
 * figures of shared/laws.md, section 4 (skips where ../shared/data is absent), and on a made-up
 * grid whose regret is known in closed form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <unistd.h>

#include "../../sim/law/regret.h"
#include "law_synthetic.h"

static const char *const path = FPL_TEST_SHARED "/data/steplaw-dense.csv";

/* A quadratic bowl on a grid of whole octaves: ln loss = 1 + k ((x - a)^2 + (y - b)^2). */
static void bowl(struct fpl_runs *runs, double a, double b, double k) {
    memset(runs, 0, sizeof *runs);
    runs->run = calloc(100, sizeof *runs->run);
    assert_non_null(runs->run);
    for (int i = 0; i < 7; i++)
        for (int j = 0; j < 7; j++) {
            struct fpl_run *r = &runs->run[runs->count++];
            const double x = -12 + i, y = 14 + j;
            r->N = 1e8;
            r->D = 1e9;
            r->lr = exp2(x) * 1.0007; /* spellings of a level differ */
            r->batch_tokens = exp2(y);
            r->loss = exp(1 + k * ((x - a) * (x - a) + (y - b) * (y - b)));
        }
}

static void test_bowl(void **state) {
    (void)state;
    struct fpl_runs runs;
    struct fpl_grid *grid;
    struct fpl_error err = {FPL_OK, ""};
    const double a = -9.3, b = 17.2, k = 0.002;
    bowl(&runs, a, b, k);
    if (fpl_grid_new(&runs, &grid, &err) != FPL_OK) fail_msg("%s", err.text);
    assert_int_equal(fpl_grid_cells(grid), 1);
    const struct fpl_grid_cell cell = fpl_grid_cell(grid, 0);
    assert_int_equal(cell.runs, 49);
    assert_true(fabs(log2(cell.lr) - a) <= 0.02 && fabs(log2(cell.batch_tokens) - b) <= 0.02);
    assert_true(cell.noise < 1e-12);
    for (int i = 0; i < 20; i++) {
        const double x = a - 1.1 + 0.13 * i, y = b + 0.9 - 0.11 * i, nx = floor(x + 0.5), ny = floor(y + 0.5);
        const struct fpl_regret r = fpl_grid_regret(grid, 0, exp2(x), exp2(y));
        const double away = k * ((nx - a) * (nx - a) + (ny - b) * (ny - b)),
                     best = k * (0.3 * 0.3 + 0.2 * 0.2);
        assert_true(fabs(r.nearest - expm1(away - best)) < 1e-12);
        assert_true(fabs(r.distance - hypot(x - nx, y - ny)) < 1e-9);
        /* the lattice misses the minimum by at most half a diagonal */
        const double exact = k * ((x - a) * (x - a) + (y - b) * (y - b));
        assert_true(r.smoothed <= exact + 1e-10 && r.smoothed >= exact - k * 2 * 0.01 * 0.01 - 1e-10);
    }
    /* half-way between four runs: the lower x, then the lower y */
    const struct fpl_regret tie = fpl_grid_regret(grid, 0, exp2(-9.5), exp2(17.5));
    assert_true(fabs(tie.nearest - expm1(k * (0.7 * 0.7 + 0.2 * 0.2) - k * 0.13)) < 1e-12);
    double noise;
    const struct fpl_estimate perfect = fpl_grid_perfect(grid, 50, 0.95, 0, &noise);
    assert_true(fabs(perfect.value) < 1e-9); /* without noise the truth costs nothing */
    fpl_grid_free(grid);
    fpl_runs_free(&runs);
}

static void test_refusals(void **state) {
    (void)state;
    struct fpl_runs runs;
    struct fpl_grid *grid;
    struct fpl_error err = {FPL_OK, ""};
    bowl(&runs, -9, 17, 0.002);
    for (size_t i = 0; i < runs.count; i++) runs.run[i].lr = NONE;
    assert_int_equal(fpl_grid_new(&runs, &grid, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "lr"));
    assert_null(grid);
    fpl_runs_free(&runs);
    bowl(&runs, -9, 17, 0.002);
    runs.count = 10; /* too few for a quartic */
    assert_int_equal(fpl_grid_new(&runs, &grid, &err), FPL_OK);
    const struct fpl_regret r = fpl_grid_regret(grid, 0, exp2(-9), exp2(17));
    assert_true(isnan(r.smoothed) && isfinite(r.nearest));
    fpl_grid_free(grid);
    fpl_runs_free(&runs);
}

/* Mean regrets in per cent over the 17 cells; tolerance: half a unit of the last printed digit. */
static void test_published(void **state) {
    (void)state;
    if (access(path, R_OK) != 0) {
        printf("skipped: %s is absent\n", path);
        skip();
    }
    static const struct {
        const char *preset;
        double nearest;
    } cases[] = {{"steplaw:paper", 0.0957}, {"steplaw:deepseek", 0.7560}, {"steplaw:porian", 0.7432}};
    const char *columns[] = {"loss=smooth loss", "batch_tokens=bs*2048", NULL};
    struct fpl_runs runs;
    struct fpl_grid *grid;
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_runs_read_csv(path, columns, &runs, &err) != FPL_OK) fail_msg("%s", err.text);
    if (fpl_grid_new(&runs, &grid, &err) != FPL_OK) fail_msg("%s", err.text);
    assert_int_equal(fpl_grid_cells(grid), 17);
    for (int k = 0; k < 3; k++) {
        struct fpl_fit *fit;
        double nearest[17], smoothed[17];
        assert_int_equal(fpl_law_preset(cases[k].preset, &fit, &err), FPL_OK);
        for (size_t i = 0; i < 17; i++) {
            const struct fpl_grid_cell c = fpl_grid_cell(grid, i);
            const struct fpl_point_at at = {c.N, c.D, NONE, NONE, NONE, NONE, NONE};
            struct fpl_answer a;
            assert_int_equal(fpl_fit_predict(fit, &at, &a, &err), FPL_OK);
            const struct fpl_regret r = fpl_grid_regret(grid, i, a.lr.value, a.batch_tokens.value);
            assert_true(r.distance < FPL_OFF_GRID);
            nearest[i] = r.nearest;
            smoothed[i] = r.smoothed;
        }
        const struct fpl_estimate mean = fpl_mean_over_cells(nearest, 17, 1000, 0.95, 0);
        if (!(fabs(100 * mean.value - cases[k].nearest) <= 0.00005))
            fail_msg("%s: %.6f %%, published %.4f", cases[k].preset, 100 * mean.value, cases[k].nearest);
        assert_true(mean.lo < mean.value && mean.value < mean.hi);
        if (k == 0) {
            const struct fpl_estimate smooth = fpl_mean_over_cells(smoothed, 17, 1000, 0.95, 0);
            assert_true(fabs(100 * smooth.value - 0.046) <= 0.0005);
        }
        fpl_fit_free(fit);
    }
    double noise;
    const struct fpl_estimate perfect = fpl_grid_perfect(grid, 400, 0.95, 0, &noise);
    assert_true(noise > 0.0005 && noise < 0.002);
    assert_true(perfect.lo < perfect.value && perfect.value < perfect.hi && perfect.value < 0.0015);
    fpl_grid_free(grid);
    fpl_runs_free(&runs);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bowl),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_published),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
