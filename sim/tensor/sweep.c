/* sweep.c - tiles through the backend's quantizer, measured and written (sweep.h).
 *
 * Each thread has a device of its own with one thread inside, and takes every T-th tile: reads
 * it as float32, quantizes it, measures, writes.  What must happen in the order of tiles
 * (merging sums, writing to a pipe) waits for the end of a round of some hundred tiles, so that
 * threads seldom wait for each other.  A tensor of one tile is given all threads inside the
 * operation instead.
 *
 * Witnesses.  Beside a tile of r rows and c columns the operand holds, where groups are larger
 * than tiles, one more row with each group's amax in the group's first column, and where the
 * scale is of two levels a row (or, beside a single row of small blocks, a block) with the
 * tensor's amax, which is a group by itself.
 */
#include "sweep.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/clones.h"
#include "codes.h"

enum { ROUND = 256, MOST_THREADS = 256 };

/* ---- what is shared ----------------------------------------------------------------------------- */

struct job {
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
struct worker {
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
struct operand {
    struct fpl_quantizer_plan plan;
    int64_t rows, cols;
};

static int64_t divide_up(int64_t n, int64_t by) { return n == 0 ? 0 : (n - 1) / by + 1; }

static void fail_with(struct job *j, const struct fpl_error *err) {
#pragma omp critical(fpl_sweep)
    if (!j->failed) {
        j->error = *err;
        __atomic_store_n(&j->failed, 1, __ATOMIC_RELAXED);
    }
}

static int stopped(struct job *j) {
    if (__atomic_load_n(&j->failed, __ATOMIC_RELAXED)) return 1;
    if (j->s->stop == NULL || *j->s->stop == 0) return 0;
    struct fpl_error err;
    fpl_fail(&err, FPL_STOPPED, "stopped by signal %d", (int)*j->s->stop);
    fail_with(j, &err);
    return 1;
}

/* ---- amax --------------------------------------------------------------------------------------- */

/* The largest finite magnitudes of a stretch, by bits: integers compare as their floats do. */
FPL_CLONES static uint32_t stretch_amax(int64_t n, const float *x) {
    uint32_t amax = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t a;
        memcpy(&a, x + i, sizeof a);
        a &= 0x7fffffffu;
        a = a < 0x7f800000u ? a : 0;
        amax = a > amax ? a : amax;
    }
    return amax;
}

/* The same element by element: amax[i] = max(amax[i], |x[i]|). */
FPL_CLONES static void raise_amax(int64_t n, const float *x, float *amax) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t a, old;
        memcpy(&a, x + i, sizeof a);
        memcpy(&old, amax + i, sizeof old);
        a &= 0x7fffffffu;
        a = a < 0x7f800000u ? a : 0;
        old = a > old ? a : old;
        memcpy(amax + i, &old, sizeof old);
    }
}

/* amax of the groups of group_rows x group_cols of a matrix, group rows outermost. */
static void groups_amax(int64_t rows, int64_t cols, int64_t group_rows, int64_t group_cols, const float *x,
                        float *amax) {
    const int64_t across = divide_up(cols, group_cols);
    memset(amax, 0, (size_t)(divide_up(rows, group_rows) * across) * sizeof *amax);
    for (int64_t i = 0; i < rows; i++, x += cols) {
        float *line = amax + i / group_rows * across;
        if (group_cols == 1) {
            raise_amax(cols, x, line);
            continue;
        }
        for (int64_t g = 0, j = 0; g < across; g++, j += group_cols) {
            const int64_t n = cols - j < group_cols ? cols - j : group_cols;
            const float a = fpl_bits_float(stretch_amax(n, x + j));
            if (a > line[g]) line[g] = a;
        }
    }
}

/* ---- reading -------------------------------------------------------------------------------------- */

static int64_t element_of(const struct job *j, const struct fpl_tile *t) {
    return t->row * j->schedule.cols + t->col;
}

static void read_tile(const struct job *j, const struct fpl_tile *t, float *x) {
    fpl_tensor_read(j->s->in, j->s->tensor, element_of(j, t), t->rows * t->cols, x);
}

/* First pass over a band: amax of each of its groups into band_amax; the tensor's is their
 * largest. */
