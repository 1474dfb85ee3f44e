/* lexicon.h - a random language whose entropy is known: its tables and their statistics.
 *
 * The language.  Classes 0..K-1 follow a Markov chain; each step draws the next class and
 * then a word of that class, spelled in letters 1..V-1 and ended by the separator 0.  Word
 * w has class w mod K and rank floor(w / K) in it, so that ids order words by rank; its
 * probability in its class is proportional to (rank + 2.7)^-exponent.  A word belongs to one
 * class and no two are spelled alike, so whole words reveal the classes.
 *
 * Spelling.  Word w gets 1 + floor((17 floor(log2(w + 1)) + 2u)/32) letters, u uniform in
 * 0..31: about half a letter per doubling of the rank.  Letters follow a bigram: after letter p
 * (0 at the start) the k-th likeliest letter, k = 0..V-2, is 1 + (a_p k + b_p) mod (V - 1), with
 * probability proportional to 1/(k + 1)^2; a_p and b_p are random, a_p coprime with V - 1.  A
 * spelling already taken is drawn again; after every eighth failure in a row this and all later
 * words get at least one letter more, so that any number of words finds room.
 */
#ifndef FPL_DATA_LEXICON_H
#define FPL_DATA_LEXICON_H

#include <stdint.h>

#include "../../formats/error.h"
#include "alias.h"

enum { FPL_LEXICON_SLOTS = 8 }; /* a class's successors, each with probability 1/8 (repeats add up) */

struct fpl_lexicon {
    /* options */
    int64_t words, vocab, classes;
    double exponent;
    /* words: letters and the separator of word w are text[offset[w]] to text[offset[w + 1] - 1] */
    uint32_t *offset;
    uint16_t *text;
    /* classes */
    uint8_t *successor; /* [classes][FPL_LEXICON_SLOTS] */
    double *stationary; /* [classes] */
    struct fpl_alias start;
    /* ranks: row 1 for the first words mod K classes, which have one word more, row 0 for the others */
    int64_t size[2];
    double *log_rank[2]; /* [size] log probability of a rank inside its class */
    struct fpl_alias rank[2];
    /* each class's words sorted by spelling, classes one after the other, for prefix sums */
    uint32_t *order;    /* [words] ids */
    double *cumulative; /* [words] probability inside the class of the words up to and including this */
    /* statistics */
    double *first;        /* [vocab] log probability that a word begins with a letter; -Inf if none does */
    double token_entropy; /* nats per token */
    double unigram_entropy;
    double mean_length; /* E[length + 1], tokens of a word with its separator */
};

/* Options set, everything else zero on entry. Freed by fpl_lexicon_free also after a failure. */
enum fpl_code fpl_lexicon_build(struct fpl_lexicon *x, uint64_t seed, struct fpl_error *err);
void fpl_lexicon_free(struct fpl_lexicon *x);

static inline int64_t fpl_lexicon_class(const struct fpl_lexicon *x, int64_t word) {
    return word % x->classes;
}
/* Which row of size, log_rank and rank a class uses, and where it begins in order and cumulative. */
static inline int fpl_lexicon_row(const struct fpl_lexicon *x, int64_t c) {
    return c < x->words % x->classes;
}
static inline int64_t fpl_lexicon_base(const struct fpl_lexicon *x, int64_t c) {
    int64_t extra = x->words % x->classes;
    return c * x->size[0] + (c < extra ? c : extra);
}

#endif
