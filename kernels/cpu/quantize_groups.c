/* quantize_groups.c - quantizers that the vector kernels do not restate, group by group.
 *
 * Zero points and searched scales (formats/quantizer.h: +z, +mse, +46) look at a group more
 * than once.  Groups are independent, so tiles of them run in parallel through the scalar
 * definition: the same bits whatever the number of threads, at scalar speed.
 */
#include "cpu.h"

#include "vec/parallel.h"

/* Elements of a tile, so that a tile outweighs the cost of handing it out. */
enum { TILE_ELEMENTS = 8192 };

struct grouped {
    const struct fpl_quantizer_plan *plan;
    const struct fpl_random_at *at;
    int64_t rows, cols, row_stride, col_stride, groups, per_tile;
    const float *x;
    float *out, s_enc;
    int64_t *nonfinite;
};

static void groups_tile(const void *job, int64_t tile, int thread) {
    (void)thread;
    const struct grouped *g = job;
    const int64_t first = tile * g->per_tile, count = smaller(g->per_tile, g->groups - first);
    const int64_t bad = fpl_quantize_groups(g->plan, g->rows, g->cols, g->row_stride, g->col_stride, g->x,
                                            g->out, NULL, g->at, g->s_enc, first, count);
    if (bad != 0) __atomic_fetch_add(g->nonfinite, bad, __ATOMIC_RELAXED);
}

int64_t fpl_cpu_quantize_groups(struct fpl_device *dev, const struct fpl_quantizer_plan *plan,
                                const struct fpl_random_at *at, int64_t rows, int64_t cols,
                                int64_t row_stride, int64_t col_stride, const float *x, float *out) {
    int64_t group_rows, group_cols, nonfinite = 0;
    if (rows <= 0 || cols <= 0) return 0;
    fpl_quantizer_group_shape(plan, rows, cols, &group_rows, &group_cols);
    struct grouped g = {.plan = plan,
                        .at = at,
                        .rows = rows,
                        .cols = cols,
                        .row_stride = row_stride,
                        .col_stride = col_stride,
                        .groups = fpl_quantizer_groups(plan, rows, cols),
                        .x = x,
                        .out = out,
                        .nonfinite = &nonfinite};
    g.s_enc = fpl_quantize_tensor_scale(plan, rows, cols, row_stride, col_stride, x);
    g.per_tile = tiles_of(TILE_ELEMENTS, group_rows * group_cols);
    for_tiles(dev, tiles_of(g.groups, g.per_tile), groups_tile, &g);
    return nonfinite;
}
