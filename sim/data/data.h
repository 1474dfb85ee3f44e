/* data.h - token sources: where training and held-out sequences come from.
 *
 *   lexicon[:words=..,exponent=..,vocab=..,classes=..]   synthetic, exact entropy rate and
 *                                                         likelihoods, unlimited (lexicon.c)
 *   bytes:FILE[:FILE...]                                  any files, vocabulary 256 (bytes.c)
 *   tokens:[vocab=V,]FILE[:FILE...]                       llm.c token shards (tokens.c)
 *
 * A sequence is T + 1 tokens: inputs are the first T, targets the last T.  Which tokens a
 * training sequence holds is a pure function of (source, run seed, step, index in the batch):
 * nothing depends on micro-batches, packs or where a run resumed.  Of files the last part
 * (5 %, at most 2^22 tokens, at least one sequence) is held out and never trained on; the rest
 * is cut into disjoint chunks of T, and every chunk comes once before any comes again, each
 * epoch in an order of its own (corpus.h).  A caller that wants no repetition compares its
 * D with train_tokens.
 *
 * A source is immutable after opening and may be shared by all replicas and threads.  Files
 * must not be cut short while a source is open.
 */
#ifndef FPL_DATA_H
#define FPL_DATA_H

#include <signal.h>
#include <stdint.h>

#include "../../formats/error.h"

struct fpl_data;

struct fpl_data_info {
    int64_t vocab;
    char fingerprint[64];   /* "kind:hash" of the content, not of paths: for run identities */
    int64_t train_tokens;   /* of one epoch; 0: unlimited (generated) */
    int64_t held_tokens;    /* 0: unlimited */
    double entropy_rate;    /* nats per token, exact; NaN where unknown */
    double unigram_entropy; /* nats per token of the token frequencies */
};

/* spec: the `data` option; seq: T, 1 to 2^23; data_seed: construction of generated sources and
 * the held-out sample (of files: the order in which the held-out part is taken).
 * FPL_INVALID: spec or contents of a file; FPL_SYSTEM: memory, permission, disk. */
enum fpl_code fpl_data_open(const char *spec, int64_t seq, uint64_t data_seed, struct fpl_data **out,
                            struct fpl_error *err);
void fpl_data_close(struct fpl_data *d);
void fpl_data_info(const struct fpl_data *d, struct fpl_data_info *out);

/* Training sequences [first, first + count) of a step's batch of batch_sequences:
 * inputs[count, T], targets[count, T]. */
void fpl_data_train(const struct fpl_data *d, uint64_t seed, int64_t step, int64_t batch_sequences,
                    int64_t first, int64_t count, int32_t *inputs, int32_t *targets);

/* Held-out sequences [first, first + count) of the evaluation sample, the same for every
 * run.  oracle[count] (may be NULL): the source's own exact mean loss of each sequence, nats
 * per token; NaN where unknown.  Returns how many exist from `first` on, at most count. */
int64_t fpl_data_held_out(const struct fpl_data *d, int64_t first, int64_t count, int32_t *inputs,
                          int32_t *targets, double *oracle);

/* Bytes of text files to an llm.c token shard (256 int32 header, magic 20240520, version 1,
 * count, then uint16), written whole or not at all.  A text "-" is standard input; out must be
 * the name of a file.  stop (may be NULL) as in train.h: becomes a signal number, then
 * FPL_STOPPED and no trace of the shard. */
enum fpl_code fpl_data_tokenize_bytes(const char *const *files, int count, const char *out,
                                      const volatile sig_atomic_t *stop, struct fpl_error *err);

#endif
