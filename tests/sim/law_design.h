/* law_design.h - tables of runs made from known constants, one design per law of the registry, with
 * the troubles of real ones: noise of 0.015 in ln of what is fitted, collapsed runs, and two runs that
 * were taken for each other.
 *
 * A law's truth is its theta at the design's own centre, in sizes that this project's studies have.
 */
#ifndef FPL_TEST_LAW_DESIGN_H
#define FPL_TEST_LAW_DESIGN_H

#include "law_synthetic.h"

#define DESIGN_NOISE 0.015
#define DESIGN_MOST 1200
#define COLLAPSED_SHARE 0.03
#define CURVE_MEMORY 0.6 /* autocorrelation of neighbouring rows of a loss curve */

enum design_kind {
    DESIGN_LEVELS,  /* model and data size */
    DESIGN_WIDE,    /* the same over a wider grid, for forms with more to tell */
    DESIGN_PRUNED,  /* mean model size */
    DESIGN_FORMATS, /* levels, E, M and block */
    DESIGN_E,       /* levels, exponent bits only */
    DESIGN_M,
    DESIGN_B,
    DESIGN_CHANNEL,
    DESIGN_TENSOR,
    DESIGN_ONE,    /* levels, unquantized and in one format */
    DESIGN_WIDTHS, /* levels, bits of weights, activations, keys and values */
    DESIGN_BITS,   /* rise of the loss against bits */
    DESIGN_GROUP,  /* rise of the loss against the group's size */
    DESIGN_BOWL,
    DESIGN_JOINT,
    DESIGN_STEPS, /* model size, batch and steps */
    DESIGN_CURVES,
    DESIGN_X,
    DESIGN_BATCH, /* best learning rate against batch */
    DESIGN_GRID   /* learning rates and batches at nine cells, from the joint law; optimum only */
};

struct design_truth {
    const char *law;
    enum design_kind kind;
    double theta[FPL_LAW_PARAMS];
};

#define LEVEL_TRUTH 0.95, -1.3863, 0.28, -1.5141, 0.48
#define PARTS_TRUTH -1.3863, 0.28, -1.5141, 0.48, 0.95

static const struct design_truth design_truths[] = {
    {"chinchilla", DESIGN_LEVELS, {LEVEL_TRUTH}},
    {"chinchilla-nd", DESIGN_WIDE, {LEVEL_TRUTH, 0.1}},
    {"capacity", DESIGN_ONE, {LEVEL_TRUTH, 0.6, -0.35, -0.25}},
    {"farseer", DESIGN_WIDE, {0.18, -0.07, 0.15, -1.5, 0.1, 0.15, -0.73, 0.03, 0.15}},
    {"average-n", DESIGN_PRUNED, {LEVEL_TRUTH}},
    {"capybara", DESIGN_FORMATS, {PARTS_TRUTH, 3.912, 1.8, 1.1}},
    {"capybara-e", DESIGN_E, {PARTS_TRUTH, 2.3, 1.8, 0.0}},
    {"capybara-m", DESIGN_M, {PARTS_TRUTH, 2.3, 0.0, 1.1}},
    {"capybara-b", DESIGN_B, {PARTS_TRUTH, 3.912, 0.0, 0.0}},
    {"capybara-channel", DESIGN_CHANNEL, {PARTS_TRUTH, 4.8, 1.8, 1.1}},
    {"capybara-tensor", DESIGN_TENSOR, {PARTS_TRUTH, 2.3, 1.8, 1.1, 0.2, 0.1}},
    {"kumar",
     DESIGN_WIDTHS,
     {-1.3863, 0.28, -1.5141, 0.48, 0.95, 0.9838, 0.3037, 0.7931, 1.4072, -0.0431, 2.4185}},
    {"kumar-ptq", DESIGN_BITS, {2.0, 0.5, 0.34, 0.18}},
    {"qat", DESIGN_GROUP, {-3.0, 0.22, 0.075, 0.78}},
    {"steplaw", DESIGN_GRID, {0.0}},
    {"bowl", DESIGN_BOWL, {0.5, -5.3, 5.3, -3.0, 0.4, 0.3, -3.2, -0.5, -0.2}},
    {"joint", DESIGN_JOINT, {0.95, -1.3863, 0.28, -1.5141, 0.48, 0.1, 3.912, 1.8,  1.1,  -5.2983, -0.5,
                             -0.3, 5.2983,  0.1,  0.45,    -3.0, 0.4, 0.3,   -3.2, -0.5, -0.2,    3.0}},
    {"kaplan", DESIGN_STEPS, {-0.1, 0.2, -0.4, 0.5, 6.0, -1.2}},
    {"annealing", DESIGN_CURVES, {0.95, 0.0, 0.5, -4.5}},
    {"multipower", DESIGN_CURVES, {0.95, 0.0, 0.5, 3.2, 0.5, 1.0, 0.5}},
    {"power-floor", DESIGN_X, {0.95, -0.3, 0.5}},
    {"surge", DESIGN_BATCH, {-5.0, 6.0}},
    {"noise-scale", DESIGN_BATCH, {-5.0, 6.0}},
};

