/* test_model_gradient.c - the model's gradients.
 *
 * 1. In double precision, on the reference operations: every element of every tensor against
 *    fourth-order central differences of the loss,
 *        (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12 h,   truncation h^4 f'''''/30,
 *    relative error below 1e-5 in each tensor, over several shapes, packs and micro-batches.
 * 2. The program's float32 model on the CPU backend, same weights: each gradient and loss
 *    within SIGMAS times the spread of runs whose every operation errs by float32's bound,
 *    SIGMAS from Hoeffding's inequality (tests/ref/perturbed.h).
 * 3. Micro-batches: one call or several give the same gradients, to rounding in double.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../formats/random.h"
#include "../ref/model_double.h"

struct problem {
    struct fpl_model_shape shape;
    int calls; /* micro-batches of one step, micro_sequences sequences each but the last: one fewer */
};

static const struct problem problems[] = {
    {{.R = 1, .layers = 1, .width = 4, .heads = 1, .ffn = 4, .vocab = 3, .seq = 3, .micro_sequences = 1}, 1},
    {{.R = 1, .layers = 2, .width = 8, .heads = 2, .ffn = 12, .vocab = 11, .seq = 5, .micro_sequences = 2},
     3},
    {{.R = 2, .layers = 2, .width = 6, .heads = 3, .ffn = 5, .vocab = 7, .seq = 4, .micro_sequences = 2}, 2},
    {{.R = 3, .layers = 1, .width = 12, .heads = 1, .ffn = 9, .vocab = 5, .seq = 1, .micro_sequences = 3}, 2},
    {{.R = 1, .layers = 3, .width = 8, .heads = 4, .ffn = 16, .vocab = 6, .seq = 9, .micro_sequences = 1}, 2},
};
enum { PROBLEMS = sizeof problems / sizeof *problems };

/* ---- a step's data ----------------------------------------------------------------------------- */

struct data {
    int64_t sequences[8];            /* of each call */
    int32_t *inputs[8], *targets[8]; /* [R, sequences, T] */
    int64_t first_row[8], tokens;    /* of one replica, whole step */
    double *losses;
};

static uint32_t draw(uint64_t i) {
    uint32_t w[4];
    fpl_random_block(31, i, 0, fpl_stream(FPL_STREAM_TEST, 4), w);
    return w[0];
}

static void *grab(int64_t count, size_t size) {
    void *p = calloc((size_t)count + 1, size);
    assert_non_null(p);
    return p;
}

static struct data make_data(const struct problem *p) {
    struct data d = {.tokens = 0};
    uint64_t state = 0;
    for (int c = 0; c < p->calls; c++) {
        const int64_t most = p->shape.micro_sequences;
        d.sequences[c] = c == p->calls - 1 && most > 1 ? most - 1 : most;
        const int64_t rows = d.sequences[c] * p->shape.seq, all = rows * p->shape.R;
        d.inputs[c] = grab(all, sizeof(int32_t));
        d.targets[c] = grab(all, sizeof(int32_t));
        for (int64_t i = 0; i < all; i++) {
            d.inputs[c][i] = (int32_t)(draw(state++) % (uint32_t)p->shape.vocab);
            d.targets[c][i] = (int32_t)(draw(state++) % (uint32_t)p->shape.vocab);
        }
        d.first_row[c] = d.tokens;
        d.tokens += rows;
    }
    d.losses = grab(d.tokens * p->shape.R, sizeof(double));
    return d;
}

static void free_data(const struct problem *p, struct data *d) {
    for (int c = 0; c < p->calls; c++) {
        free(d->inputs[c]);
        free(d->targets[c]);
    }
    free(d->losses);
}

static struct fpl_batch batch_of(const struct data *d, int call) {
    return (struct fpl_batch){.sequences = d->sequences[call],
                              .inputs = d->inputs[call],
                              .targets = d->targets[call],
                              .first_row = d->first_row[call],
                              .scale = 1.0 / (double)d->tokens};
}

/* ---- models --------------------------------------------------------------------------------------- */

static void make_replicas(const char *text, int R, struct fpl_recipe *recipe,
                          struct fpl_model_replica *replicas) {
    struct fpl_error err = {0};
    if (fpl_recipe_parse(text, recipe, &err) != FPL_OK) fail_msg("%s", err.text);
    for (int r = 0; r < R; r++) replicas[r] = (struct fpl_model_replica){recipe, 77 + (uint64_t)r};
}

