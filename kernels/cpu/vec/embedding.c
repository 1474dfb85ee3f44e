/* embedding.c - rows of a table chosen by tokens, and the gradient of that choice.
 *
 *   forward    out[r, i, :] = table[r, tokens[r, i], :]
 *   backward   dtable[r, v, :] += sum over i with tokens[r, i] = v of dout[r, i, :]
 *
 * Backward adds one row at a time in increasing i, so each element of dtable is one chain of
 * additions that starts from its old value.  With several threads each takes a range of the
 * vocabulary and walks all tokens: the chains stay the same.  Token ids are trusted.
 */
#include "native.h"
#include "ops.h"
#include "parallel.h"

struct embedding {
    int64_t n, C, V, slices;
    const int32_t *tokens;
    const float *from;
    float *to;
};

enum { FORWARD_ROWS = 256 };

static void forward_tile(const void *job, int64_t tile, int thread) {
    (void)thread;
    const struct embedding *e = job;
    int64_t tiles = tiles_of(e->n, FORWARD_ROWS);
    int64_t r = tile / tiles, begin = (tile % tiles) * FORWARD_ROWS,
            end = smaller(begin + FORWARD_ROWS, e->n);
    const int32_t *tokens = e->tokens + r * e->n;
    const float *table = e->from + r * e->V * e->C;
    float *out = e->to + r * e->n * e->C;
    for (int64_t i = begin; i < end; i++) {
        const float *row = table + tokens[i] * e->C;
        float *to = out + i * e->C;
        int64_t c = 0;
        for (; c + NL <= e->C; c += NL) nstore(to + c, nload(row + c));
        if (c < e->C) nstore_n(to + c, nload_n(row + c, e->C - c), e->C - c);
    }
}

void FPL_VEC(embedding_forward)(struct fpl_device *dev, int R, int64_t n, int64_t C, int64_t V,
                                const int32_t *tokens, const float *table, float *out) {
    if (dev->error.code != FPL_OK) return;
    struct embedding e = {.n = n, .C = C, .V = V, .tokens = tokens, .from = table, .to = out};
    for_tiles(dev, R * tiles_of(n, FORWARD_ROWS), forward_tile, &e);
}

static void backward_slice(const void *job, int64_t tile, int thread) {
    (void)thread;
    const struct embedding *e = job;
    int64_t r = tile / e->slices, slice = tile % e->slices;
    int64_t low = e->V * slice / e->slices, high = e->V * (slice + 1) / e->slices;
    const int32_t *tokens = e->tokens + r * e->n;
    const float *dout = e->from + r * e->n * e->C;
    float *dtable = e->to + r * e->V * e->C;
    for (int64_t i = 0; i < e->n; i++) {
        if (tokens[i] < low || tokens[i] >= high) continue;
        const float *row = dout + i * e->C;
        float *to = dtable + tokens[i] * e->C;
        int64_t c = 0;
        for (; c + NL <= e->C; c += NL) nstore(to + c, nload(to + c) + nload(row + c));
        if (c < e->C) nstore_n(to + c, nload_n(to + c, e->C - c) + nload_n(row + c, e->C - c), e->C - c);
    }
}

void FPL_VEC(embedding_backward)(struct fpl_device *dev, int R, int64_t n, int64_t C, int64_t V,
                                 const int32_t *tokens, const float *dout, float *dtable) {
    if (dev->error.code != FPL_OK) return;
    struct embedding e = {
        .n = n, .C = C, .V = V, .slices = dev->threads, .tokens = tokens, .from = dout, .to = dtable};
    for_tiles(dev, R * e.slices, backward_slice, &e);
}
