/* corpus.h - what `bytes` and `tokens` share: files of tokens, mapped and read in chunks.
 *
 * The files' tokens, one file after the other, are one stream of n tokens.  Its last
 * max(T + 1, min(n/20, 2^22)) tokens are held out.  Training sequence k is tokens kT to
 * kT + T of the part before them: chunks of T inputs that do not overlap; the last target of a
 * chunk is the first input of the next.  Position g = step * batch_sequences + i of a run
 * takes chunk permutation(seed, epoch = g / chunks)(g mod chunks): nothing repeats within an
 * epoch.  Held-out sequences are cut in the same way and ordered by a permutation of
 * data_seed, so that a short evaluation still samples the whole tail.
 *
 * The fingerprint is a hash of the tokens (and of the vocabulary where it was given): names of
 * files and the way the text is cut into files do not enter, except that sequences ignore
 * where files end.
 */
#ifndef FPL_DATA_CORPUS_H
#define FPL_DATA_CORPUS_H

#include <stddef.h>
#include <stdint.h>

#include "source.h"

struct fpl_segment {
    char *path;
    uint8_t *map; /* the whole file */
    size_t map_size;
    const uint8_t *tokens; /* in it */
    int64_t count, start;  /* tokens, and how many come before in the stream */
};

struct fpl_corpus {
    int width; /* bytes of a token, little-endian: 1 or 2 */
    int64_t count;
    size_t segments;
    struct fpl_segment *segment;
    int64_t train_chunks, held_start, held_chunks;
};

/* Where a file's tokens are in its bytes; the name of the file is in front of the message. */
typedef enum fpl_code fpl_locate(const uint8_t *bytes, size_t size, size_t *begin, int64_t *count,
                                 struct fpl_error *err);

/* Maps the colon-separated files, counts and hashes their tokens and sets d->state and all of
 * d->info.  vocab 0: the largest token plus one; else tokens beyond it are errors. */
enum fpl_code fpl_corpus_open(struct fpl_data *d, const char *files, int width, int64_t vocab,
                              fpl_locate *locate, struct fpl_error *err);

/* Members of struct fpl_source_kind. */
void fpl_corpus_close(struct fpl_data *d);
void fpl_corpus_train(const struct fpl_data *d, uint64_t seed, int64_t step, int64_t batch_sequences,
                      int64_t first, int64_t count, int32_t *inputs, int32_t *targets);
int64_t fpl_corpus_held_out(const struct fpl_data *d, int64_t first, int64_t count, int32_t *inputs,
                            int32_t *targets, double *oracle);

#endif
