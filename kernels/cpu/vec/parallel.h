/* parallel.h - a loop over fixed tiles, on the device's threads.
 *
 * Tiles are chosen by an operation's shape alone and write disjoint outputs (or partial sums
 * of their own, combined afterwards in tile order), so results do not depend on the number
 * of threads.  With one thread the loop is a plain loop: entering an OpenMP region costs more
 * than a norm over a small batch.
 *
 * `thread`, 0..threads-1, names the scratch that a tile may use; nothing else may depend on it.
 */
#ifndef FPL_VEC_PARALLEL_H
#define FPL_VEC_PARALLEL_H

#include <omp.h>

#include "../cpu.h"

typedef void (*fpl_tile_fn)(const void *job, int64_t tile, int thread);

static inline void for_tiles(const struct fpl_device *dev, int64_t tiles, fpl_tile_fn run, const void *job) {
    if (dev->threads > 1 && tiles > 1) {
#pragma omp parallel for num_threads(dev->threads) schedule(static)
        for (int64_t t = 0; t < tiles; t++) run(job, t, omp_get_thread_num());
        return;
    }
    for (int64_t t = 0; t < tiles; t++) run(job, t, 0);
}

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t tiles_of(int64_t n, int64_t tile) { return (n + tile - 1) / tile; }

#endif
