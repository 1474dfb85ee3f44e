/* train.c - the training loop.
 *
 * Step s (from 0) draws its batch from (seed, s), its random bits of stochastic rounding from
 * counter step s, its rate from the schedule; nothing else decides a result.  The loop's
 * top is the only place where a run may be cut: an evaluation that is due there is done
 * again after a resume, so a checkpoint at any step continues with the same bits.
 *
 * In a pack, a replica that has ended is neither updated nor watched any more; the others
 * go on.  No step allocates.
 */
#include "train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"
#include "schedule.h"
#include "trainer.h"

#define CHUNK_TOKENS 2048 /* of one evaluation call */

int fpl_trainer_stopped(const struct fpl_trainer *t) {
    return t->options->stop != NULL ? (int)*t->options->stop : 0;
}

int fpl_trainer_active(const struct fpl_trainer *t) {
    int n = 0;
    for (int r = 0; r < t->R; r++) n += t->replica[r].status == FPL_RUN_OK;
    return n;
}

/* ---- set-up ---------------------------------------------------------------------------------- */

/* What all replicas of a pack share, by option key. */
static const char *const shared_options[] = {
    "layers", "width", "heads", "ffn",  "seq",         "init_std",   "data",         "data_seed",
    "beta1",  "beta2", "eps",   "clip", "eval_tokens", "eval_every", "batch_tokens", NULL};

static enum fpl_code check_pack(const struct fpl_config *c, int R, struct fpl_error *err) {
    for (int r = 0; r < R; r++) {
        const enum fpl_code code = fpl_config_check(&c[r], err);
        if (code != FPL_OK) return code;
        for (const char *const *key = shared_options; *key != NULL; key++) {
            char a[1100], b[1100];
            fpl_config_get(&c[0], *key, a, sizeof a);
            fpl_config_get(&c[r], *key, b, sizeof b);
            if (strcmp(a, b) != 0)
                return fpl_fail(err, FPL_INVALID,
                                "runs trained side by side must agree in %s: %.60s and %.60s", *key, a, b);
        }
        if (fpl_config_steps(&c[r]) != fpl_config_steps(&c[0]) ||
            fpl_config_micro(&c[r]) != fpl_config_micro(&c[0]))
            return fpl_fail(err, FPL_INVALID,
                            "runs trained side by side must agree in steps and micro_tokens");
    }
    return FPL_OK;
}

static enum fpl_code check_amount(const struct fpl_trainer *t, const struct fpl_config *c,
                                  struct fpl_error *err) {
    const double D = (double)t->steps * (double)c->batch_tokens;
    if (t->info.train_tokens > 0 && D > (double)t->info.train_tokens)
        return fpl_fail(err, FPL_INVALID,
                        "the run trains on %.0f tokens but %.200s has %lld; repeated data is not modelled: "
                        "at most %lld tokens are accepted",
                        D, c->data, (long long)t->info.train_tokens, (long long)t->info.train_tokens);
    return FPL_OK;
}

static enum fpl_code allocate(struct fpl_trainer *t, struct fpl_error *err) {
    const int64_t most = t->micro_sequences > t->chunk_sequences ? t->micro_sequences : t->chunk_sequences;
    const size_t R = (size_t)t->R, rows = R * (size_t)(most * t->seq);
    t->replica = calloc(R, sizeof *t->replica);
    t->inputs = calloc(rows, sizeof *t->inputs);
    t->targets = calloc(rows, sizeof *t->targets);
    t->losses = calloc(rows, sizeof *t->losses);
    t->oracle = calloc((size_t)t->chunk_sequences, sizeof *t->oracle);
    t->sum = calloc(R, sizeof *t->sum);
    t->sqnorm = calloc(R, sizeof *t->sqnorm);
    t->nonfinite = calloc(R, sizeof *t->nonfinite);
    t->lr = calloc(R, sizeof *t->lr);
    t->decay = calloc(R, sizeof *t->decay);
    t->active = calloc(R, sizeof *t->active);
    if (t->replica == NULL || t->inputs == NULL || t->targets == NULL || t->losses == NULL ||
        t->oracle == NULL || t->sum == NULL || t->sqnorm == NULL || t->nonfinite == NULL || t->lr == NULL ||
        t->decay == NULL || t->active == NULL)
        return fpl_fail(err, FPL_SYSTEM, "no memory for batches of %zu tokens", rows);
    return FPL_OK;
}