struct design {
    const struct fpl_law *law;
    enum design_kind kind;
    struct fpl_centre centre;
    double theta[FPL_LAW_PARAMS], published[FPL_LAW_PARAMS];
    struct fpl_runs runs;
    struct fpl_question asked[2]; /* of which predictions are checked */
};

static inline const struct design_truth *design_find(const char *law) {
    for (size_t i = 0; i < sizeof design_truths / sizeof design_truths[0]; i++)
        if (strcmp(design_truths[i].law, law) == 0) return &design_truths[i];
    return NULL;
}

static inline struct fpl_run *design_add(struct design *d) {
    struct fpl_run *r = &d->runs.run[d->runs.count];
    fpl_run_blank(r);
    snprintf(r->run, sizeof r->run, "r%04zu", d->runs.count);
    r->seed = d->runs.count;
    d->runs.count++;
    return r;
}

static inline struct fpl_run *design_add_levels(struct design *d, double N, double D) {
    struct fpl_run *r = design_add(d);
    r->N = N;
    r->D = D;
    return r;
}

/* Three sizes of each, `repeats` seeds; formats where the kind has them. */
static inline void design_formats(struct design *d, int repeats) {
    static const double all[6][3] = {{4, 3, 32}, {3, 2, 8}, {2, 1, 32}, {1, 2, 8}, {3, 0, 128}, {2, 0, 32}};
    static const double by_e[4][3] = {{1, 1, 32}, {2, 1, 32}, {3, 1, 32}, {4, 1, 32}},
                        by_m[4][3] = {{2, 0, 32}, {2, 1, 32}, {2, 2, 32}, {2, 4, 32}},
                        by_b[4][3] = {{2, 1, 8}, {2, 1, 32}, {2, 1, 128}, {2, 1, 1024}},
                        one[1][3] = {{2, 1, 32}};
    const double(*formats)[3] = all;
    int count = 6;
    if (d->kind == DESIGN_E) formats = by_e, count = 4;
    if (d->kind == DESIGN_M) formats = by_m, count = 4;
    if (d->kind == DESIGN_B) formats = by_b, count = 4;
    if (d->kind == DESIGN_ONE) formats = one, count = 1;
    if (d->kind == DESIGN_LEVELS) count = 0;
    for (int k = 0; k < repeats; k++)
        for (int c = 0; c < 9; c++) {
            design_add_levels(d, synthetic_N[c / 3], synthetic_D[c % 3]);
            for (int f = 0; f < count; f++) {
                struct fpl_run *r = design_add_levels(d, synthetic_N[c / 3], synthetic_D[c % 3]);
                const int channel = d->kind == DESIGN_CHANNEL, tensor = d->kind == DESIGN_TENSOR;
                r->E = formats[f][0];
                r->M = formats[f][1];
                if (!channel && !tensor) r->block = formats[f][2];
                snprintf(r->format, sizeof r->format, "e%.0fm%.0f", r->E, r->M);
                snprintf(r->granularity, sizeof r->granularity, "%s",
                         channel  ? "row"
                         : tensor ? "tensor"
                                  : "block");
            }
        }
}

/* A factor of 256 in model size and in data, five steps each. */
static inline void design_wide(struct design *d, int repeats) {
    for (int k = 0; k < repeats; k++)
        for (int i = 0; i < 5; i++)
            for (int j = 0; j < 5; j++) {
                struct fpl_run *r = design_add_levels(d, 2e3 * pow(4, i), 6e4 * pow(4, j));
                if (d->kind == DESIGN_PRUNED) r->N_mean = r->N * (1.0 - 0.15 * ((i + j + k) % 4));
            }
}

static inline void design_widths(struct design *d, int repeats) {
    static const double w[] = {2, 3, 4, 6}, a[] = {4, 5, 6, 8}, kv[] = {3, 4, 5, 6};
    for (int k = 0; k < repeats; k++)
        for (int c = 0; c < 9; c++)
            for (int f = 0; f < 13; f++) {
                struct fpl_run *r = design_add_levels(d, synthetic_N[c / 3], synthetic_D[c % 3]);
                if (f > 0 && f <= 4) r->Pw = w[f - 1];
                if (f > 4 && f <= 8) r->Pa = a[f - 5];
                if (f > 8) r->Pkv = kv[f - 9];
            }
}

