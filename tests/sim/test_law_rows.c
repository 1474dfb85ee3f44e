/* The objective of every law, a block of rows at a time, against sums over rows one by one in long double;
 * and a row's value and gradient, the same bits in a block and alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../sim/law/block.h"
#include "../../sim/law/objective.h"
#include "law_design.h"

#define P FPL_LAW_PARAMS
#define UNIT 0x1p-53

/* A problem from the law's usual table, with weights (some 0) and a point to look at. */
struct scene {
    struct design design;
    struct fpl_problem problem;
    double *weight, theta[P];
};

static int begin(struct scene *s, const struct fpl_law *law, uint64_t table) {
    struct fpl_left_list left = {0, 0, NULL};
    struct fpl_error err = {FPL_OK, ""};
    memset(s, 0, sizeof *s);
    /* optima, and joint on any base, from tables of joint */
    const int from_joint = law->base != NULL || (law->use & FPL_OPTIMA) != 0;
    if (!design_make(&s->design, from_joint ? &fpl_law_joint : law, table, 1)) return 0;
    s->problem.threads = 1;
    if (fpl_rows_select(law, &s->design.runs, 0.3, &s->problem, &left, &err) != FPL_OK)
        fail_msg("%s", err.text);
    free(left.item);
    s->weight = calloc(s->problem.count, sizeof *s->weight);
    for (size_t i = 0; i < s->problem.count; i++) s->weight[i] = i % 7 == 3 ? 0.0 : 0.5 + (double)(i % 5);
    double starts[64][P];
    memset(starts, 0, sizeof starts);
    const int count = law->start(&s->problem, starts, 64);
    assert_true(count > 0);
    memcpy(s->theta, starts[table % (uint64_t)count], sizeof s->theta);
    fpl_problem_settle(&s->problem, s->theta);
    return 1;
}

static void end(struct scene *s) {
    free(s->weight);
    fpl_problem_free(&s->problem);
    design_end(&s->design);
}

/* A sum and the sum of its terms' sizes, to which rounding is relative. */
struct sum {
    long double of, size;
};

static void add(struct sum *s, double x) {
    s->of += (long double)x;
    s->size += (long double)fabs(x);
}

struct witness {
    struct sum value, gradient[P], inside[P][P], outside[P][P];
};

static void add_row(struct witness *w, double r, double weight, double delta, const double *grad,
                    int params) {
    const int near = fabs(r) <= delta;
    const double slope = near ? r : copysign(delta, r);
    add(&w->value, weight * (near ? 0.5 * r * r : delta * (fabs(r) - 0.5 * delta)));
    for (int i = 0; i < params; i++) {
        add(&w->gradient[i], -weight * slope * grad[i]);
        for (int j = 0; j <= i; j++)
            add(near ? &w->inside[i][j] : &w->outside[i][j],
                (near ? weight : weight * delta / fabs(r)) * grad[i] * grad[j]);
    }
}

/* n terms round to n units of the sum of their sizes.  A value near 1 is good to some 100 units, and of
 * residuals of 0.01 that is 10000. */
static void check_sum(const char *law, const char *what, double got, const struct sum *want, size_t n) {
    const double bound = ((double)n + 10000.0) * UNIT * (double)want->size;
    if (!(fabs(got - (double)want->of) <= bound))
        fail_msg("%s: %s is %.17g, one by one %.17g", law, what, got, (double)want->of);
}

static void check_objective(const struct fpl_law *law, uint64_t table, double delta) {
    struct scene s;
    if (!begin(&s, law, table)) return;
    static struct witness w;
    static struct fpl_model m;
    const struct fpl_problem *p = &s.problem;
    const struct fpl_objective o = {.problem = p, .weight = s.weight, .delta = delta, .scale = 0.01};
    const struct fpl_layout l = fpl_layout_of(p);
    const int optima = (law->use & FPL_OPTIMA) != 0;
    memset(&w, 0, sizeof w);
    for (size_t i = 0; i < p->count; i++)
        for (int pass = 0; pass <= optima && s.weight[i] > 0.0; pass++) {
            double grad[P], kept[P];
            const struct fpl_law_at *at = &p->row[i].at;
            fpl_law_value *f = !optima ? fpl_law_fitted(law) : pass == 0 ? law->log_lr : law->log_batch;
            const double target = !optima ? p->row[i].target : pass == 0 ? at->x : at->y;
            const double r = target - f(law, s.theta, at, grad);
            for (int j = 0; j < l.count; j++) kept[j] = grad[l.index[j]];
            add_row(&w, r, s.weight[i], delta, kept, l.count);
        }
    fpl_objective_at(&o, &l, s.theta, 0, &m);
    check_sum(law->name, "value", m.value, &w.value, p->count);
    for (int i = 0; i < l.count; i++) {
        check_sum(law->name, "gradient", m.gradient[i], &w.gradient[i], p->count);
        for (int j = 0; j <= i; j++) {
            check_sum(law->name, "inside", m.inside[i * P + j], &w.inside[i][j], p->count);
            check_sum(law->name, "outside", m.outside[i * P + j], &w.outside[i][j], p->count);
        }
    }
    end(&s);
}

static void test_objective(void **state) {
    (void)state;
    for (size_t k = 0; fpl_laws[k] != NULL; k++)
        for (uint64_t table = 0; table < 3; table++) {
            check_objective(fpl_laws[k], table, 0.01);
            check_objective(fpl_laws[k], table, HUGE_VAL);
        }
    for (size_t k = 0; fpl_law_joints[k] != NULL; k++) check_objective(fpl_law_joints[k], 5, 0.01);
}

static void check_rows(const struct fpl_law *law) {
    struct scene s;
    if (law->rows == NULL || !begin(&s, law, 1)) return;
    static lanes value[FPL_BLOCK_LANES], grad[P * FPL_BLOCK_LANES];
    const struct fpl_values out = {value, grad, FPL_BLOCK_LANES};
    for (size_t first = 0, b = 0; first < s.problem.count; first += FPL_BLOCK, b++) {
        const struct fpl_columns *c = &s.problem.columns[b];
        const struct fpl_row *row = &s.problem.row[first];
        const struct fpl_block block = fpl_columns_block(c, row->at.n0, row->at.d0);
        law->rows(law, s.theta, &block, &out);
        for (int k = 0; k < c->rows; k++) {
            double alone[P];
            const double x = law->log_loss(law, s.theta, &row[k].at, alone), y = FPL_AT(value, k);
            assert_memory_equal(&x, &y, sizeof x);
            for (int j = 0; j < law->params; j++) {
                const double g = FPL_AT(grad + j * FPL_BLOCK_LANES, k);
                if (!(alone[j] == g))
                    fail_msg("%s: row %d, %s: %a alone, %a in a block", law->name, k, law->param[j].name,
                             alone[j], g);
            }
        }
    }
    end(&s);
}

static void test_rows(void **state) {
    (void)state;
    size_t with = 0;
    for (size_t k = 0; fpl_laws[k] != NULL; k++) {
        check_rows(fpl_laws[k]);
        with += fpl_laws[k]->rows != NULL;
    }
    for (size_t k = 0; fpl_law_joints[k] != NULL; k++) check_rows(fpl_law_joints[k]);
    assert_true(with > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_objective), cmocka_unit_test(test_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
