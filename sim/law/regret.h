/* regret.h - how much loss a learning-rate and batch law gives away on a grid of runs.
 *
 * A cell is an exactly equal (N, D); all its runs with a loss count, diverged ones included.
 * x = round(2 log2 lr)/2 (spellings of one level fall together), y = log2 batch_tokens.
 *
 *   nearest    loss of the existing run nearest to the law's (x, y), over the least of the cell,
 *              minus 1.  Euclidean in octaves; ties to the lower x, then the lower y.
 *   smoothed   a quartic in (x, y), least squares of ln loss over the runs within 3 % of the
 *              least, at the law's point, minus its minimum over points within 0.55 octave of
 *              a run that is within 1.5 %.  NaN where the cell has too few runs for a quartic.
 *
 * Nearest-grid regret has a floor: the least of a cell is also the luckiest run.  A law that knew
 * the truth would pay it too; fpl_grid_perfect says how much.
 */
#ifndef FPL_REGRET_H
#define FPL_REGRET_H

#include "law.h"

struct fpl_grid; /* cells of a table, in ascending (N, D) */

struct fpl_grid_cell {
    double N, D;
    size_t runs, near;       /* all with a loss; within 3 % of the least */
    double least;            /* loss, nats per token */
    double lr, batch_tokens; /* minimum of the quartic; NaN: none */
    double noise;            /* robust scale of ln loss around the quartic; NaN: none */
};

/* FPL_INVALID where no run has loss, lr and batch_tokens. Free with fpl_grid_free. */
enum fpl_code fpl_grid_new(const struct fpl_runs *runs, struct fpl_grid **out, struct fpl_error *err);
void fpl_grid_free(struct fpl_grid *grid);
size_t fpl_grid_cells(const struct fpl_grid *grid);
struct fpl_grid_cell fpl_grid_cell(const struct fpl_grid *grid, size_t i);

#define FPL_OFF_GRID 0.75 /* octaves to the nearest run beyond which a prediction is off the grid */

struct fpl_regret {
    double nearest, smoothed; /* shares of the loss; smoothed in ln loss */
    double distance;          /* octaves to the nearest run */
};
struct fpl_regret fpl_grid_regret(const struct fpl_grid *grid, size_t cell, double lr, double batch_tokens);

/* Nearest-grid regret, mean over cells, of a law that is right about every quartic's minimum, when
 * the runs were made again with the estimated noise (median over cells): mean over `draws` tables
 * and its interval at `level`. */
struct fpl_estimate fpl_grid_perfect(const struct fpl_grid *grid, int draws, double level, uint64_t seed,
                                     double *noise);

/* Mean over cells of one number per cell, with its interval from resampled cells (multinomial
 * draws).  NaNs are left out. */
struct fpl_estimate fpl_mean_over_cells(const double *value, size_t cells, int draws, double level,
                                        uint64_t seed);

#endif
