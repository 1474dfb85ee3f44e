/* sweep.h - a quantizer over tensors of any size, tile by tile.
 *
 * What comes out is what fpl_quantize_reference gives for the whole tensor seen as rows x cols,
 * bit for bit, random bits of element (i, j) at index i cols + j; memory stays the same from
 * megabytes to terabytes.
 *
 * Tiles are contiguous runs of the tensor: whole rows, or a piece of one row.  Where the groups
 * of one scale are small, a tile holds whole groups and nothing else is needed.  Where a group
 * is larger than a tile (a tensor, a column, a long row), or the scale depends on the whole
 * tensor (two levels), the tensor is read once before, and the amax that was found goes to
 * the kernel as a witness: an extra element beside the tile's, in the same group, whose own
 * result is thrown away.  A scale is a function of its group's amax, so it comes out the same.
 * Rules for which that is not so (least squares, zero points) get whole groups, in memory.
 *
 * Determinism: tiles follow from shape, quantizer and limits alone; parts are merged in the
 * order of tiles.  Results do not depend on threads.
 */
#ifndef FPL_SWEEP_H
#define FPL_SWEEP_H

#include <signal.h>
#include <stdint.h>

#include "../../formats/measure.h"
#include "../../kernels/kernels.h"
#include "tensor.h"

/* Floats: what a tile should have, and what it may have where its groups ask for more. */
struct fpl_tile_limits {
    int64_t tile, local;
};
extern const struct fpl_tile_limits fpl_tile_limits; /* 2^16 and 2^22 */

struct fpl_schedule {
    int64_t rows, cols;             /* as swept: one row where the shape does not matter */
    int64_t group_rows, group_cols; /* of a whole group */
    int witness;                    /* groups are larger than tiles: bands are read twice */
    int tensor_amax;                /* the scale needs the whole tensor's amax as well */
    int64_t band_rows;              /* no tile lies in two bands of rows, */
    int64_t span_cols;              /* or in two spans of columns */
    int64_t tile_rows, tile_cols;   /* of a whole tile */
    int64_t bands, tiles_of_band;   /* of a whole band */
    int64_t across;                 /* tiles side by side */
};

struct fpl_tile {
    int64_t row, rows, col, cols; /* cols == the schedule's, or rows == 1 */
};

/* keep_rows: rows stay rows even where the groups do not ask for it, and pieces of a row begin
 * at multiples of 8 columns, so that packed codes of a tile are whole bytes. */
void fpl_schedule_make(const struct fpl_quantizer_plan *plan, int64_t rows, int64_t cols, int keep_rows,
                       const struct fpl_tile_limits *limits, struct fpl_schedule *s);
int64_t fpl_schedule_tiles(const struct fpl_schedule *s, int64_t band); /* of this band */
struct fpl_tile fpl_schedule_tile(const struct fpl_schedule *s, int64_t band, int64_t k);

/* Packed codes of a tensor: see codes.h. */
struct fpl_code_layout;

/* What to do with one tensor. */
struct fpl_sweep {
    const struct fpl_container *in;
    const struct fpl_tensor *tensor;
    int64_t rows, cols; /* how it is seen: rows x cols == tensor->elements */
    const struct fpl_quantizer *quantizer;
    uint64_t seed;
    int threads;
    const volatile sig_atomic_t *stop;    /* not 0: give up with FPL_STOPPED; NULL: never */
    const struct fpl_tile_limits *limits; /* NULL: fpl_tile_limits */
    /* Dequantized values in the tensor's own dtype go to `out` (NULL: nowhere) from out_at on;
     * to a direct writer in order. */
    struct fpl_writer *out;
    uint64_t out_at;
    /* Codes and scales (NULL: none); the writer must not be direct. */
    const struct fpl_code_layout *codes;
    /* Where to, at the end of every tile; share of all elements done.  May be NULL. */
    void (*progress)(void *context, int64_t elements);
    void *context;
};

struct fpl_swept {
    struct fpl_measure measure;
    struct fpl_exponents *exponents; /* the caller's, added to; NULL: not counted */
    int64_t changed;                 /* dequantized values that the container's dtype rounds */
};

enum fpl_code fpl_sweep_run(const struct fpl_sweep *s, struct fpl_swept *out, struct fpl_error *err);

#endif
