/* evaluate.c - held-out loss under each run's own recipe.
 *
 * The sample is the source's first eval_tokens/T held-out sequences (at least one, at most
 * what there is), the same for every run, taken chunk_sequences at a time.  A sequence's
 * loss is the mean over its tokens; loss and standard error are those of the mean over
 * sequences, by Welford's recurrence in sequence order.  Tokens of a sequence are strongly
 * dependent, sequences are not: hence the error over sequences.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "trainer.h"

struct running {
    double mean, squares;
};

static void add(struct running *s, double x, int64_t n) {
    const double d = x - s->mean;
    s->mean += d / (double)n;
    s->squares += d * (x - s->mean);
}

/* Every replica reads the same sequences: copy replica 0's tokens to the others. */
static void replicate(const struct fpl_trainer *t, int64_t count) {
    const size_t tokens = (size_t)(count * t->seq);
    for (int r = 1; r < t->R; r++) {
        memcpy(t->inputs + (size_t)r * tokens, t->inputs, tokens * sizeof *t->inputs);
        memcpy(t->targets + (size_t)r * tokens, t->targets, tokens * sizeof *t->targets);
    }
}

static void add_chunk(const struct fpl_trainer *t, int64_t first, int64_t count, struct running *loss) {
    for (int r = 0; r < t->R; r++)
        for (int64_t i = 0; i < count; i++) {
            const double *row = t->losses + ((int64_t)r * count + i) * t->seq;
            double sum = 0;
            for (int64_t j = 0; j < t->seq; j++) sum += row[j];
            add(&loss[r], sum / (double)t->seq, first + i + 1);
        }
}

/* Non-finite operands met since the last look, added to the replicas that still train. */
static void count_nonfinite(struct fpl_trainer *t) {
    fpl_model_nonfinite(t->model, t->nonfinite);
    for (int r = 0; r < t->R; r++) {
        struct fpl_replica *p = &t->replica[r];
        if (p->status == FPL_RUN_OK) p->nonfinite += t->nonfinite[r] - p->counted;
        p->counted = t->nonfinite[r];
    }
}

/* Returns how many sequences were evaluated, -1 if stopped on the way. */
static int64_t run_chunks(struct fpl_trainer *t, int64_t wanted, struct running *loss,
                          struct running *oracle) {
    int64_t first = 0;
    while (first < wanted) {
        if (fpl_trainer_stopped(t)) return -1;
        const int64_t ask = wanted - first < t->chunk_sequences ? wanted - first : t->chunk_sequences;
        const int64_t count = fpl_data_held_out(t->data, first, ask, t->inputs, t->targets, t->oracle);
        if (count <= 0) break;
        replicate(t, count);
        const struct fpl_batch b = {.sequences = count,
                                    .inputs = t->inputs,
                                    .targets = t->targets,
                                    .step = FPL_EVAL_STEP + (uint32_t)t->step,
                                    .first_row = first * t->seq};
        fpl_model_evaluate(t->model, &b, t->losses);
        add_chunk(t, first, count, loss);
        for (int64_t i = 0; i < count; i++) add(oracle, t->oracle[i], first + i + 1);
        first += count;
        if (count < ask) break;
    }
    return first;
}

enum fpl_code fpl_evaluate(struct fpl_trainer *t, int *done, struct fpl_error *err) {
    struct running *loss = calloc((size_t)t->R + 1, sizeof *loss), *oracle = loss + t->R;
    int64_t wanted = t->replica[0].config->eval_tokens / t->seq;
    if (loss == NULL) return fpl_fail(err, FPL_SYSTEM, "no memory for an evaluation");
    if (wanted < 1) wanted = 1;
    const int64_t n = run_chunks(t, wanted, loss, oracle);
    enum fpl_code code = t->k->check(t->dev, err);
    if (code == FPL_OK && n == 0)
        code = fpl_fail(err, FPL_INVALID, "data: no held-out sequence of %lld tokens", (long long)t->seq + 1);
    *done = code == FPL_OK && n > 0;
    for (int r = 0; *done && r < t->R; r++) {
        struct fpl_evaluation *e = &t->replica[r].last;
        if (t->replica[r].status != FPL_RUN_OK) continue;
        e->loss = loss[r].mean;
        e->se = n > 1 ? sqrt(loss[r].squares / (double)(n - 1) / (double)n) : (double)NAN;
        e->oracle = oracle->mean;
    }
    if (*done) count_nonfinite(t);
    free(loss);
    return code;
}
