/* law_synthetic.h - tables of runs made from known constants, for the tests of laws.
 *
 * The design is that of small-scale.md: nine (N, D) cells, at each the optimum and three of
 * eight offsets in (LR, batch), and six formats at four of the cells at two learning rates
 * each; log-normal noise of one run.
 */
#ifndef FPL_TEST_LAW_SYNTHETIC_H
#define FPL_TEST_LAW_SYNTHETIC_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/random.h"
#include "../../sim/law/fitting.h"

#define OCTAVE 0.69314718055994531
#define NONE ((double)NAN)

/* A standard normal number, a function of (table, element). */
static inline double synthetic_noise(uint64_t table, uint64_t element) {
    uint32_t w[4];
    fpl_random_block(table, element, 0, fpl_stream(FPL_STREAM_TEST, 40), w);
    const double u = fpl_random_uniform(w[0], w[1]), v = fpl_random_uniform(w[2], w[3]);
    return sqrt(-2.0 * log1p(-u)) * cos(6.2831853071795865 * v);
}

struct synthetic {
    const struct fpl_law *law; /* of the losses */
    struct fpl_centre centre;
    double theta[FPL_LAW_PARAMS];
    double noise;
    uint64_t table;
    struct fpl_runs runs;
};

static inline void synthetic_add(struct synthetic *s, struct fpl_point_at at) {
    struct fpl_run *r = &s->runs.run[s->runs.count];
    struct fpl_law_at point;
    fpl_run_blank(r);
    snprintf(r->run, sizeof r->run, "r%03zu", s->runs.count);
    r->N = at.N;
    r->D = at.D;
    r->lr = at.lr;
    r->batch_tokens = at.batch_tokens;
    r->E = at.E;
    r->M = at.M;
    r->block = at.block;
    fpl_law_at_point(&at, &s->centre, &point);
    r->loss = exp(s->law->log_loss(s->law, s->theta, &point, NULL) +
                  s->noise * synthetic_noise(s->table, s->runs.count));
    s->runs.count++;
}

static const double synthetic_N[3] = {5120, 26.6e3, 94e3}, synthetic_D[3] = {0.25e6, 1e6, 4e6};
static const double synthetic_formats[6][2] = {{4, 3}, {3, 2}, {2, 1}, {1, 2}, {3, 0}, {2, 0}};

static inline void synthetic_begin(struct synthetic *s, const struct fpl_law *law, double noise,
                                   uint64_t table) {
    memset(s, 0, sizeof *s);
    s->law = law;
    s->centre = (struct fpl_centre){log(26.6e3), log(1e6)};
    s->noise = noise;
    s->table = table;
    s->runs.run = calloc(2000, sizeof *s->runs.run);
    snprintf(s->runs.source, sizeof s->runs.source, "synthetic");
    snprintf(s->runs.hash, sizeof s->runs.hash, "%032d", 0);
}

/* Joint truth in the usual sizes of the project's own studies; penalty of E2M1 in blocks of 32
 * at the centre 0.1 nats. Order: struct of joint.c. */
static inline void synthetic_joint_truth(double *t) {
    static const double truth[22] = {0.95, -1.3863, 0.28, -1.5141, 0.48,   0.1, 3.912, 1.8,
                                     1.1,  -5.2983, -0.5, -0.3,    5.2983, 0.1, 0.45,  -3.0,
                                     0.4,  0.3,     -3.2, -0.5,    -0.2,   3.0};
    memcpy(t, truth, sizeof truth);
}