static enum fpl_code create_model(struct fpl_trainer *t, const struct fpl_config *configs,
                                  struct fpl_error *err) {
    const struct fpl_config *c = &configs[0];
    const struct fpl_device_options device = {.threads = t->options->threads > 0 ? t->options->threads : 1,
                                              .number = t->options->device};
    const struct fpl_model_shape shape = {
        .R = t->R,
        .layers = c->layers,
        .width = c->width,
        .heads = c->heads,
        .ffn = fpl_config_ffn(c),
        .vocab = t->info.vocab,
        .seq = t->seq,
        .micro_sequences = t->micro_sequences > t->chunk_sequences ? t->micro_sequences : t->chunk_sequences,
        .init_std = fpl_config_init_std(c)};
    struct fpl_recipe *recipe = calloc((size_t)t->R, sizeof *recipe);
    struct fpl_model_replica *replica = calloc((size_t)t->R, sizeof *replica);
    enum fpl_code code = FPL_OK;
    if (recipe == NULL || replica == NULL) code = fpl_fail(err, FPL_SYSTEM, "no memory for recipes");
    for (int r = 0; code == FPL_OK && r < t->R; r++) {
        code = fpl_recipe_parse(configs[r].recipe, &recipe[r], err);
        replica[r] = (struct fpl_model_replica){.recipe = &recipe[r], .seed = configs[r].seed};
    }
    if (code == FPL_OK) code = t->k->open(&t->dev, &device, err);
    if (code == FPL_OK) code = fpl_model_create(&shape, replica, t->k, t->dev, &t->model, err);
    free(recipe);
    free(replica);
    return code;
}

static enum fpl_code set_up(struct fpl_trainer *t, const struct fpl_config *configs, struct fpl_error *err) {
    const struct fpl_config *c = &configs[0];
    t->seq = c->seq;
    t->steps = fpl_config_steps(c);
    t->batch_sequences = c->batch_tokens / c->seq;
    t->micro_sequences = fpl_config_micro(c) / c->seq;
    t->chunk_sequences = CHUNK_TOKENS / c->seq > 0 ? CHUNK_TOKENS / c->seq : 1;
    fpl_data_info(t->data, &t->info);
    enum fpl_code code = check_amount(t, c, err);
    if (code == FPL_OK) code = allocate(t, err);
    for (int r = 0; code == FPL_OK && r < t->R; r++) {
        struct fpl_replica *p = &t->replica[r];
        p->config = &configs[r];
        p->last = (struct fpl_evaluation){(double)NAN, (double)NAN, (double)NAN};
        p->canonical = fpl_config_canonical(&configs[r], t->k->name, t->info.fingerprint);
        if (p->canonical == NULL) code = fpl_fail(err, FPL_SYSTEM, "no memory for a configuration's text");
        fpl_watch_init(&p->watch, t->info.unigram_entropy, t->info.vocab, c->batch_tokens, t->steps,
                       fpl_warmup_steps(&configs[r]));
    }
    return code == FPL_OK ? create_model(t, configs, err) : code;
}

static void tear_down(struct fpl_trainer *t) {
    fpl_model_destroy(t->model);
    if (t->dev != NULL) t->k->close(t->dev);
    for (int r = 0; t->replica != NULL && r < t->R; r++) {
        free(t->replica[r].canonical);
        free(t->replica[r].eval);
        fpl_diagnosis_free(t->replica[r].diagnosis, t->replica[r].diagnosis_count);
    }
    void *const buffers[] = {t->replica, t->inputs,    t->targets, t->losses, t->oracle, t->sum,
                             t->sqnorm,  t->nonfinite, t->lr,      t->decay,  t->active};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) free(buffers[i]);
}

/* ---- one step -------------------------------------------------------------------------------- */

