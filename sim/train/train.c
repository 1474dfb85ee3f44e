/* train.c - the training loop.
 *
 * Step s (from 0) draws its batch from (seed, s), its random bits of stochastic rounding from
 * counter step s, its rate from the schedule; nothing else decides a result.  The loop's
 * top is the only place where a run may be cut: an evaluation that is due there is done
 * again after a resume, so a checkpoint at any step continues with the same bits.
 *
 * In a pack, a replica that has ended is neither updated nor watched any more; the others
 * go on.  No step allocates.  pack.c has what surrounds the loop.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schedule.h"
#include "trainer.h"

int fpl_trainer_stopped(const struct fpl_trainer *t) {
    return t->options->stop != NULL ? (int)*t->options->stop : 0;
}

int fpl_trainer_active(const struct fpl_trainer *t) {
    int n = 0;
    for (int r = 0; r < t->R; r++) n += t->replica[r].status == FPL_RUN_OK;
    return n;
}

/* ---- one step -------------------------------------------------------------------------------- */

/* Forward and backward over the batch; t->sum[r]: summed losses in row order. */
static void run_batch(struct fpl_trainer *t) {
    const int64_t tokens = t->micro_sequences * t->seq;
    const int threads = t->options->threads < t->R ? t->options->threads : t->R;
    double *losses = t->losses; /* of this micro-batch, [R, tokens] */
    for (int64_t first = 0; first < t->batch_sequences; first += t->micro_sequences) {
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
        for (int r = 0; r < t->R; r++)
            fpl_data_train(t->data, t->replica[r].config->seed, t->step, t->batch_sequences, first,
                           t->micro_sequences, t->inputs + r * tokens, t->targets + r * tokens);
        const struct fpl_batch b = {.sequences = t->micro_sequences,
                                    .inputs = t->inputs,
                                    .targets = t->targets,
                                    .step = (uint32_t)t->step,
                                    .first_row = first * t->seq,
                                    .scale = 1.0 / (double)(t->batch_sequences * t->seq)};
        fpl_model_forward(t->model, &b, losses);
        fpl_model_backward(t->model, &b, first > 0);
        losses += t->R * tokens;
    }
    fpl_model_gradient_norm(t->model, t->sqnorm);
    fpl_model_nonfinite(t->model, t->nonfinite);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int r = 0; r < t->R; r++) {
        t->sum[r] = 0;
        for (const double *l = t->losses; l < losses; l += t->R * tokens)
            for (int64_t i = 0; i < tokens; i++) t->sum[r] += l[r * tokens + i];
    }
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

/* A step's time is shared by those that trained in it, also by one that ended in it. */
static void account_step(struct fpl_trainer *t, double seconds, int trained) {
    for (int r = 0; r < t->R; r++)
        if (t->replica[r].shares) t->replica[r].train_seconds += seconds / trained;
    if (fpl_trainer_active(t) != trained) fpl_trainer_account(t);
}

enum fpl_code fpl_trainer_step(struct fpl_trainer *t, double *loss, struct fpl_error *err) {
    const double begun = fpl_clock();
    const struct fpl_config *c = t->replica[0].config;
    const int trained = fpl_trainer_active(t);
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
    /* The update is checked, and waited for, with what comes next: a device gets both at once. */
    account_step(t, fpl_clock() - begun, trained);
    return FPL_OK;
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

static enum fpl_code save(struct fpl_trainer *t, struct fpl_error *err) {
    enum fpl_code code = FPL_OK;
    if (t->options->checkpoint == NULL) return FPL_OK;
    fpl_trainer_account(t);
    for (int r = 0; code == FPL_OK && r < t->R; r++)
        code = fpl_checkpoint_write(t, r, t->options->checkpoint[t->replica[r].index], err);
    return code;
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
                    t->options->checkpoint != NULL ? t->options->checkpoint[t->replica[0].index] : "");
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
    int done = 1;
    if (t->unsaved.code == FPL_OK) (void)save(t, &t->unsaved);
    const enum fpl_code code = fpl_trainer_active(t) ? evaluate_the_end(t, &done, err) : FPL_OK;
    if (code != FPL_OK) return code;
    if (!done) return stop(t, err);
    t->finished = 1;
    if (t->unsaved.code != FPL_OK && err != NULL) *err = t->unsaved;
    return t->unsaved.code;
}

int fpl_trainer_is_sparse(const struct fpl_trainer *t) {
    const int active = fpl_trainer_active(t);
    return active > 0 && 2 * active <= t->R;
}

enum fpl_code fpl_trainer_run(struct fpl_trainer *t, struct fpl_error *err) {
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
        if (code == FPL_OK && fpl_trainer_is_sparse(t)) return FPL_OK;
        if (code == FPL_OK) code = fpl_trainer_step(t, &loss, err);
        if (code != FPL_OK) return code;
        if (t->options->progress != NULL) t->options->progress(t->options->context, t->step, t->steps, loss);
    }
    return finish(t, err);
}
