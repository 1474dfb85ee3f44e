/* sweep_codes.c - a tile's packed elements and scales (sweep_internal.h, codes.h). */
#include "sweep_internal.h"

static void scale_stretch(const struct sweep_job *j, const struct fpl_group_scale *g, int64_t n, float *x,
                          void *to) {
    (void)j;
    (void)to;
    for (int64_t i = 0; i < n; i++) x[i] = fpl_scaled(g, x[i]);
}

/* q + zero, an unsigned integer. */
struct shift {
    const float *x; /* base of the tile's scaled values */
    float *q;
};

static void shift_stretch(const struct sweep_job *j, const struct fpl_group_scale *g, int64_t n, float *x,
                          void *to) {
    const struct shift *shift = to;
    float *q = shift->q + (x - shift->x);
    for (int64_t i = 0; i < n; i++) {
        const float least = 0.0f - g->zero, most = j->plan.largest - g->zero;
        if (fpl_float_bits(q[i]) << 1 >= 0xff000000u) continue; /* has no code: refused later */
        q[i] = (q[i] < least ? least : q[i] > most ? most : q[i]) + g->zero;
    }
}

static enum fpl_code no_code(const struct sweep_job *j, const struct fpl_tile *t, int64_t i, float x,
                             struct fpl_error *err) {
    char quantizer[FPL_QUANTIZER_TEXT];
    fpl_quantizer_print(j->s->quantizer, quantizer, sizeof quantizer);
    return fpl_fail(err, FPL_INVALID,
                    "element %lld is %g, for which %s has no code; --codes needs values that have one",
                    (long long)(sweep_element(j, t) + i), (double)x, quantizer);
}

/* x is replaced by its scaled values, out by their roundings. */
static enum fpl_code write_elements(const struct sweep_job *j, const struct fpl_tile *t,
                                    struct sweep_worker *w, int64_t across, struct fpl_error *err) {
    const struct fpl_code_layout *l = j->s->codes;
    struct sweep_operand o = {.plan = j->plan, .rows = 1, .cols = t->rows * t->cols};
    o.plan.granularity = FPL_UNSCALED;
    o.plan.two_level = o.plan.zero_point = o.plan.search = o.plan.history = 0;
    if (j->scaled) sweep_for_stretches(j, t, w, across, scale_stretch, NULL);
    sweep_tile_quantize(w, &o, j->s->seed, (uint64_t)sweep_element(j, t), w->x, w->out);
    if (w->k->check(w->dev, err) != FPL_OK) return err->code;
    if (j->plan.zero_point)
        sweep_for_stretches(j, t, w, across, shift_stretch, &(struct shift){w->x, w->out});
    for (int64_t i = 0; i < o.cols; i++) {
        w->codes[i] = fpl_encode(&l->coder, w->out[i]);
        if (w->codes[i] == UINT32_MAX) return no_code(j, t, i, w->out[i], err);
    }
    const int64_t bytes = sweep_divide_up(t->cols * l->coder.bits, 8);
    for (int64_t i = 0; i < t->rows; i++)
        fpl_codes_pack(l->coder.bits, t->cols, w->codes + i * t->cols, w->bytes + i * bytes);
    const uint64_t at = l->codes_at + (uint64_t)(t->row * l->row_bytes + t->col * l->coder.bits / 8);
    return fpl_writer_put_at(l->writer, at, w->bytes, (size_t)(t->rows * bytes), err);
}

/* Scales of the groups that the tile meets; several tiles of one group write the same bytes. */
static enum fpl_code write_scales(const struct sweep_job *j, const struct fpl_tile *t, struct sweep_worker *w,
                                  int64_t groups, int64_t across, struct fpl_error *err) {
    const struct fpl_code_layout *l = j->s->codes;
    const struct fpl_schedule *s = &j->schedule;
    const int64_t row = t->row / s->group_rows, column = t->col / s->group_cols;
    for (int64_t first = 0; first < groups; first += across) {
        const int64_t at = (row + first / across) * l->scale_cols + column;
        for (int64_t g = 0; g < across; g++)
            fpl_codes_scale(l, &w->scale[first + g], w->bytes + g * l->scale_bytes);
        enum fpl_code code = fpl_writer_put_at(l->writer, l->scales_at + (uint64_t)(at * l->scale_bytes),
                                               w->bytes, (size_t)(across * l->scale_bytes), err);
        if (code == FPL_OK && l->zero_bytes > 0) {
            for (int64_t g = 0; g < across; g++) {
                const uint32_t zero = (uint32_t)w->scale[first + g].zero;
                for (int b = 0; b < l->zero_bytes; b++)
                    w->bytes[g * l->zero_bytes + b] = (uint8_t)(zero >> 8 * b);
            }
            code = fpl_writer_put_at(l->writer, l->zeros_at + (uint64_t)(at * l->zero_bytes), w->bytes,
                                     (size_t)(across * l->zero_bytes), err);
        }
        if (code != FPL_OK) return code;
    }
    if (!l->two_level || groups == 0) return FPL_OK;
    const float scale_2 = 1.0f / w->s_enc;
    return fpl_writer_put_at(l->writer, l->scale_2_at, &scale_2, sizeof scale_2, err);
}

enum fpl_code sweep_write_codes(const struct sweep_job *j, const struct fpl_tile *t, struct sweep_worker *w,
                                struct fpl_error *err) {
    const int64_t across = sweep_divide_up(t->cols, j->schedule.group_cols);
    const int64_t groups = !j->scaled            ? 0
                           : j->schedule.witness ? across
                                                 : sweep_divide_up(t->rows, j->schedule.group_rows) * across;
    if (groups > 0 && write_scales(j, t, w, groups, across, err) != FPL_OK) return err->code;
    return write_elements(j, t, w, across, err);
}