/* Forward and backward over the batch; t->sum[r]: summed losses in row order. */
static void run_batch(struct fpl_trainer *t) {
    const int64_t tokens = t->micro_sequences * t->seq;
    for (int r = 0; r < t->R; r++) t->sum[r] = 0;
    for (int64_t first = 0; first < t->batch_sequences; first += t->micro_sequences) {
        for (int r = 0; r < t->R; r++)
            fpl_data_train(t->data, t->replica[r].config->seed, t->step, t->batch_sequences, first,
                           t->micro_sequences, t->inputs + r * tokens, t->targets + r * tokens);
        const struct fpl_batch b = {.sequences = t->micro_sequences,
                                    .inputs = t->inputs,
                                    .targets = t->targets,
                                    .step = (uint32_t)t->step,
                                    .first_row = first * t->seq,
                                    .scale = 1.0 / (double)(t->batch_sequences * t->seq)};
        fpl_model_forward(t->model, &b, t->losses);
        fpl_model_backward(t->model, &b, first > 0);
        for (int r = 0; r < t->R; r++)
            for (int64_t i = 0; i < tokens; i++) t->sum[r] += t->losses[r * tokens + i];
    }
    fpl_model_gradient_norm(t->model, t->sqnorm);
    fpl_model_nonfinite(t->model, t->nonfinite);
}

/* Watch every replica that still trains; returns the mean loss of the first of them. */
static double judge(struct fpl_trainer *t) {
    double shown = (double)NAN;
    for (int r = 0; r < t->R; r++) {
        struct fpl_replica *p = &t->replica[r];
        const int64_t nonfinite = t->nonfinite[r] - p->counted;
        p->counted = t->nonfinite[r];
        if (p->status == FPL_RUN_OK) {
            const double loss = t->sum[r] / (double)(t->batch_sequences * t->seq);
            p->nonfinite += nonfinite;
            p->steps = t->step + 1;
            p->status = fpl_watch_step(&p->watch, p->steps, loss, sqrt(t->sqnorm[r]), nonfinite, p->why);
            if (isnan(shown)) shown = loss;
        }
        t->active[r] = p->status == FPL_RUN_OK;
    }
    return shown;
}

/* Formats of the optimizer's state may meet what is not finite after the step was judged. */
static void judge_update(struct fpl_trainer *t) {
    fpl_model_nonfinite(t->model, t->nonfinite);
    for (int r = 0; r < t->R; r++) {
        struct fpl_replica *p = &t->replica[r];
        const int64_t nonfinite = t->nonfinite[r] - p->counted;
        p->counted = t->nonfinite[r];
        if (p->status != FPL_RUN_OK || nonfinite == 0) continue;
        p->nonfinite += nonfinite;
        p->status = FPL_RUN_DIVERGED;
        snprintf(p->why, sizeof p->why, "step %lld: %lld non-finite moments or master weights",
                 (long long)p->steps, (long long)nonfinite);
    }
}

static enum fpl_code train_step(struct fpl_trainer *t, double *loss, struct fpl_error *err) {
    const double begun = fpl_clock();
    const struct fpl_config *c = t->replica[0].config;
    int diagnose = 0;
    for (int r = 0; r < t->R; r++) diagnose |= fpl_diagnosis_is_due(t, r);
    enum fpl_code code = fpl_model_diagnose(t->model, diagnose, err);
    if (code != FPL_OK) return code;
    run_batch(t);
    code = t->k->check(t->dev, err);
    if (code == FPL_OK && diagnose) code = fpl_diagnosis_keep(t, err);
    if (code != FPL_OK) return code;
    *loss = judge(t);
    for (int r = 0; r < t->R; r++) {
        t->lr[r] = (float)fpl_learning_rate(t->replica[r].config, t->step);
        t->decay[r] = (float)t->replica[r].config->weight_decay;
    }
    struct fpl_adamw a = {.lr = t->lr,
                          .decay = t->decay,
                          .beta1 = c->beta1,
                          .beta2 = c->beta2,
                          .eps = c->eps,
                          .step = t->step + 1,
                          .clip = c->clip,
                          .active = t->active};
    fpl_model_update(t->model, &a);
    if (fpl_model_rounds_state(t->model)) judge_update(t);
    t->step++;
    t->train_seconds += fpl_clock() - begun;
    return t->k->check(t->dev, err);
}

