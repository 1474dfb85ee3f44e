/* sweep_tile.c - one tile: the operand that the kernel sees, its scales, what is clipped (sweep_internal.h).
 */
#include <math.h>
#include <string.h>

#include "../../formats/clones.h"
#include "sweep_internal.h"

/* A row with the amaxes of the groups that the tile meets. */
static void add_group_witnesses(const struct sweep_job *j, const struct fpl_tile *t, int64_t group_cols,
                                float *row) {
    const int64_t first = t->col / j->schedule.group_cols;
    memset(row, 0, (size_t)t->cols * sizeof *row);
    for (int64_t g = 0, c = 0; c < t->cols; g++, c += group_cols) row[c] = j->band_amax[first + g];
}

/* The operand of a tile already in x; writes witnesses behind it. */
struct sweep_operand sweep_tile_operand(const struct sweep_job *j, const struct fpl_tile *t, float *x) {
    const struct fpl_schedule *s = &j->schedule;
    struct sweep_operand o = {.plan = j->plan, .rows = t->rows, .cols = t->cols};
    const int64_t group_cols = s->group_cols < t->cols ? s->group_cols : t->cols;
    if (s->witness && t->rows == 1 && s->group_cols >= t->cols && !s->tensor_amax) {
        x[t->cols] = j->band_amax[t->col / s->group_cols]; /* all of one group: one more element */
        o.plan.granularity = FPL_TENSOR;
        o.cols++;
        return o;
    }
    if (s->witness || s->tensor_amax) {
        /* Blocks of just the size of the groups, which no witness can join. */
        o.plan.granularity = FPL_BLOCK;
        o.plan.block_rows = (int32_t)(s->witness ? t->rows + 1 : s->group_rows);
        o.plan.block_cols = (int32_t)group_cols;
    }
    if (s->witness) {
        add_group_witnesses(j, t, group_cols, x + t->rows * t->cols);
        o.rows++;
    } else if (s->tensor_amax && t->rows == 1 && s->group_rows == 1) {
        o.cols = sweep_divide_up(t->cols, group_cols) * group_cols + 1;
        memset(x + t->cols, 0, (size_t)(o.cols - t->cols) * sizeof *x);
        x[o.cols - 1] = j->tensor_amax;
        return o;
    }
    if (s->tensor_amax) {
        const int64_t whole = s->witness ? o.rows : sweep_divide_up(o.rows, s->group_rows) * s->group_rows;
        memset(x + o.rows * o.cols, 0, (size_t)((whole - o.rows + 1) * o.cols) * sizeof *x);
        x[whole * o.cols] = j->tensor_amax;
        o.rows = whole + 1;
    }
    return o;
}

/* The scales of the tile's groups, and how many there are: across side by side. */
int64_t sweep_tile_scales(const struct sweep_job *j, const struct fpl_tile *t, const struct sweep_operand *o,
                          struct sweep_worker *w, int64_t *across) {
    const struct fpl_schedule *s = &j->schedule;
    *across = sweep_divide_up(t->cols, s->group_cols);
    const int64_t groups = s->witness ? *across : sweep_divide_up(t->rows, s->group_rows) * *across;
    const int alone = s->bands == 1 && s->tiles_of_band == 1;
    float amax_tensor = j->tensor_amax;
    if (s->witness)
        memcpy(w->amax, j->band_amax + t->col / s->group_cols, (size_t)groups * sizeof *w->amax);
    else
        sweep_groups_amax(t->rows, t->cols, s->group_rows, s->group_cols, w->x, w->amax);
    if (alone || (s->witness && j->plan.granularity == FPL_TENSOR))
        for (int64_t g = 0; g < groups; g++)
            if (w->amax[g] > amax_tensor) amax_tensor = w->amax[g];
    const float s_enc = w->s_enc = fpl_tensor_scale(&j->plan, amax_tensor);
    if (j->plan.zero_point || j->plan.search) {
        const int64_t operand_across = sweep_divide_up(o->cols, s->group_cols);
        for (int64_t g = 0; g < groups; g++)
            fpl_quantizer_group_scale(&o->plan, o->rows, o->cols, w->x, s_enc,
                                      g / *across * operand_across + g % *across, &w->scale[g]);
    } else {
        for (int64_t g = 0; g < groups; g++) w->scale[g] = fpl_group_scale(&j->plan, w->amax[g], s_enc);
    }
    return groups;
}

void sweep_for_stretches(const struct sweep_job *j, const struct fpl_tile *t, const struct sweep_worker *w,
                         int64_t across, sweep_stretch *each, void *to) {
    const struct fpl_schedule *s = &j->schedule;
    for (int64_t i = 0; i < t->rows; i++) {
        const struct fpl_group_scale *line = w->scale + (s->witness ? 0 : i / s->group_rows * across);
        for (int64_t g = 0, c = 0; g < across; g++, c += s->group_cols) {
            const int64_t n = t->cols - c < s->group_cols ? t->cols - c : s->group_cols;
            each(j, line + g, n, w->x + i * t->cols + c, to);
        }
    }
}

/* fpl_count_clipped for formats whose values are symmetric. */
FPL_CLONES static int64_t count_beyond(int64_t n, const float *x, int divide, float quant, float largest) {
    int32_t beyond = 0;
    for (int64_t i = 0; i < n; i++) {
        const float a = fabsf(x[i]), y = divide ? a / quant : a * quant;
        beyond += (a <= FPL_FLOAT_MAX) & (y > largest);
    }
    return beyond;
}

static void count_stretch(const struct sweep_job *j, const struct fpl_group_scale *g, int64_t n, float *x,
                          void *to) {
    if (j->plan.zero_point || j->plan.round.codebook != 0)
        *(int64_t *)to += fpl_count_clipped(&j->plan, g, n, x);
    else
        *(int64_t *)to += count_beyond(n, x, g->divide, g->quant, j->plan.largest);
}

/* Most groups clip nothing, which their amax shows: what is symmetric and monotone needs no
 * look at the elements. */
int64_t sweep_tile_clipped(const struct sweep_job *j, const struct fpl_tile *t, const struct sweep_worker *w,
                           int64_t groups, int64_t across) {
    const struct fpl_quantizer_plan *p = &j->plan;
    int64_t clipped = 0;
    int any = p->zero_point || p->round.codebook != 0;
    if (p->identity) return 0;
    if (!j->scaled) {
        const struct fpl_group_scale one = fpl_group_scale(p, 0.0f, 1.0f);
        const float amax = sweep_amax(t->rows * t->cols, w->x);
        if (any || fpl_scaled_beyond(p, &one, amax))
            clipped = fpl_count_clipped(p, &one, t->rows * t->cols, w->x);
        return clipped;
    }
    for (int64_t g = 0; g < groups && !any; g++)
        any = fpl_scaled_beyond(p, &w->scale[g], fpl_scaled(&w->scale[g], w->amax[g]));
    if (any) sweep_for_stretches(j, t, w, across, count_stretch, &clipped);
    return clipped;
}

void sweep_tile_quantize(const struct sweep_worker *w, const struct sweep_operand *o, uint64_t seed,
                         uint64_t element, const float *x, float *out) {
    struct fpl_operand operand;
    memset(&operand, 0, sizeof operand);
    operand.plan = o->plan;
    operand.at.seed = seed;
    operand.at.element = element;
    w->k->quantize(w->dev, 1, o->rows, o->cols, &operand, x, out, NULL);
}