/* Gains start at 1 and matrices small: move all to where every path of the model counts. */
static void spread(double *parameters, int64_t elements) {
    for (int64_t i = 0; i < elements; i++) {
        const double noise = (double)draw((uint64_t)i + (1u << 20)) * 0x1p-31 - 1;
        if (parameters[i] != 0) parameters[i] = (double)(float)(parameters[i] * 1.5 + 0.3 * noise);
    }
}

static struct double_model *open_double(const struct problem *p, int perturbed) {
    struct fpl_recipe recipe;
    struct fpl_model_replica replicas[4];
    struct fpl_error err = {0};
    make_replicas("fp32", p->shape.R, &recipe, replicas);
    struct double_model *m = double_model_api.create(&p->shape, replicas, perturbed, &err);
    if (!m) fail_msg("%s", err.text);
    spread(double_model_api.parameters(m), double_model_api.elements(m));
    double_model_api.changed(m);
    return m;
}

/* Loss of every replica: scale times the sum over the step. */
static void loss_of(struct double_model *m, const struct problem *p, const struct data *d, double *loss) {
    for (int r = 0; r < p->shape.R; r++) loss[r] = 0;
    for (int c = 0; c < p->calls; c++) {
        const struct fpl_batch b = batch_of(d, c);
        const int64_t rows = b.sequences * p->shape.seq;
        double_model_api.evaluate(m, &b, d->losses);
        for (int64_t i = 0; i < rows * p->shape.R; i++) loss[i / rows] += b.scale * d->losses[i];
    }
}

static void gradients_of(struct double_model *m, const struct problem *p, const struct data *d) {
    for (int c = 0; c < p->calls; c++) {
        const struct fpl_batch b = batch_of(d, c);
        double_model_api.train(m, &b, c > 0, d->losses);
    }
}

/* ---- 1: central differences -------------------------------------------------------------------------- */

/* Derivatives of all replicas' losses by element i of one tensor; replicas do not meet. */
static void differences(struct double_model *m, const struct problem *p, const struct data *d,
                        const struct fpl_segment *s, int64_t i, double *slope) {
    static const double steps[4] = {1, -1, 2, -2}, weights[4] = {8, -8, -1, 1};
    const double h = 0x1p-11;
    double *w = double_model_api.parameters(m), kept[4], loss[4];
    for (int r = 0; r < p->shape.R; r++) {
        kept[r] = w[s->offset + r * s->size + i];
        slope[r] = 0;
    }
    for (int k = 0; k < 4; k++) {
        for (int r = 0; r < p->shape.R; r++) w[s->offset + r * s->size + i] = kept[r] + steps[k] * h;
        double_model_api.changed(m);
        loss_of(m, p, d, loss);
        for (int r = 0; r < p->shape.R; r++) slope[r] += weights[k] * loss[r] / (12 * h);
    }
    for (int r = 0; r < p->shape.R; r++) w[s->offset + r * s->size + i] = kept[r];
    double_model_api.changed(m);
}

static double check_tensor(struct double_model *m, const struct problem *p, const struct data *d,
                           const struct fpl_parameter *t) {
    const struct fpl_segment *s = &t->segment;
    const double *g = double_model_api.gradients(m);
    double slope[4], worst = 0;
    for (int r = 0; r < p->shape.R; r++) {
        double squares = 0;
        for (int64_t i = 0; i < s->size; i++) squares += pow(g[s->offset + r * s->size + i], 2);
        if (!(squares > 0)) fail_msg("%s, replica %d: no gradient at all", t->name, r);
    }
    double error[4] = {0}, norm[4] = {0};
    for (int64_t i = 0; i < s->size; i++) {
        differences(m, p, d, s, i, slope);
        for (int r = 0; r < p->shape.R; r++) {
            const double exact = g[s->offset + r * s->size + i];
            error[r] += pow(slope[r] - exact, 2);
            norm[r] += exact * exact;
        }
    }
    for (int r = 0; r < p->shape.R; r++) {
        const double relative = sqrt(error[r] / norm[r]);
        if (!(relative < 1e-5))
            fail_msg("%s, replica %d: relative error %.3g of its gradient", t->name, r, relative);
        if (relative > worst) worst = relative;
    }
    return worst;
}