/* ---- the loop -------------------------------------------------------------------------------- */

enum fpl_code fpl_replica_reserve(struct fpl_replica *p, int64_t count, struct fpl_error *err) {
    if (count <= p->eval_room) return FPL_OK;
    const int64_t room = count < 16 ? 16 : 2 * count;
    struct fpl_point *larger = realloc(p->eval, (size_t)room * sizeof *larger);
    if (larger == NULL) return fpl_fail(err, FPL_SYSTEM, "no memory for %lld evaluations", (long long)room);
    p->eval = larger;
    p->eval_room = room;
    return FPL_OK;
}

static int evaluation_is_due(const struct fpl_trainer *t) {
    const int64_t every = t->replica[0].config->eval_every;
    if (every == 0 || t->step == 0 || t->step == t->steps || t->step % every != 0) return 0;
    for (int r = 0; r < t->R; r++) {
        const struct fpl_replica *p = &t->replica[r];
        if (p->status == FPL_RUN_OK && (p->eval_count == 0 || p->eval[p->eval_count - 1].step < t->step))
            return 1;
    }
    return 0;
}

static enum fpl_code evaluate_on_the_way(struct fpl_trainer *t, struct fpl_error *err) {
    int done;
    enum fpl_code code = fpl_evaluate(t, &done, err);
    for (int r = 0; code == FPL_OK && done && r < t->R; r++) {
        struct fpl_replica *p = &t->replica[r];
        if (p->status != FPL_RUN_OK) continue;
        code = fpl_replica_reserve(p, p->eval_count + 1, err);
        if (code == FPL_OK)
            p->eval[p->eval_count++] = (struct fpl_point){t->step, p->last.loss, p->last.se, (double)NAN};
    }
    return code;
}

static void bring_time_forward(struct fpl_trainer *t) {
    const double now = fpl_clock();
    t->seconds += now - t->resumed;
    t->resumed = now;
}

static enum fpl_code save(struct fpl_trainer *t, struct fpl_error *err) {
    if (t->options->checkpoint == NULL) return FPL_OK;
    bring_time_forward(t);
    return fpl_checkpoint_write(t, t->options->checkpoint, err);
}

static enum fpl_code stop(struct fpl_trainer *t, struct fpl_error *err) {
    const int number = fpl_trainer_stopped(t);
    for (int r = 0; r < t->R; r++)
        t->replica[r].last = (struct fpl_evaluation){(double)NAN, (double)NAN, (double)NAN};
    const enum fpl_code code = save(t, err);
    if (code != FPL_OK) return code;
    for (int r = 0; r < t->R; r++) {
        if (t->replica[r].status != FPL_RUN_OK) continue;
        t->replica[r].status = FPL_RUN_STOPPED;
        snprintf(t->replica[r].why, sizeof t->replica[r].why, "step %lld: signal %d", (long long)t->step,
                 number);
    }
    return fpl_fail(err, FPL_STOPPED, "stopped by signal %d after step %lld of %lld%s%.900s", number,
                    (long long)t->step, (long long)t->steps,
                    t->options->checkpoint != NULL ? "; run again to go on from "
                                                   : "; no checkpoint was asked for",
                    t->options->checkpoint != NULL ? t->options->checkpoint : "");
}

/* The held-out loss decides the status of what is left. */
static enum fpl_code evaluate_the_end(struct fpl_trainer *t, int *done, struct fpl_error *err) {
    int64_t *before = calloc((size_t)t->R, sizeof *before);
    if (before == NULL) return fpl_fail(err, FPL_SYSTEM, "no memory for an evaluation");
    for (int r = 0; r < t->R; r++) before[r] = t->replica[r].nonfinite;
    const enum fpl_code code = fpl_evaluate(t, done, err);
    for (int r = 0; code == FPL_OK && *done && r < t->R; r++) {
        struct fpl_replica *p = &t->replica[r];
        if (p->status != FPL_RUN_OK) continue;
        p->status = fpl_watch_end(&p->watch, t->step, p->last.loss, p->nonfinite - before[r], p->why);
    }
    free(before);
    return code;
}

