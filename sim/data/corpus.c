/* corpus.c - see corpus.h.
 *
 * Opening reads every file once from beginning to end: the fingerprint is of the content and
 * the frequencies give the unigram entropy, so a study can trust both.  That is a few
 * gigabytes a second.  A file that changes during this pass is refused; one that is cut
 * short while a run reads it is not provided for (the kernel then ends the process).
 */
#include "corpus.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "../../formats/random.h"
#include "../base/detmath.h"
#include "permute.h"

static const int64_t HELD_SHARE = 20, HELD_MAX = (int64_t)1 << 22;
enum { TOKENS = 65536, SCAN = 1 << 20 };

/* ---- files ------------------------------------------------------------------------------ */

/* 1: not what it was when it was opened. */
static int changed(int fd, const struct stat *before) {
    struct stat now;
    return fstat(fd, &now) != 0 || now.st_size != before->st_size ||
           now.st_mtim.tv_sec != before->st_mtim.tv_sec || now.st_mtim.tv_nsec != before->st_mtim.tv_nsec;
}

static enum fpl_code map_file(struct fpl_segment *s, int *fd, struct stat *st, struct fpl_error *err) {
    /* Not blocking: opening a pipe would wait for a writer. */
    *fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0) {
        enum fpl_code code = errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG || errno == ELOOP
                                 ? FPL_INVALID
                                 : FPL_SYSTEM;
        return fpl_fail(err, code, "data: %s: cannot be opened: %s", s->path, strerror(errno));
    }
    if (fstat(*fd, st) != 0)
        return fpl_fail(err, FPL_SYSTEM, "data: %s: cannot be read: %s", s->path, strerror(errno));
    if (!S_ISREG(st->st_mode))
        return fpl_fail(err, FPL_INVALID, "data: %s: is %s, a file is expected", s->path,
                        S_ISDIR(st->st_mode) ? "a directory" : "a device or a pipe");
    if (st->st_size == 0) return fpl_fail(err, FPL_INVALID, "data: %s: is empty", s->path);
    void *map = mmap(NULL, (size_t)st->st_size, PROT_READ, MAP_PRIVATE, *fd, 0);
    if (map == MAP_FAILED)
        return fpl_fail(err, FPL_SYSTEM, "data: %s: cannot be mapped: %s", s->path, strerror(errno));
    s->map = map;
    s->map_size = (size_t)st->st_size;
    return FPL_OK;
}

/* ---- the one pass over the content -------------------------------------------------------- */

struct census {
    XXH3_state_t *hash;
    uint8_t *block; /* [SCAN] */
    uint64_t
        *seen[2]; /* [TOKENS] each, by turns: a run of equal tokens then waits for its count half as often */
};

static void count_block(struct census *n, size_t size, int width) {
    const uint8_t *p = n->block;
    if (width == 1)
        for (size_t i = 0; i < size; i++) n->seen[i & 1][p[i]]++;
    else
        for (size_t i = 0; i < size; i += 2) n->seen[i >> 1 & 1][(unsigned)p[i] | (unsigned)p[i + 1] << 8]++;
}

/* Reads instead of looking at the map: a file that shrinks or a disk that fails then gives an
 * error, not a signal, and page tables stay small.  begin: of the tokens in the file. */
static enum fpl_code take_census(struct census *n, const struct fpl_segment *s, int width, int fd,
                                 size_t begin, struct fpl_error *err) {
    size_t size = (size_t)s->count * (size_t)width;
    for (size_t at = 0; at < size;) {
        size_t part = size - at < SCAN ? size - at : SCAN, have = 0;
        while (have < part) {
            ssize_t got = pread(fd, n->block + have, part - have, (off_t)(begin + at + have));
            if (got < 0 && errno == EINTR) continue;
            if (got < 0)
                return fpl_fail(err, FPL_SYSTEM, "data: %s: cannot be read: %s", s->path, strerror(errno));
            if (got == 0)
                return fpl_fail(err, FPL_INVALID, "data: %s: became shorter while it was read", s->path);
            have += (size_t)got;
        }
        XXH3_128bits_update(n->hash, n->block, part);
        count_block(n, part, width);
        at += part;
    }
    return FPL_OK;
}

static int64_t token_at(const struct fpl_segment *s, int64_t i, int width) {
    return width == 1 ? s->tokens[i] : s->tokens[2 * i] | s->tokens[2 * i + 1] << 8;
}

