/* bench_step.c - whole training steps: tokens per second, share of sgemm, share of quantizing.
 *
 * A step is what training does per step: forward and backward pass of one micro-batch, gradient
 * norm, AdamW, at sequence 64 and 256 tokens, on one core.  FLOP per token = 6 N + 12 L T C +
 * 6 V C.  Every size is run in fp32 and with all six operands of every linear layer quantized
 * in 1x32 blocks, rounded to nearest and stochastically, step by step in turn with each other
 * and with sgemm.
 *
 * The time spent quantizing is told by the device's own clock (cpu.h), and checked by the
 * difference to the fp32 step: that row's ratio is fp32 time / quantized time.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../kernels/profile.h"
#include "../base/file.h"
#include "../model/model.h"
#include "../train/machine.h"
#include "bench.h"

enum { SEQUENCE = 64, SEQUENCES = 4, VOCABULARY = 32, HEADS = 2, WARM_STEPS = 3 };

const struct fpl_step_size fpl_step_sizes[5] = {
    {16, 2, 32}, {32, 2, 96}, {64, 2, 160}, {96, 3, 256}, {128, 4, 352}};

static double non_vocabulary(const struct fpl_step_size *s) {
    return (double)(s->layers * (4 * s->width * s->width + 3 * s->width * s->ffn));
}

struct fpl_stepper {
    struct fpl_step_size size;
    const struct fpl_kernels *k;
    struct fpl_device *dev;
    struct fpl_model *model;
    int32_t inputs[SEQUENCES * SEQUENCE], targets[SEQUENCES * SEQUENCE];
    double losses[SEQUENCES * SEQUENCE];
    int64_t steps;
};

enum fpl_code fpl_stepper_create(const struct fpl_step_size *size, const char *recipe,
                                 struct fpl_stepper **out, struct fpl_error *err) {
    struct fpl_recipe parsed;
    enum fpl_code code = fpl_recipe_parse(recipe, &parsed, err);
    if (code != FPL_OK) return code;
    struct fpl_stepper *s = *out = calloc(1, sizeof *s);
    if (s == NULL) return fpl_fail(err, FPL_SYSTEM, "bench: out of memory");
    const struct fpl_device_options options = {.threads = 1};
    const struct fpl_model_shape shape = {.R = 1,
                                          .layers = size->layers,
                                          .width = size->width,
                                          .heads = HEADS,
                                          .ffn = size->ffn,
                                          .vocab = VOCABULARY,
                                          .seq = SEQUENCE,
                                          .micro_sequences = SEQUENCES};
    const struct fpl_model_replica replica = {.recipe = &parsed, .seed = 1};
    s->size = *size;
    s->k = fpl_backend("cpu");
    code = s->k->open(&s->dev, &options, err);
    if (code == FPL_OK) code = fpl_model_create(&shape, &replica, s->k, s->dev, &s->model, err);
    if (code != FPL_OK) {
        fpl_stepper_free(s);
        *out = NULL;
        return code;
    }
    uint32_t seed = 5;
    for (int i = 0; i < SEQUENCES * SEQUENCE; i++) {
        seed = seed * 1664525u + 1013904223u;
        s->inputs[i] = (int32_t)(seed >> 27);
        s->targets[i] = (int32_t)(seed >> 22 & 31u);
    }
    return FPL_OK;
}

double fpl_stepper_seconds(struct fpl_stepper *s, double *quantizing) {
    const struct fpl_batch batch = {.sequences = SEQUENCES,
                                    .inputs = s->inputs,
                                    .targets = s->targets,
                                    .step = (uint32_t)s->steps,
                                    .scale = 1.0 / (SEQUENCES * SEQUENCE)};
    const float lr = 1e-3f, decay = 0.1f;
    struct fpl_adamw adamw = {.lr = &lr,
                              .decay = &decay,
                              .beta1 = 0.9,
                              .beta2 = 0.95,
                              .eps = 1e-8,
                              .step = ++s->steps,
                              .clip = 1.0};
    double sqnorm;
    fpl_cpu_profile = quantizing != NULL;
    fpl_cpu_profile_ticks = 0;
    const double start = fpl_clock();
    const uint64_t start_ticks = fpl_cpu_ticks();
    fpl_model_forward(s->model, &batch, s->losses);
    fpl_model_backward(s->model, &batch, 0);
    fpl_model_gradient_norm(s->model, &sqnorm);
    fpl_model_update(s->model, &adamw);
    const double seconds = fpl_clock() - start;
    if (quantizing != NULL)
        *quantizing = seconds * (double)fpl_cpu_profile_ticks / (double)(fpl_cpu_ticks() - start_ticks);
    fpl_cpu_profile = 0;
    return seconds;
}

void fpl_stepper_bits(struct fpl_stepper *s, char bits[33]) {
    const struct fpl_model_state state = fpl_model_state(s->model);
    fpl_hash_text(state.parameters, state.elements * sizeof(float), bits); /* CPU memory is host memory */
}

double fpl_stepper_tokens(const struct fpl_stepper *s) {
    (void)s;
    return SEQUENCES * SEQUENCE;
}

double fpl_stepper_flop(const struct fpl_stepper *s) {
    const double C = (double)s->size.width, L = (double)s->size.layers;
    return fpl_stepper_tokens(s) *
           (6.0 * non_vocabulary(&s->size) + 12.0 * L * SEQUENCE * C + 6.0 * VOCABULARY * C);
}