/* The float model knows the tensors' names; its layout is the double model's. */
static struct fpl_model *open_float(const struct problem *p, const char *recipe_text,
                                    struct fpl_device **dev) {
    const struct fpl_kernels *k = fpl_backend("cpu");
    const struct fpl_device_options options = {.threads = 1};
    struct fpl_recipe recipe;
    struct fpl_model_replica replicas[4];
    struct fpl_error err = {0};
    struct fpl_model *m = NULL;
    make_replicas(recipe_text, p->shape.R, &recipe, replicas);
    if (k->open(dev, &options, &err) != FPL_OK) fail_msg("%s", err.text);
    if (fpl_model_create(&p->shape, replicas, k, *dev, &m, &err) != FPL_OK) fail_msg("%s", err.text);
    return m;
}

static void close_float(struct fpl_model *m, struct fpl_device *dev) {
    fpl_model_destroy(m);
    fpl_backend("cpu")->close(dev);
}

static void test_central_differences(void **unused) {
    (void)unused;
    for (int i = 0; i < PROBLEMS; i++) {
        const struct problem *p = &problems[i];
        struct data d = make_data(p);
        struct fpl_device *dev;
        struct fpl_model *names = open_float(p, "fp32", &dev);
        struct double_model *m = open_double(p, 0);
        gradients_of(m, p, &d);
        double worst = 0;
        for (int t = 0; t < fpl_model_parameter_count(names); t++)
            worst = fmax(worst, check_tensor(m, p, &d, fpl_model_parameter(names, t)));
        print_message("shape %d: %d tensors, largest relative error %.2g\n", i,
                      fpl_model_parameter_count(names), worst);
        double_model_api.destroy(m);
        close_float(names, dev);
        free_data(p, &d);
    }
}

/* ---- 2: float32 on the CPU backend -----------------------------------------------------------------------
 */

/* Hoeffding's 8, and 2 because the spread is estimated: for 32 samples it is below half of
 * the truth with probability 1e-6 (chi-squared, 32 degrees of freedom). */
#define SIGMAS (2.0 * 8.0)
#define SAMPLES 32

/* One step on any double model: gradients stay in m, all losses of the step go to losses. */
static void step_of(struct double_model *m, const struct problem *p, const struct data *d, double *losses) {
    for (int c = 0; c < p->calls; c++) {
        const struct fpl_batch b = batch_of(d, c);
        double_model_api.train(m, &b, c > 0, losses + d->first_row[c] * p->shape.R);
    }
}

static void add_squares(double *sum, const double *x, const double *centre, int64_t n) {
    for (int64_t i = 0; i < n; i++) sum[i] += (x[i] - centre[i]) * (x[i] - centre[i]) / SAMPLES;
}

/* Gradients and losses of the float model with the double model's weights. */
static void float_step(const struct problem *p, const struct data *d, const double *weights, int64_t n,
                       float *gradients, double *losses) {
    struct fpl_device *dev;
    struct fpl_error err = {0};
    const struct fpl_kernels *k = fpl_backend("cpu");
    struct fpl_model *f = open_float(p, "fp32", &dev);
    const struct fpl_model_state state = fpl_model_state(f);
    assert_int_equal(state.elements, n);
    float *w = grab(n, sizeof *w);
    for (int64_t i = 0; i < n; i++) w[i] = (float)weights[i];
    k->upload(dev, state.parameters, w, (size_t)n * sizeof *w);
    fpl_model_changed(f);
    for (int c = 0; c < p->calls; c++) {
        const struct fpl_batch b = batch_of(d, c);
        fpl_model_forward(f, &b, losses + d->first_row[c] * p->shape.R);
        fpl_model_backward(f, &b, c > 0);
    }
    if (k->check(dev, &err) != FPL_OK) fail_msg("%s", err.text);
    k->download(dev, gradients, state.gradients, (size_t)n * sizeof *gradients);
    close_float(f, dev);
    free(w);
}

