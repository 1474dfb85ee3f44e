/* lexicon.c - `lexicon`: training and held-out sequences of a random language, and the exact
 * likelihood of the held-out ones.
 *
 * Grammar: lexicon[:option{,option}], option = key=number:
 *   words     16 to 8388608, default 65536     exponent  0 to 4, default 1.35
 *   vocab     3 to 65536, default 32           classes   1 to 256 and at most words, default 16
 * Numbers are read by fpl_number_parse (64k, 1e6, 2^20).  With the defaults and data_seed 0 the
 * entropy rate is 0.9380, the unigram entropy 3.0514 nats per token, a word with its separator
 * 6.46 tokens long.
 *
 * Draws.  Sequence i of a batch takes the Philox blocks i 2^24 + n of the run's seed, the
 * step and FPL_STREAM_GENERATE: block 0 draws the class before the first word from the
 * stationary distribution, block n the n-th word and its class.  The held-out sequence i
 * is the same under data_seed, step 0 and FPL_STREAM_EVAL.
 *
 * Oracle.  The first token x_0 is only an input, so the loss of a sequence is
 *   -[log P(x_0 ... x_T) - log P(x_0)] / T.
 * Whole words tell the classes, therefore P = pi-weighted sum over the class before the
 * first word; then products of P(class | class) P(word | class); and for a word cut by the
 * end, after m letters without its separator, sum over classes of P(class | class) times the
 * share of the class's words that begin with these m letters: a difference of two prefix
 * sums over the class's words sorted by spelling.  As the first class is drawn as the
 * successor of a stationary one, it is stationary too.
 *
 * The mean oracle of sequences of T targets is above the entropy rate by a constant over T, about
 * 1.6/T with the defaults (0.9755 at T = 64): a sequence begins with a word whose class nothing
 * foretells, and ends inside one, where words are least certain at their beginning.
 */
#include "lexicon.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/random.h"
#include "../base/detmath.h"
#include "../base/file.h"
#include "../base/number.h"
#include "source.h"

enum { GENERATOR = 1 }; /* raised whenever a sequence changes */

/* ---- options ---------------------------------------------------------------------------- */

static const struct lexicon_option {
    const char *key;
    int whole;
    double min, max, fallback;
} options[] = {{"words", 1, 16, 8388608, 65536},
               {"exponent", 0, 0, 4, 1.35},
               {"vocab", 1, 3, 65536, 32},
               {"classes", 1, 1, 256, 16}};
enum { WORDS, EXPONENT, VOCAB, CLASSES, OPTIONS };