static enum fpl_code token_out_of_range(const struct fpl_corpus *c, int64_t vocab, struct fpl_error *err) {
    for (size_t k = 0; k < c->segments; k++)
        for (int64_t i = 0; i < c->segment[k].count; i++)
            if (token_at(&c->segment[k], i, c->width) >= vocab)
                return fpl_fail(err, FPL_INVALID,
                                "data: %s: token %lld (counted from 0) is %lld; accepted is below %lld",
                                c->segment[k].path, (long long)i,
                                (long long)token_at(&c->segment[k], i, c->width), (long long)vocab);
    return fpl_fail(err, FPL_INVALID, "data: %s: changed while it was read", c->segment[0].path);
}

/* Vocabulary, unigram entropy and fingerprint from the finished census. */
static enum fpl_code conclude(struct fpl_data *d, struct census *n, int64_t vocab, struct fpl_error *err) {
    const struct fpl_corpus *c = d->state;
    int64_t used = 1;
    for (int64_t t = 0; t < TOKENS; t++) {
        uint64_t seen = n->seen[0][t] + n->seen[1][t];
        if (seen == 0) continue;
        double p = (double)seen / (double)c->count;
        d->info.unigram_entropy -= p * fpl_det_log(p);
        used = t + 1;
    }
    if (vocab != 0 && used > vocab) return token_out_of_range(c, vocab, err);
    d->info.vocab = vocab != 0 ? vocab : used < 2 ? 2 : used;
    d->info.entropy_rate = __builtin_nan("");
    uint8_t seal[8];
    for (int i = 0; i < 8; i++) seal[i] = (uint8_t)((uint64_t)d->info.vocab >> 8 * i);
    XXH3_128bits_update(n->hash, seal, sizeof seal);
    XXH128_canonical_t digest;
    XXH128_canonicalFromHash(&digest, XXH3_128bits_digest(n->hash));
    int at = snprintf(d->info.fingerprint, sizeof d->info.fingerprint, "%s:", d->kind->name);
    for (size_t i = 0; i < sizeof digest.digest; i++)
        at += snprintf(d->info.fingerprint + at, sizeof d->info.fingerprint - (size_t)at, "%02x",
                       digest.digest[i]);
    return FPL_OK;
}

static enum fpl_code split(struct fpl_data *d, struct fpl_error *err) {
    struct fpl_corpus *c = d->state;
    int64_t T = d->seq, held = c->count / HELD_SHARE;
    if (held > HELD_MAX) held = HELD_MAX;
    if (held < T + 1) held = T + 1;
    if (c->count < held + T + 1)
        return fpl_fail(
            err, FPL_INVALID,
            "data: %s%s: %lld tokens; a training and a held-out sequence of %lld tokens and one target "
            "need at least %lld",
            c->segment[0].path, c->segments > 1 ? " and further files" : "", (long long)c->count,
            (long long)T, (long long)(2 * (T + 1)));
    c->held_start = c->count - held;
    c->train_chunks = (c->held_start - 1) / T;
    c->held_chunks = (held - 1) / T;
    d->info.train_tokens = c->train_chunks * T;
    d->info.held_tokens = c->held_chunks * T;
    return FPL_OK;
}

/* ---- opening ----------------------------------------------------------------------------- */

static enum fpl_code add_segment(struct fpl_corpus *c, const char *path, size_t length, fpl_locate *locate,
                                 struct census *n, struct fpl_error *err) {
    if (length == 0)
        return fpl_fail(err, FPL_INVALID, "data: an empty file name; files are separated by single colons");
    struct fpl_segment *s = &c->segment[c->segments];
    *s = (struct fpl_segment){.path = strndup(path, length)};
    if (s->path == NULL) return fpl_fail(err, FPL_SYSTEM, "data: out of memory");
    c->segments++;
    int fd = -1;
    struct stat st;
    enum fpl_code code = map_file(s, &fd, &st, err);
    size_t begin = 0;
    if (code == FPL_OK) {
        code = locate(s->map, s->map_size, &begin, &s->count, err);
        if (code != FPL_OK) fpl_fail_at(err, "data: %s", s->path);
    }
    if (code == FPL_OK) {
        s->tokens = s->map + begin;
        s->start = c->count;
        c->count += s->count;
        code = take_census(n, s, c->width, fd, begin, err);
    }
    if (code == FPL_OK && changed(fd, &st))
        code = fpl_fail(err, FPL_INVALID, "data: %s: changed while it was read; wait until it is complete",
                        s->path);
    if (fd >= 0) close(fd);
    return code;
}

