/* cross_entropy.c - softmax, loss in nats and gradient in one pass over groups of rows.
 *
 *   m = max x,  z = sum exp(x_v - m),  loss = log z + (m - x_target)
 *   dlogits = exp(x_v - m) (scale / z),  less scale at the target
 *
 * Order of the sum z: along a row, chunks of 1024 columns; inside a chunk one vector
 * accumulator in float32 and the lane tree of vsum(); chunks add up in double.  The loss is
 * double (vlog, one per row).  The exponentials are kept in dlogits until z is known, which
 * is why dlogits may be logits: targets' logits are read first.
 *
 * A NaN anywhere in a row makes its sum NaN, so the loss shows it; so does +infinity.
 * -infinity is a token that cannot occur.
 */
#include "ops.h"
#include "parallel.h"
#include "rows.h"
#include "vexp.h"

enum { TILE_ROWS = 64, CHUNK = 1024 };

struct cross_entropy {
    int64_t n, V, group;
    const float *logits;
    const int32_t *targets;
    double scale, *loss;
    float *dlogits;
};

/* Lanes of one row's maximum; no NaN gets into them. */
VINLINE void row_max(const float *x, int64_t V, float *lanes) {
    nf m[PER];
    UNROLL(4)
    for (int p = 0; p < PER; p++) m[p] = nset(-INFINITY);
    int64_t v = 0;
    for (; v + 16 <= V; v += 16) {
        UNROLL(4)
        for (int p = 0; p < PER; p++) m[p] = nmax(nload(x + v + p * NL), m[p]);
    }
    UNROLL(4)
    for (int p = 0; p < PER; p++) nstore(lanes + p * NL, m[p]);
    for (int64_t i = v; i < V; i++)
        if (x[i] > lanes[i - v]) lanes[i - v] = x[i];
}

/* Lanes of the sum of exp(x - m) over one chunk; the exponentials go to e if it is given. */
VINLINE void chunk_sum(const float *x, float *e, float m, int64_t columns, float *lanes) {
    nf sum[PER];
    UNROLL(4)
    for (int p = 0; p < PER; p++) sum[p] = nset(0.0f);
    int64_t v = 0;
    for (; v + 16 <= columns; v += 16) {
        UNROLL(4)
        for (int p = 0; p < PER; p++) {
            nf y = nexp_below(nload(x + v + p * NL) - nset(m));
            if (e != NULL) nstore(e + v + p * NL, y);
            sum[p] += y;
        }
    }
    for (int p = 0; p < PER && v < columns; p++) {
        const int64_t n = columns - v - p * NL;
        float y[NL];
        nstore(y, nexp_below(nload_n(x + v + p * NL, n) - nset(m)));
        if (e != NULL) nstore_n(e + v + p * NL, nload_n(y, n), n);
        sum[p] += nload_n(y, n);
    }
    UNROLL(4)
    for (int p = 0; p < PER; p++) nstore(lanes + p * NL, sum[p]);
}

/* z of each row of a group */
VINLINE void group_sums(const struct cross_entropy *p, int64_t row, int64_t rows, const float *m, double *z) {
    for (int i = 0; i < ROWS; i++) z[i] = 0.0;
    for (int64_t v = 0; v < p->V; v += CHUNK) {
        float lanes[ROWS * 16], sums[ROWS];
        for (int64_t i = 0; i < rows; i++) {
            int64_t at = (row + i) * p->V + v;
            float *e = p->dlogits != NULL ? p->dlogits + at : NULL;
            chunk_sum(p->logits + at, e, m[i], smaller(CHUNK, p->V - v), lanes + i * 16);
        }
        fill_rows(lanes, (int)rows, 0.0f);
        sum_rows(lanes, sums);
        for (int i = 0; i < ROWS; i++) z[i] += (double)sums[i];
    }
}

static void gradient_row(float *d, int64_t V, float factor, int32_t target, float scale) {
    int64_t v = 0;
    for (; v + NL <= V; v += NL) nstore(d + v, nload(d + v) * nset(factor));
    if (v < V) nstore_n(d + v, nload_n(d + v, V - v) * nset(factor), V - v);
    d[target] -= scale;
}

static void group(const struct cross_entropy *p, int64_t row, int64_t rows) {
    float maxima[ROWS * 16], m[ROWS];
    double z[ROWS], log_z[ROWS];
    for (int64_t i = 0; i < rows; i++) row_max(p->logits + (row + i) * p->V, p->V, maxima + i * 16);
    fill_rows(maxima, (int)rows, 0.0f);
    max_rows(maxima, m);
    for (int64_t i = 0; i < rows; i++)
        p->loss[row + i] = (double)m[i] - (double)p->logits[(row + i) * p->V + p->targets[row + i]];
    group_sums(p, row, rows, m, z);
    for (int i = 0; i < ROWS; i += 8) vstored(log_z + i, vlog(vloadd(z + i)));
    for (int64_t i = 0; i < rows; i++) p->loss[row + i] += log_z[i];
    if (p->dlogits == NULL) return;
    for (int64_t i = 0; i < rows; i++)
        gradient_row(p->dlogits + (row + i) * p->V, p->V, (float)(p->scale / z[i]), p->targets[row + i],
                     (float)p->scale);
}

static void tile_rows(const void *job, int64_t tile, int thread) {
    (void)thread;
    const struct cross_entropy *p = job;
    int64_t begin = tile * TILE_ROWS, end = smaller(begin + TILE_ROWS, p->n);
    for (int64_t i = begin; i < end; i += p->group) group(p, i, smaller(p->group, end - i));
}

void FPL_VEC(cross_entropy)(struct fpl_device *dev, int R, int64_t n, int64_t V, const float *logits,
                            const int32_t *targets, double scale, double *loss, float *dlogits) {
    if (dev->error.code != FPL_OK) return;
    /* Groups stay in the first cache level; rows are independent, so the group size is free. */
    struct cross_entropy p = {.n = R * n,
                              .V = V,
                              .group = V <= CHUNK / 2 ? ROWS : 1,
                              .logits = logits,
                              .targets = targets,
                              .scale = scale,
                              .loss = loss,
                              .dlogits = dlogits};
    for_tiles(dev, tiles_of(p.n, TILE_ROWS), tile_rows, &p);
}