static enum fpl_code parse_option(char *text, double *value, int *given, struct fpl_error *err) {
    char *equals = strchr(text, '=');
    if (equals != NULL) *equals = '\0';
    const char *names[OPTIONS + 1] = {NULL};
    int k = -1;
    for (int i = 0; i < OPTIONS; i++) {
        names[i] = options[i].key;
        if (strcmp(text, options[i].key) == 0) k = i;
    }
    if (k < 0) {
        const char *near = fpl_nearest_word(text, names);
        return fpl_fail(
            err, FPL_INVALID,
            "data: lexicon: unknown option '%.40s'%s%s%s; accepted are words, exponent, vocab, classes", text,
            near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
    }
    const struct lexicon_option *o = &options[k];
    if (given[k]++) return fpl_fail(err, FPL_INVALID, "data: lexicon: %s is given twice", o->key);
    double v = 0.0;
    if (equals == NULL || fpl_number_parse(equals + 1, &v, NULL) != FPL_OK || !(v >= o->min && v <= o->max) ||
        (o->whole && v != (double)(int64_t)v))
        return fpl_fail(err, FPL_INVALID, "data: lexicon: %s=%.40s; accepted is a %snumber from %g to %.0f",
                        o->key, equals != NULL ? equals + 1 : "", o->whole ? "whole " : "", o->min, o->max);
    value[k] = v;
    return FPL_OK;
}

static enum fpl_code parse_options(const char *args, struct fpl_lexicon *x, struct fpl_error *err) {
    double value[OPTIONS];
    int given[OPTIONS] = {0};
    for (int i = 0; i < OPTIONS; i++) value[i] = options[i].fallback;
    char *copy = args != NULL ? strdup(args) : NULL;
    if (args != NULL && copy == NULL) return fpl_fail(err, FPL_SYSTEM, "data: out of memory");
    enum fpl_code code = FPL_OK;
    for (char *text = copy; text != NULL && code == FPL_OK;) {
        char *comma = strchr(text, ',');
        if (comma != NULL) *comma = '\0';
        code = parse_option(text, value, given, err);
        text = comma != NULL ? comma + 1 : NULL;
    }
    free(copy);
    if (code != FPL_OK) return code;
    x->words = (int64_t)value[WORDS];
    x->exponent = value[EXPONENT];
    x->vocab = (int64_t)value[VOCAB];
    x->classes = (int64_t)value[CLASSES];
    if (x->classes > x->words)
        return fpl_fail(err, FPL_INVALID,
                        "data: lexicon: %lld classes for %lld words; accepted is at most one each",
                        (long long)x->classes, (long long)x->words);
    return FPL_OK;
}

static void lexicon_close(struct fpl_data *d) {
    if (d->state == NULL) return;
    fpl_lexicon_free(d->state);
    free(d->state);
}

static enum fpl_code lexicon_open(struct fpl_data *d, const char *args, struct fpl_error *err) {
    struct fpl_lexicon *x = d->state = calloc(1, sizeof *x);
    if (x == NULL) return fpl_fail(err, FPL_SYSTEM, "data: out of memory");
    enum fpl_code code = parse_options(args, x, err);
    if (code == FPL_OK) code = fpl_lexicon_build(x, d->data_seed, err);
    if (code != FPL_OK) return code;
    char text[256], hex[33];
    int size =
        snprintf(text, sizeof text, "lexicon/%d words=%lld exponent=%.17g vocab=%lld classes=%lld seed=%llu",
                 GENERATOR, (long long)x->words, x->exponent, (long long)x->vocab, (long long)x->classes,
                 (unsigned long long)d->data_seed);
    fpl_hash_text(text, (size_t)size, hex);
    snprintf(d->info.fingerprint, sizeof d->info.fingerprint, "lexicon:%s", hex);
    d->info.vocab = x->vocab;
    d->info.entropy_rate = x->token_entropy;
    d->info.unigram_entropy = x->unigram_entropy;
    return FPL_OK;
}

/* ---- sequences -------------------------------------------------------------------------- */

/* Where a sequence's random blocks are. */
struct place {
    uint64_t seed, base;
    uint32_t step, stream;
};

static inline uint32_t draw_word(const struct fpl_lexicon *x, const struct place *at, uint64_t n,
                                 uint32_t *class) {
    uint32_t block[4];
    fpl_random_block(at->seed, at->base + n, at->step, at->stream, block);
    uint32_t c = *class = x->successor[*class * FPL_LEXICON_SLOTS + (block[2] & (FPL_LEXICON_SLOTS - 1))];
    uint32_t rank = fpl_alias_draw(&x->rank[fpl_lexicon_row(x, c)], (uint64_t)block[1] << 32 | block[0]);
    return rank * (uint32_t)x->classes + c;
}

/* log P(class | previous); previous < 0: of a first word. */
static double log_class(const struct fpl_lexicon *x, int64_t previous, uint32_t class) {
    if (previous < 0) return fpl_det_log(x->stationary[class]);
    int same = 0;
    for (int s = 0; s < FPL_LEXICON_SLOTS; s++)
        same += x->successor[previous * FPL_LEXICON_SLOTS + s] == class;
    return fpl_det_log((double)same / FPL_LEXICON_SLOTS);
}

/* Order of a word against the m letters of a prefix: 0 if it begins with them.  The word's
 * separator is below every letter, so reading stops at its end. */
static int compare_prefix(const uint16_t *word, const uint16_t *prefix, int64_t m) {
    for (int64_t i = 0; i < m; i++)
        if (word[i] != prefix[i]) return word[i] < prefix[i] ? -1 : 1;
    return 0;
}

/* Probability that a word of the class begins with the prefix. */
static double prefix_share(const struct fpl_lexicon *x, int64_t class, const uint16_t *prefix, int64_t m) {
    int64_t base = fpl_lexicon_base(x, class), n = x->size[fpl_lexicon_row(x, class)], edge[2];
    for (int upper = 0; upper < 2; upper++) {
        int64_t low = 0, high = n; /* the first word not below (upper: above) the prefix */
        while (low < high) {
            int64_t middle = low + (high - low) / 2;
            if (compare_prefix(x->text + x->offset[x->order[base + middle]], prefix, m) < upper)
                low = middle + 1;
            else
                high = middle;
        }
        edge[upper] = low;
    }
    if (edge[0] == edge[1]) return 0.0;
    return x->cumulative[base + edge[1] - 1] - (edge[0] > 0 ? x->cumulative[base + edge[0] - 1] : 0.0);
}

/* log P(the sequence's end is these m letters of an unfinished word | class of the word before). */
static double log_cut(const struct fpl_lexicon *x, int64_t previous, const uint16_t *prefix, int64_t m) {
    double sum = 0.0;
    if (previous < 0)
        for (int64_t c = 0; c < x->classes; c++) sum += x->stationary[c] * prefix_share(x, c, prefix, m);
    else
        for (int s = 0; s < FPL_LEXICON_SLOTS; s++)
            sum += prefix_share(x, x->successor[previous * FPL_LEXICON_SLOTS + s], prefix, m) /
                   FPL_LEXICON_SLOTS;
    return fpl_det_log(sum);
}

/* inputs[T], targets[T]; returns log P(x_0 ... x_T) if `weigh`, else 0. */
static inline double sequence(const struct fpl_lexicon *x, const struct place *at, int64_t T, int32_t *inputs,
                              int32_t *targets, int weigh) {
    uint32_t block[4];
    fpl_random_block(at->seed, at->base, at->step, at->stream, block);
    uint32_t class = fpl_alias_draw(&x->start, (uint64_t)block[1] << 32 | block[0]);
    double log_p = 0.0;
    int64_t previous = -1, position = -1; /* the next token is targets[position]; -1: inputs[0] */
    for (uint64_t n = 1; position < T; n++) {
        uint32_t word = draw_word(x, at, n, &class);
        const uint16_t *text = x->text + x->offset[word];
        int64_t length = (int64_t)(x->offset[word + 1] - x->offset[word]), i = 0;
        int64_t used = length < T - position ? length : T - position;
        if (weigh && used == length)
            log_p += log_class(x, previous, class) +
                     x->log_rank[fpl_lexicon_row(x, class)][word / (uint32_t)x->classes];
        else if (weigh)
            log_p += log_cut(x, previous, text, used);
        if (position < 0) inputs[0] = text[i++], position++;
        for (; i < used; i++) targets[position++] = text[i];
        previous = class;
    }
    memcpy(inputs + 1, targets, (size_t)(T - 1) * sizeof *inputs);
    return log_p;
}

enum { WORD_BITS = 24 }; /* block numbers of one sequence */

static void lexicon_train(const struct fpl_data *d, uint64_t seed, int64_t step, int64_t batch_sequences,
                          int64_t first, int64_t count, int32_t *inputs, int32_t *targets) {
    (void)batch_sequences;
    for (int64_t i = 0; i < count; i++) {
        struct place at = {seed, (uint64_t)(first + i) << WORD_BITS, (uint32_t)step,
                           fpl_stream(FPL_STREAM_GENERATE, (uint32_t)((uint64_t)step >> 32))};
        sequence(d->state, &at, d->seq, inputs + i * d->seq, targets + i * d->seq, 0);
    }
}

static int64_t lexicon_held_out(const struct fpl_data *d, int64_t first, int64_t count, int32_t *inputs,
                                int32_t *targets, double *oracle) {
    const struct fpl_lexicon *x = d->state;
    for (int64_t i = 0; i < count; i++) {
        struct place at = {d->data_seed, (uint64_t)(first + i) << WORD_BITS, 0,
                           fpl_stream(FPL_STREAM_EVAL, 0)};
        int32_t *in = inputs + i * d->seq;
        double log_p = sequence(x, &at, d->seq, in, targets + i * d->seq, oracle != NULL);
        if (oracle != NULL) oracle[i] = (x->first[in[0]] - log_p) / (double)d->seq;
    }
    return count;
}

const struct fpl_source_kind fpl_source_lexicon = {
    .name = "lexicon",
    .grammar = "lexicon[:words=..,exponent=..,vocab=..,classes=..]",
    .open = lexicon_open,
    .close = lexicon_close,
    .train = lexicon_train,
    .held_out = lexicon_held_out,
};
