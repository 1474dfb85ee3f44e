/* accumulate_tile.h - the tiles of sums that are rounded at every product: TILE rows by one unit
 * of sixteen columns, in registers over a whole chunk; chunks are added to sums in memory. */
#ifndef FPL_VEC_ACCUMULATE_TILE_H
#define FPL_VEC_ACCUMULATE_TILE_H

#include "accumulate.h"

enum { TILE = 8 };

struct sum_tile {
    const float *a[TILE];
    int64_t a_col, b_row;
    const float *b;
    int64_t row[TILE], col, k; /* of the first element, in the job */
};

/* The finished tile from its chunks; `chunk_fn` leaves acc of products [k, k + n). */
static inline void add_chunk(const nf acc[TILE][16 / NL], int rows, float *out, int64_t width, int first) {
    for (int i = 0; i < rows; i++) {
        for (int p = 0; p < 16 / NL; p++) {
            float *at = out + i * width + p * NL;
            nstore(at, first ? acc[i][p] : nload(at) + acc[i][p]);
        }
    }
}

typedef int (*chunk_fn)(const struct sum_band *p, const struct sum_tile *t, int64_t n, nf acc[TILE][16 / NL]);

/* Every tile of the band: rows in groups of TILE, the last one filled with its last row again. */
VINLINE void each_tile(const struct sum_band *p, const chunk_fn run) {
    const struct fpl_sum_job *job = p->job;
    const int64_t width = 16 * p->units, K = job->K, chunk = job->plan->chunk > 0 ? job->plan->chunk : K;
    for (int unit = 0; unit < p->units; unit++) {
        for (int64_t i = 0; i < p->rows; i += TILE) {
            const int rows = p->rows - i < TILE ? (int)(p->rows - i) : TILE;
            float *out = p->out + i * width + 16 * unit;
            int good = 1;
            for (int64_t k = 0; good && (k < K || k == 0); k += chunk) {
                nf acc[TILE][16 / NL];
                struct sum_tile t = {.a_col = job->a_col,
                                     .b_row = width,
                                     .b = p->b + k * width + 16 * unit,
                                     .col = p->col + 16 * unit,
                                     .k = k};
                for (int r = 0; r < TILE; r++) {
                    t.row[r] = p->first + i + (r < rows ? r : rows - 1);
                    t.a[r] = job->a + t.row[r] * job->a_row + k * job->a_col;
                }
                good = run(p, &t, K - k < chunk ? K - k : chunk, acc);
                /* 0 + acc gives +0 for an accumulator of -0, as the float32 sum does. */
                if (good && job->plan->chunk > 0 && k == 0)
                    for (int r = 0; r < rows; r++)
                        for (int q = 0; q < 16 / NL; q++) acc[r][q] = nset(0.0f) + acc[r][q];
                if (good) add_chunk((const nf(*)[16 / NL]) acc, rows, out, width, k == 0);
                if (chunk == 0) break;
            }
            if (!good) sum_again(p, i, rows, unit);
        }
    }
}

#endif
