/* schedule.c - how a tensor of any shape is cut into tiles (sweep.h).
 *
 * Local groups: tiles of whole bands of groups, at full width; where one line of groups is one
 * row, long rows are cut between groups.  Other groups: each band of groups (all rows of `col`
 * and `tensor`, one of `row`) is read twice, in tiles of whole rows or pieces of a row that lie
 * within one group or hold whole groups.
 *
 * No scaling, or one scale for everything: rows do not matter, the tensor is one long row.
 */
#include "sweep.h"

const struct fpl_tile_limits fpl_tile_limits = {(int64_t)1 << 16, (int64_t)1 << 22};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t divide_up(int64_t n, int64_t by) { return n == 0 ? 0 : (n - 1) / by + 1; }

/* The least number of columns that holds whole groups and, where codes are packed, whole bytes. */
static int64_t unit_of(const struct fpl_schedule *s, int keep_rows) {
    int64_t unit = s->group_cols;
    while (keep_rows && unit % 8 != 0 && unit < s->cols) unit *= 2;
    return least(unit, s->cols);
}

/* Tiles of whole groups; 0 where they would pass the limit. */
static int local_tiles(struct fpl_schedule *s, int keep_rows, const struct fpl_tile_limits *limits,
                       int64_t limit) {
    s->witness = 0;
    s->band_rows = s->rows;
    s->span_cols = s->cols;
    if (s->group_rows <= limit / s->cols) { /* full width */
        const int64_t line = s->group_rows * s->cols;
        if (line <= limits->tile || s->group_rows > 1) {
            s->tile_rows = s->group_rows * most(1, limits->tile / line);
            s->tile_cols = s->cols;
            return 1;
        }
    }
    const int64_t unit = unit_of(s, keep_rows);
    if (s->group_rows > 1 || unit > limit) return 0;
    s->tile_rows = 1;
    s->tile_cols = unit * most(1, limits->tile / unit);
    return 1;
}

static void witness_tiles(struct fpl_schedule *s, int keep_rows, const struct fpl_tile_limits *limits) {
    const int64_t unit = unit_of(s, keep_rows);
    s->witness = 1;
    s->band_rows = s->group_rows;
    s->span_cols = s->cols;
    if (s->cols <= limits->tile) {
        s->tile_rows = least(s->group_rows, limits->tile / s->cols);
        s->tile_cols = s->cols;
        return;
    }
    s->tile_rows = 1;
    if (unit <= limits->tile) {
        s->tile_cols = unit * (limits->tile / unit);
    } else if (keep_rows && s->group_cols % 8 != 0 && s->group_cols < s->cols) {
        s->tile_cols = s->cols; /* groups end inside a byte: the row as a whole */
    } else {
        s->span_cols = s->group_cols;
        s->tile_cols = limits->tile;
    }
}

void fpl_schedule_make(const struct fpl_quantizer_plan *plan, int64_t rows, int64_t cols, int keep_rows,
                       const struct fpl_tile_limits *limits, struct fpl_schedule *s) {
    const int shapeless =
        plan->identity || plan->granularity == FPL_UNSCALED || plan->granularity == FPL_TENSOR;
    const int whole = plan->zero_point || plan->search; /* groups must come whole */
    *s = (struct fpl_schedule){.rows = rows, .cols = cols};
    if (rows <= 0 || cols <= 0) return;
    if (shapeless && !keep_rows) {
        s->cols *= rows;
        s->rows = 1;
    }
    fpl_quantizer_group_shape(plan, s->rows, s->cols, &s->group_rows, &s->group_cols);
    if (plan->identity || plan->granularity == FPL_UNSCALED) s->group_rows = s->group_cols = 1;
    if (!local_tiles(s, keep_rows, limits, limits->local) &&
        !(whole && local_tiles(s, keep_rows, limits, INT64_MAX)))
        witness_tiles(s, keep_rows, limits);
    s->bands = divide_up(s->rows, s->band_rows);
    const int64_t spans = divide_up(s->cols, s->span_cols), last = s->cols - (spans - 1) * s->span_cols;
    s->across = (spans - 1) * divide_up(s->span_cols, s->tile_cols) + divide_up(last, s->tile_cols);
    s->tiles_of_band = divide_up(s->band_rows, s->tile_rows) * s->across;
    s->tensor_amax =
        plan->two_level && plan->granularity != FPL_TENSOR && (s->bands > 1 || s->tiles_of_band > 1);
}

int64_t fpl_schedule_tiles(const struct fpl_schedule *s, int64_t band) {
    const int64_t rows = least(s->band_rows, s->rows - band * s->band_rows);
    return divide_up(rows, s->tile_rows) * s->across;
}

struct fpl_tile fpl_schedule_tile(const struct fpl_schedule *s, int64_t band, int64_t k) {
    const int64_t pieces = divide_up(s->span_cols, s->tile_cols), first = band * s->band_rows;
    const int64_t line = k / s->across, piece = k % s->across;
    const int64_t span = piece / pieces * s->span_cols, end = least(s->cols, span + s->span_cols);
    struct fpl_tile t;
    t.row = first + line * s->tile_rows;
    t.rows = least(s->tile_rows, least(s->rows, first + s->band_rows) - t.row);
    t.col = span + piece % pieces * s->tile_cols;
    t.cols = least(s->tile_cols, end - t.col);
    return t;
}