enum fpl_code fpl_stepper_check(struct fpl_stepper *s, struct fpl_error *err) {
    return s->k->check(s->dev, err);
}

void fpl_stepper_free(struct fpl_stepper *s) {
    if (s == NULL) return;
    fpl_model_destroy(s->model);
    if (s->dev != NULL) s->k->close(s->dev);
    free(s);
}

/* ---- rows -------------------------------------------------------------------------------------- */

enum { RECIPES = 3, REPEATS = 30 };
static const char *const recipes[RECIPES] = {"fp32", "full:e4m3/1x32", "full:e4m3:sr/1x32"};

/* One size: its steppers, and times by recipe, each the least of a burst of steps: training
 * does step after step, and the caches are its own. */
struct cell {
    struct fpl_stepper *stepper[RECIPES];
    double seconds[RECIPES][REPEATS], quantizing[RECIPES][REPEATS], plain[RECIPES][REPEATS], sgemm[REPEATS];
    char bits[RECIPES][33];
    int repeats, burst;
};

/* The least of a burst without, then with the device's clock. */
static void run_burst(struct cell *c, int r, int i) {
    c->plain[r][i] = c->seconds[r][i] = (double)INFINITY;
    for (int step = 0; step < c->burst; step++) {
        const double plain = fpl_stepper_seconds(c->stepper[r], NULL);
        if (plain < c->plain[r][i]) c->plain[r][i] = plain;
    }
    for (int step = 0; step < c->burst; step++) {
        double quantizing;
        const double seconds = fpl_stepper_seconds(c->stepper[r], &quantizing);
        if (seconds >= c->seconds[r][i]) continue;
        c->seconds[r][i] = seconds;
        c->quantizing[r][i] = quantizing;
    }
}

static enum fpl_code run_cell(struct cell *c, struct fpl_sgemm *sgemm, struct fpl_error *err) {
    double step = 0.0;
    for (int r = 0; r < RECIPES; r++) {
        for (int i = 0; i < WARM_STEPS; i++) step = fpl_stepper_seconds(c->stepper[r], NULL);
        fpl_stepper_bits(c->stepper[r], c->bits[r]);
    }
    c->burst = step < 2e-3 ? (int)(4e-3 / step) : 2;
    for (int i = 0; i < c->repeats; i++) {
        c->sgemm[i] = fpl_sgemm_seconds(sgemm, 1);
        for (int r = 0; r < RECIPES; r++) run_burst(c, r, i);
    }
    enum fpl_code code = FPL_OK;
    for (int r = 0; r < RECIPES && code == FPL_OK; r++) code = fpl_stepper_check(c->stepper[r], err);
    return code;
}

/* Share of quantizing in the fastest of the instrumented steps. */
static double quantizing_share(const struct cell *c, int r) {
    int best = 0;
    for (int i = 1; i < c->repeats; i++)
        if (c->seconds[r][i] < c->seconds[r][best]) best = i;
    return c->quantizing[r][best] / c->seconds[r][best];
}

static void add_rows(struct fpl_bench *b, const struct cell *c, const struct fpl_step_size *size) {
    const struct fpl_times peer = {(double *)c->sgemm, c->repeats};
    const double sgemm = fpl_sgemm_flop() / fpl_times_least(&peer);
    const double N = non_vocabulary(size);
    double fp32 = 0.0;
    if (sgemm > b->sgemm) b->sgemm = sgemm;
    for (int r = 0; r < RECIPES; r++) {
        const struct fpl_times t = {(double *)c->plain[r], c->repeats};
        const double least = fpl_times_least(&t);
        struct fpl_bench_row *row =
            fpl_bench_add(b, &t, "tokens/s", "sgemm 1024^3", "step N=%.0f %s", N, recipes[r]);
        if (row == NULL) return;
        row->value = fpl_stepper_tokens(c->stepper[r]) / least;
        row->ratio = fpl_stepper_flop(c->stepper[r]) / least / sgemm;
        memcpy(row->bits, c->bits[r], sizeof row->bits);
        if (r == 0) {
            fp32 = least;
            continue;
        }
        row = fpl_bench_add(b, &t, "share", "fp32 step", "quantizing N=%.0f %s", N, recipes[r]);
        if (row == NULL) return;
        row->value = quantizing_share(c, r);
        row->ratio = fp32 / least;
    }
}

enum fpl_code fpl_bench_steps(struct fpl_bench *b, struct fpl_error *err) {
    const int sizes = b->quick ? 2 : (int)(sizeof fpl_step_sizes / sizeof fpl_step_sizes[0]);
    struct fpl_sgemm *sgemm = fpl_sgemm_create();
    struct cell *c = calloc(1, sizeof *c);
    enum fpl_code code =
        sgemm == NULL || c == NULL ? fpl_fail(err, FPL_SYSTEM, "bench: out of memory") : FPL_OK;
    for (int i = 0; code == FPL_OK && i < sizes; i++) {
        memset(c, 0, sizeof *c);
        c->repeats = b->quick ? 3 : REPEATS;
        for (int r = 0; r < RECIPES && code == FPL_OK; r++)
            code = fpl_stepper_create(&fpl_step_sizes[i], recipes[r], &c->stepper[r], err);
        if (code == FPL_OK) code = run_cell(c, sgemm, err);
        if (code == FPL_OK) add_rows(b, c, &fpl_step_sizes[i]);
        for (int r = 0; r < RECIPES; r++) fpl_stepper_free(c->stepper[r]);
    }
    free(c);
    fpl_sgemm_free(sgemm);
    return code;
}