/* Element by element; elements between tensors have no spread and must agree. */
static double compare(const char *what, const double *got, const double *exact, const double *variance,
                      int64_t n) {
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        const double error = fabs(got[i] - exact[i]), bound = SIGMAS * sqrt(variance[i]);
        if (!(error <= bound))
            fail_msg("%s %lld is %.9g, double %.17g: error %.3g, bound %.3g", what, (long long)i, got[i],
                     exact[i], error, bound);
        if (bound > 0) worst = fmax(worst, error / bound);
    }
    return worst;
}

static void check_float(const struct problem *p) {
    struct data d = make_data(p);
    struct double_model *exact = open_double(p, 0), *noisy = open_double(p, 1);
    const int64_t n = double_model_api.elements(exact), tokens = d.tokens * p->shape.R;
    double *losses = grab(tokens, sizeof *losses), *noisy_losses = grab(tokens, sizeof *losses);
    double *variance = grab(n, sizeof *variance), *loss_variance = grab(tokens, sizeof *loss_variance);
    float *g = grab(n, sizeof *g);
    double *wide = grab(n, sizeof *wide);
    step_of(exact, p, &d, losses);
    for (int sample = 0; sample < SAMPLES; sample++) {
        step_of(noisy, p, &d, noisy_losses);
        add_squares(variance, double_model_api.gradients(noisy), double_model_api.gradients(exact), n);
        add_squares(loss_variance, noisy_losses, losses, tokens);
    }
    float_step(p, &d, double_model_api.parameters(exact), n, g, noisy_losses);
    for (int64_t i = 0; i < n; i++) wide[i] = (double)g[i];
    const double of_losses = compare("loss", noisy_losses, losses, loss_variance, tokens);
    const double of_gradients = compare("gradient", wide, double_model_api.gradients(exact), variance, n);
    double bound = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        bound += SIGMAS * SIGMAS * variance[i];
        norm += pow(double_model_api.gradients(exact)[i], 2);
    }
    print_message("largest error / bound: losses %.3f, gradients %.3f; bound %.2g of the gradient\n",
                  of_losses, of_gradients, sqrt(bound / norm));
    /* a bound of the gradient's own size would prove nothing */
    assert_true(sqrt(bound / norm) < 1e-3);
    double_model_api.destroy(exact);
    double_model_api.destroy(noisy);
    void *const owned[] = {losses, noisy_losses, variance, loss_variance, g, wide};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) free(owned[i]);
    free_data(p, &d);
}

static void test_float_within_bounds(void **unused) {
    (void)unused;
    for (int i = 0; i < PROBLEMS; i++) check_float(&problems[i]);
}

/* ---- 3: micro-batches
 * -------------------------------------------------------------------------------------- */

static void test_micro_batches(void **unused) {
    (void)unused;
    struct problem many = problems[1], one;
    many.shape.micro_sequences = 1;
    many.calls = 4;
    one = many;
    one.shape.micro_sequences = 4;
    one.calls = 1;
    struct data d_many = make_data(&many), d_one = make_data(&many);
    const int64_t T = many.shape.seq;
    int32_t *inputs = grab(4 * T, sizeof *inputs), *targets = grab(4 * T, sizeof *targets);
    for (int c = 0; c < 4; c++) {
        memcpy(inputs + c * T, d_many.inputs[c], (size_t)T * sizeof *inputs);
        memcpy(targets + c * T, d_many.targets[c], (size_t)T * sizeof *targets);
    }
    struct double_model *a = open_double(&many, 0), *b = open_double(&one, 0);
    gradients_of(a, &many, &d_many);
    const struct fpl_batch whole = {
        .sequences = 4, .inputs = inputs, .targets = targets, .scale = 1.0 / (double)(4 * T)};
    double_model_api.train(b, &whole, 0, d_one.losses);
    const double *ga = double_model_api.gradients(a), *gb = double_model_api.gradients(b);
    assert_int_equal(double_model_api.elements(a), double_model_api.elements(b));
    for (int64_t i = 0; i < double_model_api.elements(a); i++)
        if (!(fabs(ga[i] - gb[i]) <= 1e-13))
            fail_msg("gradient %lld: %.17g and %.17g", (long long)i, ga[i], gb[i]);
    double_model_api.destroy(a);
    double_model_api.destroy(b);
    free_data(&many, &d_many);
    free_data(&many, &d_one);
    free(inputs);
    free(targets);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_central_differences),
        cmocka_unit_test(test_micro_batches),
        cmocka_unit_test(test_float_within_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
