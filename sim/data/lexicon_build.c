/* lexicon_build.c - constructs the words, the class chain and the tables of lexicon.h from
 * the options and a seed.
 *
 * Everything that decides a token comes from Philox and from + - * / in double (detmath.h),
 * never from libm, so a lexicon is the same on every machine.
 *
 * Chain: at most four distinct successors a class, with probabilities 1/2, 1/4, 1/8, 1/8 (fewer
 * successors: the last two, or all, merge).  The last successor follows one random cycle
 * through all classes, so the chain is irreducible.  Its stationary distribution comes from the
 * elimination of Grassmann, Taksar and Heyman (1985), which subtracts nothing and is exact to
 * rounding for periodic chains too.
 *
 * Entropy rate (nats per token): words are independent given the classes, so
 *   [sum_c pi_c (H(next class | c) + H(word | c))] / E[length + 1].
 */
#include "lexicon.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "../../formats/random.h"
#include "../base/detmath.h"

static const double RANK_SHIFT = 2.7;
enum { MAX_LETTERS = 120, TRIES = 8 };
enum { STREAM_CHAIN, STREAM_LETTERS, STREAM_SPELLING, STREAM_LENGTH };

/* ---- class chain ----------------------------------------------------------------------- */

/* Words of one Philox stream in order, for construction only. */
struct draws {
    uint64_t seed, next;
    uint32_t stream;
};

static uint32_t draw_below(struct draws *d, uint32_t n) {
    uint32_t block[4];
    fpl_random_block(d->seed, d->next++, 0, d->stream, block);
    return (uint32_t)((uint64_t)block[0] * n >> 32);
}

static void build_successors(struct fpl_lexicon *x, uint64_t seed) {
    struct draws d = {seed, 0, fpl_stream(FPL_STREAM_LEXICON, STREAM_CHAIN)};
    uint32_t K = (uint32_t)x->classes, cycle[256];
    for (uint32_t i = 0; i < K; i++) cycle[i] = i;
    for (uint32_t i = K; i > 1; i--) {
        uint32_t j = draw_below(&d, i), keep = cycle[i - 1];
        cycle[i - 1] = cycle[j];
        cycle[j] = keep;
    }
    static const uint8_t share[4][FPL_LEXICON_SLOTS] = {{0, 0, 0, 0, 0, 0, 0, 0},
                                                        {0, 0, 0, 0, 1, 1, 1, 1},
                                                        {0, 0, 0, 0, 1, 1, 2, 2},
                                                        {0, 0, 0, 0, 1, 1, 2, 3}};
    uint32_t degree = K < 4 ? K : 4;
    for (uint32_t i = 0; i < K; i++) {
        uint8_t chosen[4];
        chosen[degree - 1] = (uint8_t)cycle[(i + 1) % K];
        for (uint32_t n = 0; n + 1 < degree;) {
            uint8_t c = (uint8_t)draw_below(&d, K);
            int taken = c == chosen[degree - 1];
            for (uint32_t j = 0; j < n; j++) taken |= c == chosen[j];
            if (!taken) chosen[n++] = c;
        }
        for (int s = 0; s < FPL_LEXICON_SLOTS; s++)
            x->successor[cycle[i] * FPL_LEXICON_SLOTS + (uint32_t)s] = chosen[share[degree - 1][s]];
    }
}

/* pi of the chain; a[K*K] is scratch. */
static void stationary(const struct fpl_lexicon *x, double *a, double *pi) {
    size_t K = (size_t)x->classes;
    for (size_t i = 0; i < K * K; i++) a[i] = 0.0;
    for (size_t c = 0; c < K; c++)
        for (size_t s = 0; s < FPL_LEXICON_SLOTS; s++)
            a[c * K + x->successor[c * FPL_LEXICON_SLOTS + s]] += 1.0 / FPL_LEXICON_SLOTS;
    for (size_t n = K; n-- > 1;) {
        double leave = 0.0;
        for (size_t j = 0; j < n; j++) leave += a[n * K + j];
        for (size_t i = 0; i < n; i++) {
            a[i * K + n] /= leave;
            for (size_t j = 0; j < n; j++) a[i * K + j] += a[i * K + n] * a[n * K + j];
        }
    }
    double sum = pi[0] = 1.0;
    for (size_t n = 1; n < K; n++) {
        pi[n] = 0.0;
        for (size_t i = 0; i < n; i++) pi[n] += pi[i] * a[i * K + n];
        sum += pi[n];
    }
    for (size_t n = 0; n < K; n++) pi[n] /= sum;
}