static inline void design_rises(struct design *d, int repeats) {
    for (int k = 0; k < repeats; k++)
        for (int c = 0; c < 9; c++)
            for (int f = 0; f < 4; f++) {
                struct fpl_run *r = design_add_levels(d, synthetic_N[c / 3], synthetic_D[c % 3]);
                if (d->kind == DESIGN_BITS)
                    r->bits = 3 + f;
                else
                    r->group = 16 << (2 * f);
            }
}

static inline void design_bowl(struct design *d) {
    for (int i = 0; i < 9; i++)
        for (int j = 0; j < 8; j++) {
            struct fpl_run *r = design_add_levels(d, 26.6e3, 1e6);
            r->lr = exp(-5.3 + 0.5 * (i - 4));
            r->batch_tokens = exp(5.3 + 0.6 * (j - 3.5));
        }
}

static inline void design_joint(struct design *d, int repeats) {
    for (int k = 0; k < repeats; k++) {
        struct synthetic s;
        synthetic_joint(&s, 0.0, 1, 0);
        for (size_t i = 0; i < s.runs.count; i++) {
            struct fpl_run *r = design_add(d), own = *r;
            *r = s.runs.run[i];
            memcpy(r->run, own.run, sizeof r->run);
            r->seed = (uint64_t)k;
            if (!isnan(r->E)) snprintf(r->format, sizeof r->format, "e%.0fm%.0f", r->E, r->M);
        }
        synthetic_end(&s);
    }
}

static inline void design_steps(struct design *d) {
    for (int n = 0; n < 3; n++)
        for (int b = 0; b < 5; b++)
            for (int s = 0; s < 7; s++) {
                struct fpl_run *r = design_add_levels(d, synthetic_N[n], NONE);
                r->batch_tokens = 16 * pow(4, b);
                r->steps = 100 * pow(2, s);
                r->D = r->steps * r->batch_tokens;
            }
}

/* Cosine, constant then a fall, two falls: a hundred rows each; a fourth curve collapsed. */
static inline double design_rate(int schedule, double t) {
    if (t < 0.02) return 0.01 * t / 0.02;
    if (schedule == 0) return 0.0005 + 0.0095 * 0.5 * (1 + cos(3.14159265358979 * t));
    if (schedule == 1) return t < 0.7 ? 0.01 : 0.01 - 0.0099 * (t - 0.7) / 0.3;
    return t < 0.4 ? 0.01 : t < 0.75 ? 0.004 : 0.001;
}

static inline void design_curves(struct design *d) {
    for (int c = 0; c < 4; c++)
        for (int i = 0; i <= 100; i++) {
            struct fpl_run *r = design_add_levels(d, 26.6e3, 1e6);
            snprintf(r->run, sizeof r->run, "curve%d", c);
            r->step = 40 * i;
            r->lr = design_rate(c % 3, 0.01 * i);
            if (c == 3) r->status = FPL_RUN_COLLAPSED;
        }
}

static inline void design_batch(struct design *d, int repeats) {
    for (int k = 0; k < repeats; k++)
        for (int b = 0; b < 8; b++) {
            struct fpl_run *r = design_add_levels(d, 26.6e3, 1e6);
            r->batch_tokens = exp(3.0 + 0.8 * b);
            r->lr = 1.0; /* set with the others' targets */
        }
}

static inline void design_x(struct design *d, int repeats) {
    for (int k = 0; k < repeats; k++)
        for (int b = 0; b < 8; b++) {
            struct fpl_run *r = design_add_levels(d, 26.6e3, 1e6);
            r->x = 1e3 * pow(3, b);
        }
}

static inline void design_runs(struct design *d) {
    switch (d->kind) {
    case DESIGN_WIDE:
    case DESIGN_PRUNED:
        design_wide(d, 3);
        break;
    case DESIGN_WIDTHS:
        design_widths(d, 2);
        break;
    case DESIGN_BITS:
    case DESIGN_GROUP:
        design_rises(d, 2);
        break;
    case DESIGN_BOWL:
        design_bowl(d);
        break;
    case DESIGN_JOINT:
        design_joint(d, 2);
        break;
    case DESIGN_STEPS:
        design_steps(d);
        break;
    case DESIGN_CURVES:
        design_curves(d);
        break;
    case DESIGN_X:
        design_x(d, 6);
        break;
    case DESIGN_BATCH:
        design_batch(d, 4);
        break;
    case DESIGN_LEVELS:
        design_formats(d, 8);
        break;
    case DESIGN_ONE:
        design_formats(d, 5);
        break;
    default:
        design_formats(d, 3);
        break;
    }
}

/* Where a law finds its number in a run. */
static inline double *design_target(const struct fpl_law *law, struct fpl_run *r) {
    if ((law->use & FPL_TARGET_DELTA) != 0) return &r->delta;
    return (law->use & FPL_TARGET_LR) != 0 ? &r->lr : &r->loss;
}

