/* sweep_internal.h - what the parts of a sweep share (sweep.h).
 *
 * sim/tensor/sweep.c        rounds of tiles, threads, results in order
 * sim/tensor/sweep_tile.c   one tile: its operand and witnesses, scales, what is clipped
 * sim/tensor/sweep_codes.c  the tile's packed elements and scales
 * sim/tensor/amax.c         largest magnitudes
 *
 * Witnesses.  Beside a tile of r rows and c columns the operand holds, where groups are larger
 * than tiles, one more row with each group's amax in the group's first column, and where the
 * scale is of two levels a row (or, beside a single row of small blocks, a block) with the
 * tensor's amax, which is a group by itself.
 */
#ifndef FPL_SWEEP_INTERNAL_H
#define FPL_SWEEP_INTERNAL_H

#include "codes.h"
#include "sweep.h"

struct sweep_job {
    const struct fpl_sweep *s;
    const struct fpl_tile_limits *limits;
    struct fpl_schedule schedule;
    struct fpl_quantizer_plan plan;
    int scaled;        /* groups have scales */
    int64_t room;      /* floats of a worker's operand */
    float tensor_amax; /* two levels, or one scale for everything: known beforehand */
    float *band_amax;  /* witness: of the groups of the present band, side by side */
    int64_t band_groups;
    uint8_t *held; /* tiles of a round, for a direct writer; else NULL */
    size_t held_bytes;
    int64_t held_tiles;
    struct fpl_swept *result;
    struct fpl_error error; /* of the first tile that failed */
    int failed;
};

/* One thread's. */
struct sweep_worker {
    const struct fpl_kernels *k;
    struct fpl_device *dev;
    float *x, *out;                /* device memory; the CPU's is the host's */
    float *amax;                   /* of a tile's groups */
    struct fpl_group_scale *scale; /* the same groups */
    float s_enc;                   /* of the tensor, two levels */
    float tensor_amax, *band_amax; /* of what this thread read in a first pass */
    struct fpl_exponents *exponents;
    uint32_t *codes;
    uint8_t *bytes;
};

/* The operand that the kernel sees: the tile and its witnesses. */
struct sweep_operand {
    struct fpl_quantizer_plan plan;
    int64_t rows, cols;
};

/* Blocks of `by` that cover n. */
static inline int64_t sweep_divide_up(int64_t n, int64_t by) { return n == 0 ? 0 : (n - 1) / by + 1; }

/* Of the tile's first element in its tensor. */
static inline int64_t sweep_element(const struct sweep_job *j, const struct fpl_tile *t) {
    return t->row * j->schedule.cols + t->col;
}

/* amax.c: largest finite magnitudes of a stretch; element by element, amax[i] = max(amax[i], |x[i]|); of the
 * groups of group_rows x group_cols of a matrix, group rows outermost. */
float sweep_amax(int64_t n, const float *x);
void sweep_raise_amax(int64_t n, const float *x, float *amax);
void sweep_groups_amax(int64_t rows, int64_t cols, int64_t group_rows, int64_t group_cols, const float *x,
                       float *amax);

/* sweep_tile.c.  operand: of a tile already in x; writes witnesses behind it.  scales: of the tile's groups
 * into the worker's; returns how many there are, across side by side.  clipped: elements beyond the
 * largest value. */
struct sweep_operand sweep_tile_operand(const struct sweep_job *j, const struct fpl_tile *t, float *x);
void sweep_tile_quantize(const struct sweep_worker *w, const struct sweep_operand *o, uint64_t seed,
                         uint64_t element, const float *x, float *out);
int64_t sweep_tile_scales(const struct sweep_job *j, const struct fpl_tile *t, const struct sweep_operand *o,
                          struct sweep_worker *w, int64_t *across);
int64_t sweep_tile_clipped(const struct sweep_job *j, const struct fpl_tile *t, const struct sweep_worker *w,
                           int64_t groups, int64_t across);

/* Calls `each` for every stretch of a row within one group. */
typedef void sweep_stretch(const struct sweep_job *j, const struct fpl_group_scale *g, int64_t n, float *x,
                           void *to);
void sweep_for_stretches(const struct sweep_job *j, const struct fpl_tile *t, const struct sweep_worker *w,
                         int64_t across, sweep_stretch *each, void *to);

/* sweep_codes.c: the tile's scales and packed elements to the writer; x and out are used up. */
enum fpl_code sweep_write_codes(const struct sweep_job *j, const struct fpl_tile *t, struct sweep_worker *w,
                                struct fpl_error *err);

#endif