static enum fpl_code add_files(struct fpl_corpus *c, const char *files, fpl_locate *locate, struct census *n,
                               struct fpl_error *err) {
    size_t count = 1;
    for (const char *p = files; *p != '\0'; p++) count += *p == ':';
    c->segment = malloc(count * sizeof *c->segment);
    if (c->segment == NULL) return fpl_fail(err, FPL_SYSTEM, "data: out of memory");
    enum fpl_code code = FPL_OK;
    for (size_t i = 0; code == FPL_OK && i < count; i++) {
        size_t length = strcspn(files, ":");
        code = add_segment(c, files, length, locate, n, err);
        files += length + 1;
    }
    return code;
}

enum fpl_code fpl_corpus_open(struct fpl_data *d, const char *files, int width, int64_t vocab,
                              fpl_locate *locate, struct fpl_error *err) {
    struct fpl_corpus *c = d->state = calloc(1, sizeof *c);
    struct census n = {XXH3_createState(), malloc(SCAN), {calloc(TOKENS, 8), calloc(TOKENS, 8)}};
    enum fpl_code code = FPL_OK;
    if (c == NULL || n.hash == NULL || n.block == NULL || n.seen[0] == NULL || n.seen[1] == NULL)
        code = fpl_fail(err, FPL_SYSTEM, "data: out of memory");
    if (code == FPL_OK) {
        XXH3_128bits_reset(n.hash);
        c->width = width;
        code = add_files(c, files, locate, &n, err);
    }
    if (code == FPL_OK) code = split(d, err);
    if (code == FPL_OK) code = conclude(d, &n, vocab, err);
    XXH3_freeState(n.hash);
    free(n.block);
    free(n.seen[0]);
    free(n.seen[1]);
    return code;
}

void fpl_corpus_close(struct fpl_data *d) {
    struct fpl_corpus *c = d->state;
    if (c == NULL) return;
    for (size_t k = 0; k < c->segments; k++) {
        if (c->segment[k].map != NULL) munmap(c->segment[k].map, c->segment[k].map_size);
        free(c->segment[k].path);
    }
    free(c->segment);
    free(c);
}

/* ---- sequences ---------------------------------------------------------------------------- */

/* Tokens at, at + 1, ... of the stream into out[n]; all exist. */
static void read_tokens(const struct fpl_corpus *c, int64_t at, int64_t n, int32_t *out) {
    size_t low = 0, high = c->segments; /* the last segment that starts at or before `at` */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (c->segment[middle].start <= at)
            low = middle;
        else
            high = middle;
    }
    while (n > 0) {
        const struct fpl_segment *s = &c->segment[low++];
        int64_t begin = at - s->start, part = s->count - begin < n ? s->count - begin : n;
        for (int64_t i = 0; i < part; i++) out[i] = (int32_t)token_at(s, begin + i, c->width);
        out += part;
        at += part;
        n -= part;
    }
}

static void read_sequence(const struct fpl_corpus *c, int64_t at, int64_t T, int32_t *inputs,
                          int32_t *targets) {
    read_tokens(c, at, 1, inputs);
    read_tokens(c, at + 1, T, targets);
    memcpy(inputs + 1, targets, (size_t)(T - 1) * sizeof *inputs);
}

void fpl_corpus_train(const struct fpl_data *d, uint64_t seed, int64_t step, int64_t batch_sequences,
                      int64_t first, int64_t count, int32_t *inputs, int32_t *targets) {
    const struct fpl_corpus *c = d->state;
    uint64_t chunks = (uint64_t)c->train_chunks;
    for (int64_t i = 0; i < count; i++) {
        uint64_t g = (uint64_t)step * (uint64_t)batch_sequences + (uint64_t)(first + i);
        uint64_t chunk =
            fpl_permute(g % chunks, chunks, seed, (uint32_t)(g / chunks), fpl_stream(FPL_STREAM_ORDER, 0));
        read_sequence(c, (int64_t)chunk * d->seq, d->seq, inputs + i * d->seq, targets + i * d->seq);
    }
}

int64_t fpl_corpus_held_out(const struct fpl_data *d, int64_t first, int64_t count, int32_t *inputs,
                            int32_t *targets, double *oracle) {
    const struct fpl_corpus *c = d->state;
    int64_t rest = first < c->held_chunks ? c->held_chunks - first : 0;
    if (count > rest) count = rest;
    for (int64_t i = 0; i < count; i++) {
        uint64_t chunk = fpl_permute((uint64_t)(first + i), (uint64_t)c->held_chunks, d->data_seed, 0,
                                     fpl_stream(FPL_STREAM_EVAL, 16));
        read_sequence(c, c->held_start + (int64_t)chunk * d->seq, d->seq, inputs + i * d->seq,
                      targets + i * d->seq);
        if (oracle != NULL) oracle[i] = __builtin_nan("");
    }
    return count;
}