/* Coordinates of all runs; curves must outlive them. */
static inline void design_place(struct design *d, struct fpl_curve *curves, struct fpl_law_at *at) {
    const size_t rows = 101;
    for (size_t i = 0; i < d->runs.count; i++) {
        struct fpl_question q = fpl_question_of_run(&d->runs.run[i]);
        if (d->kind == DESIGN_CURVES) {
            q.curve = &curves[i / rows];
            q.value[FPL_VAR_STEP] = fmax(q.value[FPL_VAR_STEP], curves[i / rows].warm_step + 1.0);
        }
        fpl_law_place(d->law, &q, &d->centre, &at[i]);
    }
}

static inline void design_make_curves(const struct design *d, struct fpl_curve *curves) {
    enum { ROWS = 101 };
    double step[ROWS], lr[ROWS];
    for (size_t c = 0; c < d->runs.count / ROWS; c++) {
        for (size_t i = 0; i < ROWS; i++) {
            step[i] = d->runs.run[c * ROWS + i].step;
            lr[i] = d->runs.run[c * ROWS + i].lr;
        }
        const struct fpl_schedule schedule = {ROWS, step, lr};
        fpl_curve_make(&schedule, &curves[c], NULL);
    }
}

/* Targets from the law, then noise, collapsed runs and a mislabelled pair, all functions of `table`. */
static inline void design_fill(struct design *d, uint64_t table, int troubles) {
    static struct fpl_law_at at[DESIGN_MOST];
    struct fpl_curve curves[4];
    struct fpl_runs *runs = &d->runs;
    double n = 0.0, m = 0.0, last = 0.0;
    memset(curves, 0, sizeof curves);
    if (d->kind == DESIGN_CURVES) design_make_curves(d, curves);
    design_place(d, curves, at);
    for (size_t i = 0; i < runs->count; i++) {
        n += at[i].n / (double)runs->count;
        m += at[i].d / (double)runs->count;
    }
    d->centre = (struct fpl_centre){n, m};
    if (d->kind == DESIGN_JOINT) d->centre = (struct fpl_centre){log(26.6e3), log(1e6)};
    design_place(d, curves, at);
    for (size_t i = 0; i < runs->count; i++) {
        struct fpl_run *r = &runs->run[i];
        double z = synthetic_noise(table, i);
        if (d->kind == DESIGN_CURVES && i % 101 != 0)
            z = CURVE_MEMORY * last + sqrt(1.0 - CURVE_MEMORY * CURVE_MEMORY) * z;
        last = z;
        *design_target(d->law, r) =
            exp(fpl_law_fitted(d->law)(d->law, d->theta, &at[i], NULL) + DESIGN_NOISE * z);
        if (!troubles || d->kind == DESIGN_CURVES) continue;
        if (fabs(synthetic_noise(table + 1000000, i)) > 2.17) { /* 3 % of runs */
            r->status = FPL_RUN_COLLAPSED;
            *design_target(d->law, r) *= 1.9;
        }
    }
    if (troubles) {
        uint32_t w[4];
        fpl_random_block(table, 0, 1, fpl_stream(FPL_STREAM_TEST, 43), w);
        struct fpl_run *a = &runs->run[w[0] % runs->count], *b = &runs->run[w[1] % runs->count];
        if (a->status == FPL_RUN_OK && b->status == FPL_RUN_OK) {
            double *x = design_target(d->law, a), *y = design_target(d->law, b), kept = *x;
            *x = *y;
            *y = kept;
        }
    }
    for (size_t c = 0; c < 4; c++) fpl_curve_free(&curves[c]);
}

/* 0: no truth is known for the law. */
static inline int design_make(struct design *d, const struct fpl_law *law, uint64_t table, int troubles) {
    const struct design_truth *truth = design_find(fpl_law_name(law));
    memset(d, 0, sizeof *d);
    if (truth == NULL) return 0;
    d->law = law;
    d->kind = truth->kind;
    memcpy(d->theta, truth->theta, sizeof d->theta);
    d->runs.run = calloc(DESIGN_MOST, sizeof *d->runs.run);
    snprintf(d->runs.source, sizeof d->runs.source, "design");
    snprintf(d->runs.hash, sizeof d->runs.hash, "%032d", 0);
    design_runs(d);
    design_fill(d, table, troubles);
    law->publish(law, d->theta, &d->centre, d->published);
    for (int k = 0; k < 2; k++) {
        struct fpl_run r = d->runs.run[k == 0 ? d->runs.count / 2 : d->runs.count - 1];
        if (d->kind == DESIGN_CURVES) r = d->runs.run[k == 0 ? 70 : 190];
        if (d->kind == DESIGN_JOINT || d->kind == DESIGN_BOWL) r.lr = r.batch_tokens = NONE;
        d->asked[k] = fpl_question_of_run(&r);
    }
    return 1;
}

static inline void design_end(struct design *d) { fpl_runs_free(&d->runs); }

#endif