static int build_chain(struct fpl_lexicon *x, uint64_t seed) {
    size_t K = (size_t)x->classes;
    x->successor = malloc(K * FPL_LEXICON_SLOTS);
    x->stationary = malloc(K * sizeof *x->stationary);
    double *scratch = malloc(K * K * sizeof *scratch);
    int done = x->successor != NULL && x->stationary != NULL && scratch != NULL;
    if (done) {
        build_successors(x, seed);
        stationary(x, scratch, x->stationary);
        done = fpl_alias_build(&x->start, x->stationary, (uint32_t)K);
    }
    free(scratch);
    return done;
}

/* ---- word probabilities ---------------------------------------------------------------- */

static int build_ranks(struct fpl_lexicon *x) {
    x->size[0] = x->words / x->classes;
    x->size[1] = x->size[0] + (x->words % x->classes != 0);
    for (int row = 0; row < 2; row++) {
        size_t n = (size_t)x->size[row];
        double *weight = malloc(n * sizeof *weight), sum = 0.0;
        x->log_rank[row] = malloc(n * sizeof *x->log_rank[row]);
        int done = weight != NULL && x->log_rank[row] != NULL;
        if (done) {
            for (size_t r = n; r-- > 0;) { /* smallest first: the sum loses least */
                x->log_rank[row][r] = -x->exponent * fpl_det_log((double)r + RANK_SHIFT);
                sum += weight[r] = fpl_det_exp(x->log_rank[row][r]);
            }
            double log_sum = fpl_det_log(sum);
            for (size_t r = 0; r < n; r++) x->log_rank[row][r] -= log_sum;
            done = fpl_alias_build(&x->rank[row], weight, (uint32_t)n);
        }
        free(weight);
        if (!done) return 0;
    }
    return 1;
}

/* ---- spelling -------------------------------------------------------------------------- */

struct speller {
    uint64_t seed;
    uint32_t letters;      /* V - 1 */
    uint32_t *scale, *add; /* [V] successor k of letter p is 1 + (scale[p] k + add[p]) mod letters */
    struct fpl_alias zipf; /* over k */
    uint32_t *slot;        /* open hash table of word ids + 1 */
    uint64_t slots;        /* a power of two, at least twice the words */
    uint64_t room;         /* of text */
    int shortest;          /* letters; grows when too many short words are taken */
};

static uint32_t common_divisor(uint32_t a, uint32_t b) {
    while (b != 0) {
        uint32_t r = a % b;
        a = b;
        b = r;
    }
    return a;
}

static int speller_open(struct speller *s, const struct fpl_lexicon *x, uint64_t seed) {
    size_t V = (size_t)x->vocab;
    s->seed = seed;
    s->letters = (uint32_t)x->vocab - 1;
    s->shortest = 1;
    for (s->slots = 64; s->slots < 2 * (uint64_t)x->words;) s->slots *= 2;
    s->scale = malloc(V * sizeof *s->scale);
    s->add = malloc(V * sizeof *s->add);
    s->slot = calloc(s->slots, sizeof *s->slot);
    double *weight = malloc(V * sizeof *weight);
    int done = s->scale != NULL && s->add != NULL && s->slot != NULL && weight != NULL;
    if (done) {
        struct draws d = {seed, 0, fpl_stream(FPL_STREAM_LEXICON, STREAM_LETTERS)};
        for (size_t p = 0; p < V; p++) {
            do s->scale[p] = 1 + draw_below(&d, s->letters);
            while (common_divisor(s->scale[p], s->letters) != 1);
            s->add[p] = draw_below(&d, s->letters);
        }
        for (uint32_t k = 0; k < s->letters; k++) weight[k] = 1.0 / ((double)(k + 1) * (double)(k + 1));
        done = fpl_alias_build(&s->zipf, weight, s->letters);
    }
    free(weight);
    return done;
}