static void amax_tile(struct job *j, struct worker *w, int64_t band, int64_t k) {
    const struct fpl_schedule *s = &j->schedule;
    const struct fpl_tile t = fpl_schedule_tile(s, band, k);
    const int64_t from = t.col / s->group_cols, groups = divide_up(t.cols, s->group_cols);
    read_tile(j, &t, w->x);
    groups_amax(t.rows, t.cols, t.rows, s->group_cols, w->x, w->amax);
    for (int64_t g = 0; g < groups; g++)
        if (w->amax[g] > w->band_amax[from + g]) w->band_amax[from + g] = w->amax[g];
}

static void tensor_amax_tile(struct job *j, struct worker *w, int64_t band, int64_t k) {
    const struct fpl_tile t = fpl_schedule_tile(&j->schedule, band, k);
    read_tile(j, &t, w->x);
    const float a = fpl_bits_float(stretch_amax(t.rows * t.cols, w->x));
    if (a > w->tensor_amax) w->tensor_amax = a;
}

/* ---- one tile ------------------------------------------------------------------------------------ */

/* A row with the amaxes of the groups that the tile meets. */
static void add_group_witnesses(const struct job *j, const struct fpl_tile *t, int64_t group_cols,
                                float *row) {
    const int64_t first = t->col / j->schedule.group_cols;
    memset(row, 0, (size_t)t->cols * sizeof *row);
    for (int64_t g = 0, c = 0; c < t->cols; g++, c += group_cols) row[c] = j->band_amax[first + g];
}

/* The operand of a tile already in x; writes witnesses behind it. */
static struct operand make_operand(const struct job *j, const struct fpl_tile *t, float *x) {
    const struct fpl_schedule *s = &j->schedule;
    struct operand o = {.plan = j->plan, .rows = t->rows, .cols = t->cols};
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
        o.cols = divide_up(t->cols, group_cols) * group_cols + 1;
        memset(x + t->cols, 0, (size_t)(o.cols - t->cols) * sizeof *x);
        x[o.cols - 1] = j->tensor_amax;
        return o;
    }
    if (s->tensor_amax) {
        const int64_t whole = s->witness ? o.rows : divide_up(o.rows, s->group_rows) * s->group_rows;
        memset(x + o.rows * o.cols, 0, (size_t)((whole - o.rows + 1) * o.cols) * sizeof *x);
        x[whole * o.cols] = j->tensor_amax;
        o.rows = whole + 1;
    }
    return o;
}

/* The scales of the tile's groups, and how many there are: across side by side. */
static int64_t tile_scales(const struct job *j, const struct fpl_tile *t, const struct operand *o,
                           struct worker *w, int64_t *across) {
    const struct fpl_schedule *s = &j->schedule;
    *across = divide_up(t->cols, s->group_cols);
    const int64_t groups = s->witness ? *across : divide_up(t->rows, s->group_rows) * *across;
    const int alone = s->bands == 1 && s->tiles_of_band == 1;
    float amax_tensor = j->tensor_amax;
    if (s->witness)
        memcpy(w->amax, j->band_amax + t->col / s->group_cols, (size_t)groups * sizeof *w->amax);
    else
        groups_amax(t->rows, t->cols, s->group_rows, s->group_cols, w->x, w->amax);
    if (alone || (s->witness && j->plan.granularity == FPL_TENSOR))
        for (int64_t g = 0; g < groups; g++)
            if (w->amax[g] > amax_tensor) amax_tensor = w->amax[g];
    const float s_enc = w->s_enc = fpl_tensor_scale(&j->plan, amax_tensor);
    if (j->plan.zero_point || j->plan.search) {
        const int64_t operand_across = divide_up(o->cols, s->group_cols);
        for (int64_t g = 0; g < groups; g++)
            fpl_quantizer_group_scale(&o->plan, o->rows, o->cols, w->x, s_enc,
                                      g / *across * operand_across + g % *across, &w->scale[g]);
    } else {
        for (int64_t g = 0; g < groups; g++) w->scale[g] = fpl_group_scale(&j->plan, w->amax[g], s_enc);
    }
    return groups;
}

/* Calls `each` for every stretch of a row within one group. */
typedef void (*stretch_fn)(const struct job *j, const struct fpl_group_scale *g, int64_t n, float *x,
                           void *to);

