/* results.c - what a run leaves: its record, with its share of what the pack spent. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer.h"

double fpl_trainer_clock(const struct fpl_trainer *t) {
    return t->options->clock != NULL ? t->options->clock() : fpl_clock();
}

/* The device's, where it is not the host; NaN where nothing tells. */
double fpl_trainer_joules(const struct fpl_trainer *t) {
    if (t->k->joules == NULL) return fpl_energy_joules(&t->energy);
    return t->dev != NULL ? t->k->joules(t->dev) : (double)NAN;
}

void fpl_trainer_account(struct fpl_trainer *t) {
    const double now = fpl_trainer_clock(t), joules = fpl_trainer_joules(t);
    int sharing = 0;
    for (int r = 0; r < t->R; r++) sharing += t->replica[r].shares;
    for (int r = 0; r < t->R; r++) {
        struct fpl_replica *p = &t->replica[r];
        if (!p->shares) continue;
        p->seconds += (now - t->accounted) / sharing;
        p->joules += (joules - t->joules) / sharing;
    }
    t->accounted = now;
    t->joules = joules;
    if (t->k->peak_bytes != NULL && t->dev != NULL)
        t->peak_bytes = fmax(t->peak_bytes, t->k->peak_bytes(t->dev));
    /* What follows the end of the last of them is still theirs. */
    for (int r = 0; fpl_trainer_active(t) > 0 && r < t->R; r++)
        t->replica[r].shares = t->replica[r].status == FPL_RUN_OK;
}

static void fill_run(const struct fpl_trainer *t, struct fpl_replica *p, struct fpl_record *r) {
    r->status = p->status;
    memcpy(r->why, p->why, sizeof r->why);
    fpl_config_id(p->canonical, r->id);
    r->N = fpl_config_params(p->config);
    r->D = (double)p->steps * (double)p->config->batch_tokens;
    r->steps = p->steps;
    r->loss = p->last.loss;
    r->loss_se = p->last.se;
    r->oracle = p->last.oracle;
    r->entropy_rate = t->info.entropy_rate;
    r->unigram_entropy = t->info.unigram_entropy;
    r->spikes = p->watch.spikes;
    r->nonfinite = p->nonfinite;
    r->seconds = p->seconds;
    r->tokens_per_second = p->train_seconds > 0 ? r->D / p->train_seconds : (double)NAN;
    r->joules = p->joules;
    r->pack = p->pack;
    r->flop = r->D * fpl_config_flop_per_token(p->config, t->info.vocab);
    r->canonical = p->canonical;
    p->canonical = NULL;
    r->eval = p->eval;
    r->eval_count = p->eval_count;
    p->eval = NULL;
    r->diagnosis = p->diagnosis;
    r->diagnosis_count = p->diagnosis_count;
    p->diagnosis = NULL;
    p->diagnosis_count = 0;
}

enum fpl_code fpl_trainer_record(struct fpl_trainer *t, struct fpl_replica *p, struct fpl_record *r,
                                 struct fpl_error *err) {
    fpl_watch_close(&p->watch, p->steps);
    r->curve = calloc((size_t)p->watch.points + 1, sizeof *r->curve);
    if (r->curve == NULL) return fpl_fail(err, FPL_SYSTEM, "no memory for a record");
    memcpy(r->curve, p->watch.curve, (size_t)p->watch.points * sizeof *r->curve);
    r->curve_count = p->watch.points;
    fill_run(t, p, r);
    r->peak_bytes = t->k->peak_bytes == NULL ? fpl_peak_bytes()
                    : t->peak_bytes > 0      ? t->peak_bytes
                                             : (double)NAN;
    snprintf(r->backend, sizeof r->backend, "%s", t->k->name);
    t->k->describe(t->dev, r->variants, sizeof r->variants);
    snprintf(r->simd, sizeof r->simd, "%s", fpl_simd_level());
    fpl_machine_describe(r);
    snprintf(r->revision, sizeof r->revision, "%s",
             t->options->revision != NULL ? t->options->revision : "unknown");
    r->numerics = FPL_NUMERICS;
    return FPL_OK;
}