/* near: every quantized run at the unquantized optimum, which hides lr_shift. */
static inline void synthetic_joint(struct synthetic *s, double noise, uint64_t table, int near) {
    static const double offsets[8][2] = {{2, 0},     {-2, 0},      {0, 1.5},  {0, -1.5},
                                         {1.5, 1.5}, {-1.5, -1.5}, {1.5, -1}, {-1.5, 1}};
    static const int corners[4][2] = {{0, 0}, {0, 2}, {2, 0}, {2, 2}};
    synthetic_begin(s, fpl_law_find("joint"), noise, table);
    synthetic_joint_truth(s->theta);
    for (int c = 0; c < 9; c++)
        for (int k = 0; k < 4; k++) {
            const double *o = offsets[(3 * c + k) % 8];
            struct fpl_point_at at = {synthetic_N[c / 3], synthetic_D[c % 3], NONE, NONE, NONE, NONE, NONE};
            struct fpl_law_at point;
            fpl_law_at_point(&at, &s->centre, &point);
            at.lr = exp(s->law->log_lr(s->law, s->theta, &point, NULL) + (k > 0 ? o[0] * OCTAVE : 0.0));
            at.batch_tokens =
                exp(s->law->log_batch(s->law, s->theta, &point, NULL) + (k > 0 ? o[1] * OCTAVE : 0.0));
            synthetic_add(s, at);
        }
    for (int f = 0; f < 6; f++)
        for (int c = 0; c < 4; c++)
            for (int side = -1; side <= 1; side += 2) {
                struct fpl_point_at at = {
                    synthetic_N[corners[c][0]], synthetic_D[corners[c][1]], NONE, NONE, NONE, NONE, NONE};
                struct fpl_law_at point;
                fpl_law_at_point(&at, &s->centre, &point);
                const double octaves = near ? 0.0 : 1.5 * side - ((f + c) % 2 ? 0.0 : 1.0);
                at.lr = exp(s->law->log_lr(s->law, s->theta, &point, NULL) + octaves * OCTAVE);
                at.batch_tokens = exp(s->law->log_batch(s->law, s->theta, &point, NULL));
                at.E = synthetic_formats[f][0];
                at.M = synthetic_formats[f][1];
                at.block = c == 3 && f < 2 ? 8 : 32;
                synthetic_add(s, at);
            }
}

/* Levels only: 9 cells, unquantized and (for capybara) six formats. */
static inline void synthetic_levels(struct synthetic *s, const char *law, double noise, uint64_t table,
                                    int repeats) {
    synthetic_begin(s, fpl_law_find(law), noise, table);
    const int precision = s->law->penalty_at >= 0;
    static const double chinchilla[5] = {0.95, -1.3863, 0.28, -1.5141, 0.48};
    static const double capybara[8] = {-1.3863, 0.28, -1.5141, 0.48, 0.95, 3.912, 1.8, 1.1};
    memcpy(s->theta, precision ? capybara : chinchilla, precision ? sizeof capybara : sizeof chinchilla);
    for (int k = 0; k < repeats; k++)
        for (int c = 0; c < 9; c++) {
            struct fpl_point_at at = {synthetic_N[c / 3], synthetic_D[c % 3], NONE, NONE, NONE, NONE, NONE};
            synthetic_add(s, at);
            for (int f = 0; precision && f < 6; f++) {
                at.E = synthetic_formats[f][0];
                at.M = synthetic_formats[f][1];
                at.block = f % 2 ? 32 : 8;
                synthetic_add(s, at);
            }
        }
}

/* A grid of learning rates and batches at nine cells, losses from the joint law. */
static inline void synthetic_grid(struct synthetic *s, double noise, uint64_t table) {
    synthetic_begin(s, fpl_law_find("joint"), noise, table);
    synthetic_joint_truth(s->theta);
    for (int c = 0; c < 9; c++)
        for (int i = 0; i < 12; i++)
            for (int j = 0; j < 8; j++) {
                const struct fpl_point_at at = {synthetic_N[c / 3],
                                                synthetic_D[c % 3],
                                                4e-4 * exp2(0.75 * i),
                                                32.0 * exp2(j),
                                                NONE,
                                                NONE,
                                                NONE};
                synthetic_add(s, at);
            }
}

static inline void synthetic_end(struct synthetic *s) { fpl_runs_free(&s->runs); }

#endif