static void speller_close(struct speller *s) {
    free(s->scale);
    free(s->add);
    free(s->slot);
    fpl_alias_free(&s->zipf);
}

static int letters_of(const struct speller *s, uint64_t word) {
    uint32_t block[4];
    fpl_random_block(s->seed, word, 0, fpl_stream(FPL_STREAM_LEXICON, STREAM_LENGTH), block);
    uint32_t magnitude = 0;
    while (word + 1 >= (uint64_t)2 << magnitude) magnitude++;
    int length = (int)(1 + (17 * magnitude + 2 * (block[0] >> 27)) / 32);
    return length < s->shortest ? s->shortest : length;
}

static void spell(const struct speller *s, uint64_t word, uint32_t attempt, int length, uint16_t *out) {
    uint32_t previous = 0, block[4] = {0};
    for (int i = 0; i < length; i++) {
        if (i % 2 == 0)
            fpl_random_block(s->seed, word, attempt << 8 | (uint32_t)i,
                             fpl_stream(FPL_STREAM_LEXICON, STREAM_SPELLING), block);
        const uint32_t *half = &block[i % 2 * 2];
        uint32_t k = fpl_alias_draw(&s->zipf, (uint64_t)half[1] << 32 | half[0]);
        previous = 1 + (uint32_t)(((uint64_t)s->scale[previous] * k + s->add[previous]) % s->letters);
        out[i] = (uint16_t)previous;
    }
    out[length] = 0;
}

/* Enters the word just written at text[offset[word]]; 0 if an earlier one is spelled so. */
static int enter(struct speller *s, const struct fpl_lexicon *x, uint32_t word, int length) {
    const uint16_t *text = x->text + x->offset[word];
    size_t bytes = ((size_t)length + 1) * sizeof *text;
    uint64_t i = XXH3_64bits(text, bytes) & (s->slots - 1);
    for (; s->slot[i] != 0; i = (i + 1) & (s->slots - 1)) {
        uint32_t other = s->slot[i] - 1, begin = x->offset[other];
        if ((x->offset[other + 1] - begin) * sizeof *text == bytes &&
            memcmp(x->text + begin, text, bytes) == 0)
            return 0;
    }
    s->slot[i] = word + 1;
    return 1;
}

static int build_words(struct fpl_lexicon *x, struct speller *s) {
    x->offset = malloc(((size_t)x->words + 1) * sizeof *x->offset);
    if (x->offset == NULL) return 0;
    x->offset[0] = 0;
    for (uint32_t word = 0; word < (uint32_t)x->words; word++) {
        uint64_t begin = x->offset[word];
        if (begin + MAX_LETTERS + 1 > s->room) {
            s->room = s->room * 3 / 2 + (uint64_t)x->words * 7 + 4096;
            uint16_t *text = realloc(x->text, s->room * sizeof *text);
            if (text == NULL) return 0;
            x->text = text;
        }
        int length = letters_of(s, word);
        for (uint32_t attempt = 0;; attempt++) {
            if (attempt > 0 && attempt % TRIES == 0 && length < MAX_LETTERS) s->shortest = ++length;
            spell(s, word, attempt, length, x->text + begin);
            if (enter(s, x, word, length)) break;
        }
        x->offset[word + 1] = (uint32_t)begin + (uint32_t)length + 1;
    }
    return 1;
}

/* ---- sorted order and prefix sums -------------------------------------------------------- */

struct sort_key {
    uint64_t head; /* the first four tokens, first one highest; 0 past the end */
    uint32_t word;
};

static int compare_keys(const void *left, const void *right, void *context) {
    const struct sort_key *a = left, *b = right;
    if (a->head != b->head) return a->head < b->head ? -1 : 1;
    const struct fpl_lexicon *x = context;
    const uint16_t *p = x->text + x->offset[a->word], *q = x->text + x->offset[b->word];
    while (*p == *q && *p != 0) p++, q++;
    return (*p > *q) - (*p < *q);
}