/* A last checkpoint that cannot be written (a full disk) is an error, but no reason to lose what
 * was trained: the run ends, and is told, as if it had been. */
static enum fpl_code finish(struct fpl_trainer *t, struct fpl_error *err) {
    struct fpl_error unsaved = {FPL_OK, ""};
    int done = 1;
    (void)save(t, &unsaved);
    const enum fpl_code code = fpl_trainer_active(t) ? evaluate_the_end(t, &done, err) : FPL_OK;
    if (code != FPL_OK) return code;
    if (!done) return stop(t, err);
    t->finished = 1;
    if (unsaved.code != FPL_OK) *err = unsaved;
    return unsaved.code;
}

static enum fpl_code run(struct fpl_trainer *t, struct fpl_error *err) {
    const int64_t every = t->replica[0].config->checkpoint_every;
    int64_t saved = t->step;
    while (t->step < t->steps && fpl_trainer_active(t)) {
        double loss;
        enum fpl_code code = FPL_OK;
        if (evaluation_is_due(t)) code = evaluate_on_the_way(t, err);
        if (code != FPL_OK) return code;
        if (fpl_trainer_stopped(t)) return stop(t, err);
        if (every > 0 && t->step % every == 0 && t->step > saved) {
            code = save(t, err);
            saved = t->step;
        }
        if (code == FPL_OK) code = train_step(t, &loss, err);
        if (code != FPL_OK) return code;
        if (t->options->progress != NULL) t->options->progress(t->options->context, t->step, t->steps, loss);
    }
    return finish(t, err);
}

/* ---- records --------------------------------------------------------------------------------- */

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
    r->seconds = t->seconds;
    r->tokens_per_second = t->train_seconds > 0 ? r->D / t->train_seconds : (double)NAN;
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

static enum fpl_code fill_record(struct fpl_trainer *t, struct fpl_replica *p,
                                 const struct fpl_energy *energy, struct fpl_record *r,
                                 struct fpl_error *err) {
    fpl_watch_close(&p->watch, p->steps);
    r->curve = calloc((size_t)p->watch.points + 1, sizeof *r->curve);
    if (r->curve == NULL) return fpl_fail(err, FPL_SYSTEM, "no memory for a record");
    memcpy(r->curve, p->watch.curve, (size_t)p->watch.points * sizeof *r->curve);
    r->curve_count = p->watch.points;
    fill_run(t, p, r);
    r->peak_bytes = fpl_peak_bytes();
    r->joules = fpl_energy_joules(energy);
    snprintf(r->backend, sizeof r->backend, "%s", t->k->name);
    t->k->describe(t->dev, r->variants, sizeof r->variants);
    snprintf(r->simd, sizeof r->simd, "%s", fpl_simd_level());
    fpl_machine_describe(r);
    snprintf(r->revision, sizeof r->revision, "%s",
             t->options->revision != NULL ? t->options->revision : "unknown");
    r->numerics = FPL_NUMERICS;
    return FPL_OK;
}

enum fpl_code fpl_train(const struct fpl_config *configs, int R, const struct fpl_data *data,
                        const struct fpl_train_options *options, struct fpl_record *records,
                        struct fpl_error *err) {
    struct fpl_trainer t = {.R = R, .data = data, .options = options, .k = options->kernels};
    struct fpl_energy energy;
    int found = 0;
    if (R < 1) return fpl_fail(err, FPL_INVALID, "no runs to train");
    memset(records, 0, (size_t)R * sizeof *records);
    fpl_energy_start(&energy);
    t.resumed = fpl_clock();
    enum fpl_code code = check_pack(configs, R, err);
    if (code == FPL_OK) code = set_up(&t, configs, err);
    if (code == FPL_OK && options->checkpoint != NULL)
        code = fpl_checkpoint_read(&t, options->checkpoint, &found, err);
    if (code == FPL_OK) code = run(&t, err);
    if (t.finished || code == FPL_STOPPED) {
        bring_time_forward(&t);
        for (int r = 0; r < R; r++) {
            const enum fpl_code filled = fill_record(&t, &t.replica[r], &energy, &records[r], err);
            if (filled != FPL_OK) code = filled;
        }
    }
    tear_down(&t);
    return code;
}
