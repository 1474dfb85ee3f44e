/* source.h - what a kind of token source is, inside sim/data.
 *
 * One row of fpl_source_kinds per kind; data.c only looks the row up and calls it.  A row's
 * open fills `info` and `state`; afterwards the source is read-only, so that any number of
 * threads may draw from it.
 *
 * Random streams of this folder (formats/random.h; fixed for ever):
 *   FPL_STREAM_ORDER     low bits 0..15    Feistel round of the order of training chunks
 *   FPL_STREAM_EVAL      low bits 0        held-out sequences of a generated source
 *                        16 + round        Feistel round of the order of held-out chunks
 *   FPL_STREAM_LEXICON   0 class chain, 1 letter successors, 2 spelling, 3 lengths
 *   FPL_STREAM_GENERATE  step >> 32        training sequences of a generated source
 */
#ifndef FPL_DATA_SOURCE_H
#define FPL_DATA_SOURCE_H

#include "data.h"

struct fpl_data;

struct fpl_source_kind {
    const char *name;
    const char *grammar; /* for messages */
    /* args: what follows the colon, NULL without one. */
    enum fpl_code (*open)(struct fpl_data *d, const char *args, struct fpl_error *err);
    void (*close)(struct fpl_data *d); /* also of a half-opened source */
    void (*train)(const struct fpl_data *d, uint64_t seed, int64_t step, int64_t batch_sequences,
                  int64_t first, int64_t count, int32_t *inputs, int32_t *targets);
    int64_t (*held_out)(const struct fpl_data *d, int64_t first, int64_t count, int32_t *inputs,
                        int32_t *targets, double *oracle);
};

struct fpl_data {
    const struct fpl_source_kind *kind;
    int64_t seq;
    uint64_t data_seed;
    struct fpl_data_info info;
    void *state;
};

extern const struct fpl_source_kind fpl_source_lexicon;
extern const struct fpl_source_kind fpl_source_bytes;
extern const struct fpl_source_kind fpl_source_tokens;

/* Longest sequence: a sequence's words then have 24-bit numbers (lexicon.c). */
#define FPL_SEQ_MAX ((int64_t)1 << 23)

#endif