static void for_stretches(const struct job *j, const struct fpl_tile *t, const struct worker *w,
                          int64_t across, stretch_fn each, void *to) {
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

static void count_stretch(const struct job *j, const struct fpl_group_scale *g, int64_t n, float *x,
                          void *to) {
    if (j->plan.zero_point || j->plan.round.codebook != 0)
        *(int64_t *)to += fpl_count_clipped(&j->plan, g, n, x);
    else
        *(int64_t *)to += count_beyond(n, x, g->divide, g->quant, j->plan.largest);
}

/* Most groups clip nothing, which their amax shows: what is symmetric and monotone needs no
 * look at the elements. */
static int64_t count_clipped(const struct job *j, const struct fpl_tile *t, const struct worker *w,
                             int64_t groups, int64_t across) {
    const struct fpl_quantizer_plan *p = &j->plan;
    int64_t clipped = 0;
    int any = p->zero_point || p->round.codebook != 0;
    if (p->identity) return 0;
    if (!j->scaled) {
        const struct fpl_group_scale one = fpl_group_scale(p, 0.0f, 1.0f);
        const float amax = fpl_bits_float(stretch_amax(t->rows * t->cols, w->x));
        if (any || fpl_scaled_beyond(p, &one, amax))
            clipped = fpl_count_clipped(p, &one, t->rows * t->cols, w->x);
        return clipped;
    }
    for (int64_t g = 0; g < groups && !any; g++)
        any = fpl_scaled_beyond(p, &w->scale[g], fpl_scaled(&w->scale[g], w->amax[g]));
    if (any) for_stretches(j, t, w, across, count_stretch, &clipped);
    return clipped;
}

static void run_kernel(const struct worker *w, const struct operand *o, uint64_t seed, uint64_t element,
                       const float *x, float *out) {
    struct fpl_operand operand;
    memset(&operand, 0, sizeof operand);
    operand.plan = o->plan;
    operand.at.seed = seed;
    operand.at.element = element;
    w->k->quantize(w->dev, 1, o->rows, o->cols, &operand, x, out, NULL);
}

/* ---- codes -------------------------------------------------------------------------------------- */

static void scale_stretch(const struct job *j, const struct fpl_group_scale *g, int64_t n, float *x,
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

static void shift_stretch(const struct job *j, const struct fpl_group_scale *g, int64_t n, float *x,
                          void *to) {
    const struct shift *shift = to;
    float *q = shift->q + (x - shift->x);
    for (int64_t i = 0; i < n; i++) {
        const float least = 0.0f - g->zero, most = j->plan.largest - g->zero;
        if (fpl_float_bits(q[i]) << 1 >= 0xff000000u) continue; /* has no code: refused later */
        q[i] = (q[i] < least ? least : q[i] > most ? most : q[i]) + g->zero;
    }
}

static enum fpl_code no_code(const struct job *j, const struct fpl_tile *t, int64_t i, float x,
                             struct fpl_error *err) {
    char quantizer[FPL_QUANTIZER_TEXT];
    fpl_quantizer_print(j->s->quantizer, quantizer, sizeof quantizer);
    return fpl_fail(err, FPL_INVALID,
                    "element %lld is %g, for which %s has no code; --codes needs values that have one",
                    (long long)(element_of(j, t) + i), (double)x, quantizer);
}

/* Codes of the tile: x is replaced by its scaled values, out by their roundings. */
static enum fpl_code write_codes(const struct job *j, const struct fpl_tile *t, struct worker *w,
                                 int64_t across, struct fpl_error *err) {
    const struct fpl_code_layout *l = j->s->codes;
    struct operand o = {.plan = j->plan, .rows = 1, .cols = t->rows * t->cols};
    o.plan.granularity = FPL_UNSCALED;
    o.plan.two_level = o.plan.zero_point = o.plan.search = o.plan.history = 0;
    if (j->scaled) for_stretches(j, t, w, across, scale_stretch, NULL);
    run_kernel(w, &o, j->s->seed, (uint64_t)element_of(j, t), w->x, w->out);
    if (w->k->check(w->dev, err) != FPL_OK) return err->code;
    if (j->plan.zero_point) for_stretches(j, t, w, across, shift_stretch, &(struct shift){w->x, w->out});
    for (int64_t i = 0; i < o.cols; i++) {
        w->codes[i] = fpl_encode(&l->coder, w->out[i]);
        if (w->codes[i] == UINT32_MAX) return no_code(j, t, i, w->out[i], err);
    }
    const int64_t bytes = divide_up(t->cols * l->coder.bits, 8);
    for (int64_t i = 0; i < t->rows; i++)
        fpl_codes_pack(l->coder.bits, t->cols, w->codes + i * t->cols, w->bytes + i * bytes);
    const uint64_t at = l->codes_at + (uint64_t)(t->row * l->row_bytes + t->col * l->coder.bits / 8);
    return fpl_writer_put_at(l->writer, at, w->bytes, (size_t)(t->rows * bytes), err);
}

/* Scales of the groups that the tile meets; several tiles of one group write the same bytes. */
static enum fpl_code write_scales(const struct job *j, const struct fpl_tile *t, struct worker *w,
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

/* ---- a tile from file to file ----------------------------------------------------------------------- */

/* What one tile adds to the result, merged in order. */
struct part {
    struct fpl_measure measure;
    int64_t changed;
    uint8_t *bytes; /* of the values: the worker's, or for a direct writer the round's */
    size_t size;
};

static enum fpl_code run_tile(struct job *j, struct worker *w, const struct fpl_tile *t, struct part *p,
                              struct fpl_error *err) {
    const struct fpl_sweep *s = j->s;
    const int64_t n = t->rows * t->cols, width = fpl_dtype_bytes(s->tensor->dtype);
    int64_t groups = 0, across = 0;
    *p = (struct part){.bytes = p->bytes != NULL ? p->bytes : w->bytes};
    read_tile(j, t, w->x);
    const struct operand o = make_operand(j, t, w->x);
    run_kernel(w, &o, s->seed, (uint64_t)element_of(j, t), w->x, w->out);
    if (w->k->check(w->dev, err) != FPL_OK) return err->code;
    if (j->scaled) groups = tile_scales(j, t, &o, w, &across);
    fpl_measure_values(&p->measure, n, w->x, w->out);
    p->measure.clipped = count_clipped(j, t, w, groups, across);
    if (!j->schedule.witness) p->measure.groups = groups;
    if (s->out != NULL) {
        p->size = (size_t)(n * width);
        p->changed = fpl_dtype_write(s->tensor->dtype, n, w->out, p->bytes);
        if (!s->out->direct && fpl_writer_put_at(s->out, s->out_at + (uint64_t)(element_of(j, t) * width),
                                                 p->bytes, p->size, err) != FPL_OK)
            return err->code;
    }
    return FPL_OK;
}

/* In the order of tiles. */
static enum fpl_code finish_tile(struct job *j, const struct part *p, struct fpl_error *err) {
    const struct fpl_sweep *s = j->s;
    fpl_measure_merge(&j->result->measure, &p->measure);
    j->result->changed += p->changed;
    if (s->progress != NULL) s->progress(s->context, p->measure.elements);
    if (s->out != NULL && s->out->direct) return fpl_writer_put(s->out, p->bytes, p->size, err);
    return FPL_OK;
}

/* ---- workers ---------------------------------------------------------------------------------------- */

static enum fpl_code open_worker(const struct job *j, int threads, struct worker *w, struct fpl_error *err) {
    const struct fpl_device_options options = {.threads = threads};
    const struct fpl_schedule *s = &j->schedule;
    const size_t values = (size_t)(s->tile_rows * s->tile_cols), room = (size_t)j->room;
    const size_t groups = j->scaled
                              ? (size_t)(divide_up(s->tile_rows, s->witness ? s->tile_rows : s->group_rows) *
                                         divide_up(s->tile_cols, s->group_cols))
                              : 0;
    *w = (struct worker){.k = fpl_backend("cpu")};
    if (w->k->open(&w->dev, &options, err) != FPL_OK) return err->code;
    w->x = w->k->alloc(w->dev, room * sizeof *w->x);
    w->out = w->k->alloc(w->dev, room * sizeof *w->out);
    if (w->k->check(w->dev, err) != FPL_OK) return err->code;
    w->amax = malloc((groups + 1) * sizeof *w->amax);
    w->scale = malloc((groups + 1) * sizeof *w->scale);
    w->bytes = malloc((values > groups ? values : groups) * 4 + 8);
    if (j->result->exponents != NULL) w->exponents = calloc(1, sizeof *w->exponents);
    if (s->witness) w->band_amax = malloc((size_t)j->band_groups * sizeof *w->band_amax);
    if (j->s->codes != NULL) w->codes = malloc(values * sizeof *w->codes + 8);
    if (w->amax == NULL || w->scale == NULL || w->bytes == NULL ||
        (j->s->codes != NULL && w->codes == NULL) || (j->result->exponents != NULL && w->exponents == NULL) ||
        (s->witness && w->band_amax == NULL))
        return fpl_fail(err, FPL_SYSTEM, "out of memory for a tile of %zu values", values);
    return FPL_OK;
}

static void close_worker(struct worker *w) {
    if (w->dev != NULL) {
        w->k->release(w->dev, w->x);
        w->k->release(w->dev, w->out);
        w->k->close(w->dev);
    }
    free(w->amax);
    free(w->scale);
    free(w->bytes);
    free(w->codes);
    free(w->exponents);
    free(w->band_amax);
    *w = (struct worker){0};
}

typedef void (*amax_fn)(struct job *j, struct worker *w, int64_t band, int64_t k);

/* Tiles first .. first + n - 1 of a band are done with. */
static void forget(const struct job *j, int64_t band, int64_t first, int64_t n) {
    const struct fpl_tile a = fpl_schedule_tile(&j->schedule, band, first);
    const struct fpl_tile b = fpl_schedule_tile(&j->schedule, band, first + n - 1);
    const int64_t from = element_of(j, &a), to = element_of(j, &b) + b.rows * b.cols;
    fpl_tensor_forget(j->s->in, j->s->tensor, from, to - from);
}

static void for_amax(struct job *j, struct worker *workers, int count, int64_t band, amax_fn each) {
    const int64_t tiles = fpl_schedule_tiles(&j->schedule, band);
    for (int64_t first = 0; first < tiles && !stopped(j); first += ROUND) {
        const int64_t n = tiles - first < ROUND ? tiles - first : ROUND;
#pragma omp parallel for num_threads(count) schedule(dynamic, 1) if (count > 1)
        for (int64_t k = 0; k < n; k++) each(j, &workers[omp_get_thread_num()], band, first + k);
        forget(j, band, first, n);
    }
}

/* Maxima do not depend on who found them. */
static void find_tensor_amax(struct job *j, struct worker *workers, int count) {
    for (int64_t b = 0; b < j->schedule.bands; b++) for_amax(j, workers, count, b, tensor_amax_tile);
    for (int i = 0; i < count; i++)
        if (workers[i].tensor_amax > j->tensor_amax) j->tensor_amax = workers[i].tensor_amax;
}

static void find_band_amax(struct job *j, struct worker *workers, int count, int64_t band) {
    const size_t bytes = (size_t)j->band_groups * sizeof *j->band_amax;
    for (int i = 0; i < count; i++) memset(workers[i].band_amax, 0, bytes);
    for_amax(j, workers, count, band, amax_tile);
    memset(j->band_amax, 0, bytes);
    for (int i = 0; i < count; i++) raise_amax(j->band_groups, workers[i].band_amax, j->band_amax);
}

/* One tile, all but what must happen in order. */
static enum fpl_code do_tile(struct job *j, struct worker *w, const struct fpl_tile *t, struct part *p,
                             struct fpl_error *err) {
    if (run_tile(j, w, t, p, err) != FPL_OK) return err->code;
    if (w->exponents != NULL) fpl_exponents_add(w->exponents, t->rows * t->cols, w->x, w->out);
    if (j->s->codes == NULL) return FPL_OK;
    const int64_t across = divide_up(t->cols, j->schedule.group_cols);
    const int64_t groups = !j->scaled            ? 0
                           : j->schedule.witness ? across
                                                 : divide_up(t->rows, j->schedule.group_rows) * across;
    if (groups > 0 && write_scales(j, t, w, groups, across, err) != FPL_OK) return err->code;
    return write_codes(j, t, w, across, err);
}

/* Rounds of tiles: side by side, then merged in order.  A direct writer takes the bytes of a round
 * at its end, which is therefore shorter. */
static void run_band(struct job *j, struct worker *workers, int count, int64_t band) {
    const int64_t tiles = fpl_schedule_tiles(&j->schedule, band);
    const int64_t round = j->held != NULL ? j->held_tiles : ROUND;
    struct part parts[ROUND];
    if (j->schedule.witness) {
        find_band_amax(j, workers, count, band);
        j->result->measure.groups += j->band_groups;
    }
    for (int64_t first = 0; first < tiles && !stopped(j); first += round) {
        const int64_t n = tiles - first < round ? tiles - first : round;
        struct fpl_error err = {FPL_OK, ""};
#pragma omp parallel for num_threads(count) schedule(dynamic, 1) if (count > 1)
        for (int64_t k = 0; k < n; k++) {
            struct fpl_error why = {FPL_OK, ""};
            const struct fpl_tile t = fpl_schedule_tile(&j->schedule, band, first + k);
            parts[k].bytes = j->held != NULL ? j->held + (size_t)k * j->held_bytes : NULL;
            if (!stopped(j) && do_tile(j, &workers[omp_get_thread_num()], &t, &parts[k], &why) != FPL_OK)
                fail_with(j, &why);
        }
        for (int64_t k = 0; k < n && !j->failed; k++)
            if (finish_tile(j, &parts[k], &err) != FPL_OK) fail_with(j, &err);
        forget(j, band, first, n);
    }
}

/* Where the tiles of a round wait for a direct writer: some 16 MB, one tile for each thread at
 * least. */
static enum fpl_code hold_rounds(struct job *j, int count, struct fpl_error *err) {
    const struct fpl_schedule *s = &j->schedule;
    if (j->s->out == NULL || !j->s->out->direct) return FPL_OK;
    j->held_bytes = (size_t)(s->tile_rows * s->tile_cols) * 4;
    const size_t fit = ((size_t)1 << 24) / j->held_bytes;
    j->held_tiles = fit > ROUND ? ROUND : fit < (size_t)count ? count : (int64_t)fit;
    j->held = malloc((size_t)j->held_tiles * j->held_bytes);
    return j->held != NULL ? FPL_OK : fpl_fail(err, FPL_SYSTEM, "out of memory for tiles in order");
}

/* Floats of the largest operand: a tile, its groups completed, two rows or a block of witnesses. */
static int64_t room_of(const struct fpl_schedule *s) {
    const int64_t rows = s->witness ? s->tile_rows : divide_up(s->tile_rows, s->group_rows) * s->group_rows;
    return (rows + 2) * s->tile_cols + (s->group_cols < s->tile_cols ? s->group_cols : s->tile_cols) + 2;
}

enum fpl_code fpl_sweep_run(const struct fpl_sweep *s, struct fpl_swept *out, struct fpl_error *err) {
    struct job j = {.s = s, .limits = s->limits != NULL ? s->limits : &fpl_tile_limits, .result = out};
    struct fpl_schedule *schedule = &j.schedule;
    fpl_quantizer_lower(s->quantizer, NULL, &j.plan);
    out->measure.tensors++;
    if (s->rows == 0 || s->cols == 0) return FPL_OK;
    fpl_schedule_make(&j.plan, s->rows, s->cols, s->codes != NULL, j.limits, schedule);
    j.scaled = !j.plan.identity && j.plan.granularity != FPL_UNSCALED;
    j.room = room_of(schedule);
    if (schedule->tensor_amax && (schedule->group_rows > INT32_MAX - 2 || schedule->group_cols > INT32_MAX))
        return fpl_fail(err, FPL_INVALID,
                        "%lld x %lld values in one group of two-level scaling; accepted: 2^31",
                        (long long)schedule->group_rows, (long long)schedule->group_cols);
    const int64_t tiles = fpl_schedule_tiles(schedule, 0);
    const int threads = s->threads < MOST_THREADS ? s->threads : MOST_THREADS;
    const int count = tiles < threads ? (int)tiles : threads;
    struct worker *workers = calloc((size_t)count, sizeof *workers);
    enum fpl_code code = FPL_OK;
    if (schedule->witness) {
        j.band_groups = divide_up(schedule->cols, schedule->group_cols);
        j.band_amax = malloc((size_t)j.band_groups * sizeof *j.band_amax);
    }
    if (workers == NULL || (schedule->witness && j.band_amax == NULL))
        code = fpl_fail(err, FPL_SYSTEM, "out of memory");
    if (code == FPL_OK) code = hold_rounds(&j, count, err);
    for (int i = 0; i < count && code == FPL_OK; i++)
        code = open_worker(&j, tiles == 1 ? threads : 1, &workers[i], err);
    if (code == FPL_OK && schedule->tensor_amax) find_tensor_amax(&j, workers, count);
    for (int64_t b = 0; b < schedule->bands && code == FPL_OK && !j.failed; b++)
        run_band(&j, workers, count, b);
    for (int i = 0; i < count && workers != NULL; i++) {
        if (workers[i].exponents != NULL) fpl_exponents_merge(out->exponents, workers[i].exponents);
        close_worker(&workers[i]);
    }
    free(workers);
    free(j.band_amax);
    free(j.held);
    if (code != FPL_OK || !j.failed) return code;
    if (err != NULL) *err = j.error;
    return j.error.code;
}