static int build_order(struct fpl_lexicon *x) {
    size_t W = (size_t)x->words;
    struct sort_key *key = malloc((size_t)x->size[1] * sizeof *key);
    x->order = malloc(W * sizeof *x->order);
    x->cumulative = malloc(W * sizeof *x->cumulative);
    int done = key != NULL && x->order != NULL && x->cumulative != NULL;
    for (int64_t c = 0; done && c < x->classes; c++) {
        int row = fpl_lexicon_row(x, c);
        size_t n = (size_t)x->size[row], base = (size_t)fpl_lexicon_base(x, c);
        for (size_t r = 0; r < n; r++) {
            key[r] = (struct sort_key){0, (uint32_t)((int64_t)r * x->classes + c)};
            const uint16_t *t = x->text + x->offset[key[r].word];
            for (int i = 0; i < 4; i++) {
                key[r].head = key[r].head << 16 | *t;
                t += *t != 0;
            }
        }
        qsort_r(key, n, sizeof *key, compare_keys, x);
        double sum = 0.0;
        for (size_t i = 0; i < n; i++) {
            sum += fpl_det_exp(x->log_rank[row][key[i].word / (uint32_t)x->classes]);
            x->order[base + i] = key[i].word;
            x->cumulative[base + i] = sum;
        }
    }
    free(key);
    return done;
}

/* ---- statistics ------------------------------------------------------------------------- */

static double chain_entropy(const struct fpl_lexicon *x) {
    double sum = 0.0;
    for (int64_t c = 0; c < x->classes; c++) {
        const uint8_t *slot = x->successor + c * FPL_LEXICON_SLOTS;
        for (int i = 0; i < FPL_LEXICON_SLOTS; i++) {
            int same = 0;
            for (int j = 0; j < FPL_LEXICON_SLOTS; j++) same += slot[i] == slot[j];
            sum -= x->stationary[c] / FPL_LEXICON_SLOTS * fpl_det_log((double)same / FPL_LEXICON_SLOTS);
        }
    }
    return sum;
}

static int build_statistics(struct fpl_lexicon *x) {
    double *tokens = calloc((size_t)x->vocab, sizeof *tokens); /* expected count per word */
    x->first = calloc((size_t)x->vocab, sizeof *x->first);
    if (tokens == NULL || x->first == NULL) {
        free(tokens);
        return 0;
    }
    double word_entropy = 0.0, mean_length = 0.0;
    for (int64_t word = x->words - 1; word >= 0; word--) {
        int64_t c = fpl_lexicon_class(x, word);
        double log_p = x->log_rank[fpl_lexicon_row(x, c)][word / x->classes];
        double p = x->stationary[c] * fpl_det_exp(log_p);
        word_entropy -= p * log_p;
        x->first[x->text[x->offset[word]]] += p;
        mean_length += p * (double)(x->offset[word + 1] - x->offset[word]);
        for (uint32_t i = x->offset[word]; i < x->offset[word + 1]; i++) tokens[x->text[i]] += p;
    }
    x->mean_length = mean_length;
    x->token_entropy = (chain_entropy(x) + word_entropy) / mean_length;
    for (int64_t t = 0; t < x->vocab; t++) {
        double p = tokens[t] / mean_length;
        if (p > 0.0) x->unigram_entropy -= p * fpl_det_log(p);
        x->first[t] = x->first[t] > 0.0 ? fpl_det_log(x->first[t]) : -__builtin_inf();
    }
    free(tokens);
    return 1;
}

enum fpl_code fpl_lexicon_build(struct fpl_lexicon *x, uint64_t seed, struct fpl_error *err) {
    struct speller s = {0};
    int done = build_chain(x, seed) && build_ranks(x) && speller_open(&s, x, seed) && build_words(x, &s);
    speller_close(&s);
    done = done && build_order(x) && build_statistics(x);
    if (done) return FPL_OK;
    return fpl_fail(err, FPL_SYSTEM, "data: out of memory for a lexicon of %lld words", (long long)x->words);
}

void fpl_lexicon_free(struct fpl_lexicon *x) {
    free(x->offset);
    free(x->text);
    free(x->successor);
    free(x->stationary);
    fpl_alias_free(&x->start);
    for (int row = 0; row < 2; row++) {
        free(x->log_rank[row]);
        fpl_alias_free(&x->rank[row]);
    }
    free(x->order);
    free(x->cumulative);
    free(x->first);
}
