/* setup.c - a pack's trainer: what its runs must agree in, its buffers, its model. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/file.h"
#include "schedule.h"
#include "trainer.h"

#define CHUNK_TOKENS 2048 /* of one evaluation call */

/* What all replicas of a pack share, by option key. */
static const char *const shared_options[] = {
    "layers", "width", "heads", "ffn",  "seq",         "init_std",   "data",         "data_seed",
    "beta1",  "beta2", "eps",   "clip", "eval_tokens", "eval_every", "batch_tokens", NULL};

enum fpl_code fpl_trainer_check(const struct fpl_config *c, int R, struct fpl_error *err) {
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

void fpl_train_shape(const struct fpl_config *c, char shape[17]) {
    char value[1100], hex[33] = "";
    struct fpl_text t = {0};
    for (const char *const *key = shared_options; *key != NULL; key++) {
        fpl_config_get(c, *key, value, sizeof value);
        fpl_text_add(&t, "%s=%s\n", *key, value);
    }
    fpl_text_add(&t, "%lld %lld %lld", (long long)fpl_config_steps(c), (long long)fpl_config_micro(c),
                 (long long)c->checkpoint_every);
    if (!t.failed) fpl_hash_text(t.text, strlen(t.text), hex); /* "" for all: checked again when they train */
    fpl_text_free(&t);
    snprintf(shape, 17, "%.16s", hex);
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
    const int64_t whole = t->batch_sequences > t->chunk_sequences ? t->batch_sequences : t->chunk_sequences;
    t->losses = calloc(R * (size_t)(whole * t->seq), sizeof *t->losses);
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

static int64_t chunk_sequences(int64_t seq) { return CHUNK_TOKENS / seq > 0 ? CHUNK_TOKENS / seq : 1; }

struct fpl_model_shape fpl_trainer_shape(const struct fpl_config *c, int R, int64_t vocab) {
    const int64_t micro = fpl_config_micro(c) / c->seq, chunk = chunk_sequences(c->seq);
    return (struct fpl_model_shape){.R = R,
                                    .layers = c->layers,
                                    .width = c->width,
                                    .heads = c->heads,
                                    .ffn = fpl_config_ffn(c),
                                    .vocab = vocab,
                                    .seq = c->seq,
                                    .micro_sequences = micro > chunk ? micro : chunk,
                                    .init_std = fpl_config_init_std(c)};
}

static enum fpl_code create_model(struct fpl_trainer *t, const struct fpl_config *const *configs,
                                  struct fpl_error *err) {
    const struct fpl_config *c = configs[0];
    const struct fpl_device_options device = {.threads = t->options->threads > 0 ? t->options->threads : 1,
                                              .number = t->options->device};
    struct fpl_model_shape shape = fpl_trainer_shape(c, t->R, t->info.vocab);
    struct fpl_recipe *recipe = calloc((size_t)t->R, sizeof *recipe);
    struct fpl_model_replica *replica = calloc((size_t)t->R, sizeof *replica);
    enum fpl_code code = FPL_OK;
    shape.threads = device.threads;
    if (recipe == NULL || replica == NULL) code = fpl_fail(err, FPL_SYSTEM, "no memory for recipes");
    for (int r = 0; code == FPL_OK && r < t->R; r++) {
        code = fpl_recipe_parse(configs[r]->recipe, &recipe[r], err);
        replica[r] = (struct fpl_model_replica){.recipe = &recipe[r], .seed = configs[r]->seed};
    }
    if (code == FPL_OK) code = t->k->open(&t->dev, &device, err);
    if (code == FPL_OK) code = fpl_model_create(&shape, replica, t->k, t->dev, &t->model, err);
    free(recipe);
    free(replica);
    return code;
}

enum fpl_code fpl_trainer_open(struct fpl_trainer *t, const struct fpl_config *const *configs,
                               struct fpl_error *err) {
    const struct fpl_config *c = configs[0];
    t->seq = c->seq;
    t->steps = fpl_config_steps(c);
    t->batch_sequences = c->batch_tokens / c->seq;
    t->micro_sequences = fpl_config_micro(c) / c->seq;
    t->chunk_sequences = chunk_sequences(c->seq);
    fpl_data_info(t->data, &t->info);
    enum fpl_code code = check_amount(t, c, err);
    if (code == FPL_OK) code = allocate(t, err);
    for (int r = 0; code == FPL_OK && r < t->R; r++) {
        struct fpl_replica *p = &t->replica[r];
        p->config = configs[r];
        p->pack = t->R;
        p->shares = 1;
        p->last = (struct fpl_evaluation){(double)NAN, (double)NAN, (double)NAN};
        p->canonical = fpl_config_canonical(configs[r], t->k->name, t->info.fingerprint);
        if (p->canonical == NULL) code = fpl_fail(err, FPL_SYSTEM, "no memory for a configuration's text");
        fpl_watch_init(&p->watch, t->info.unigram_entropy, t->info.vocab, c->batch_tokens, t->steps,
                       fpl_warmup_steps(configs[r]));
    }
    return code == FPL_OK ? create_model(t, configs, err) : code;
}

void fpl_trainer_close(struct fpl_trainer *t) {
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
