/* sweep.c - tiles through the backend's quantizer, measured and written (sweep.h).
 *
 * Each thread has a device of its own with one thread inside, and takes every T-th tile: reads
 * it as float32, quantizes it, measures, writes.  What must happen in the order of tiles
 * (merging sums, writing to a pipe) waits for the end of a round of some hundred tiles, so that
 * threads seldom wait for each other.  A tensor of one tile is given all threads inside the
 * operation instead.
 */
#include "sweep.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "sweep_internal.h"

enum { ROUND = 256, MOST_THREADS = 256 };

static void fail_with(struct sweep_job *j, const struct fpl_error *err) {
#pragma omp critical(fpl_sweep)
    if (!j->failed) {
        j->error = *err;
        __atomic_store_n(&j->failed, 1, __ATOMIC_RELAXED);
    }
}

static int stopped(struct sweep_job *j) {
    if (__atomic_load_n(&j->failed, __ATOMIC_RELAXED)) return 1;
    if (j->s->stop == NULL || *j->s->stop == 0) return 0;
    struct fpl_error err;
    fpl_fail(&err, FPL_STOPPED, "stopped by signal %d", (int)*j->s->stop);
    fail_with(j, &err);
    return 1;
}

/* ---- first passes --------------------------------------------------------------------------------- */

static void read_tile(const struct sweep_job *j, const struct fpl_tile *t, float *x) {
    fpl_tensor_read(j->s->in, j->s->tensor, sweep_element(j, t), t->rows * t->cols, x);
}

/* First pass over a band: amax of each of its groups into band_amax; the tensor's is their
 * largest. */
static void amax_tile(struct sweep_job *j, struct sweep_worker *w, int64_t band, int64_t k) {
    const struct fpl_schedule *s = &j->schedule;
    const struct fpl_tile t = fpl_schedule_tile(s, band, k);
    const int64_t from = t.col / s->group_cols, groups = sweep_divide_up(t.cols, s->group_cols);
    read_tile(j, &t, w->x);
    sweep_groups_amax(t.rows, t.cols, t.rows, s->group_cols, w->x, w->amax);
    for (int64_t g = 0; g < groups; g++)
        if (w->amax[g] > w->band_amax[from + g]) w->band_amax[from + g] = w->amax[g];
}

static void tensor_amax_tile(struct sweep_job *j, struct sweep_worker *w, int64_t band, int64_t k) {
    const struct fpl_tile t = fpl_schedule_tile(&j->schedule, band, k);
    read_tile(j, &t, w->x);
    const float a = sweep_amax(t.rows * t.cols, w->x);
    if (a > w->tensor_amax) w->tensor_amax = a;
}

/* ---- a tile from file to file ----------------------------------------------------------------------- */

/* What one tile adds to the result, merged in order. */
struct part {
    struct fpl_measure measure;
    int64_t changed;
    uint8_t *bytes; /* of the values: the worker's, or for a direct writer the round's */
    size_t size;
};

static enum fpl_code run_tile(struct sweep_job *j, struct sweep_worker *w, const struct fpl_tile *t,
                              struct part *p, struct fpl_error *err) {
    const struct fpl_sweep *s = j->s;
    const int64_t n = t->rows * t->cols, width = fpl_dtype_bytes(s->tensor->dtype);
    int64_t groups = 0, across = 0;
    *p = (struct part){.bytes = p->bytes != NULL ? p->bytes : w->bytes};
    read_tile(j, t, w->x);
    const struct sweep_operand o = sweep_tile_operand(j, t, w->x);
    sweep_tile_quantize(w, &o, s->seed, (uint64_t)sweep_element(j, t), w->x, w->out);
    if (w->k->check(w->dev, err) != FPL_OK) return err->code;
    if (j->scaled) groups = sweep_tile_scales(j, t, &o, w, &across);
    fpl_measure_values(&p->measure, n, w->x, w->out);
    p->measure.clipped = sweep_tile_clipped(j, t, w, groups, across);
    if (!j->schedule.witness) p->measure.groups = groups;
    if (s->out != NULL) {
        p->size = (size_t)(n * width);
        p->changed = fpl_dtype_write(s->tensor->dtype, n, w->out, p->bytes);
        if (!s->out->direct && fpl_writer_put_at(s->out, s->out_at + (uint64_t)(sweep_element(j, t) * width),
                                                 p->bytes, p->size, err) != FPL_OK)
            return err->code;
    }
    return FPL_OK;
}

/* In the order of tiles. */
static enum fpl_code finish_tile(struct sweep_job *j, const struct part *p, struct fpl_error *err) {
    const struct fpl_sweep *s = j->s;
    fpl_measure_merge(&j->result->measure, &p->measure);
    j->result->changed += p->changed;
    if (s->progress != NULL) s->progress(s->context, p->measure.elements);
    if (s->out != NULL && s->out->direct) return fpl_writer_put(s->out, p->bytes, p->size, err);
    return FPL_OK;
}

/* ---- workers ---------------------------------------------------------------------------------------- */

static enum fpl_code open_worker(const struct sweep_job *j, int threads, struct sweep_worker *w,
                                 struct fpl_error *err) {
    const struct fpl_device_options options = {.threads = threads};
    const struct fpl_schedule *s = &j->schedule;
    const size_t values = (size_t)(s->tile_rows * s->tile_cols), room = (size_t)j->room;
    const size_t groups =
        j->scaled ? (size_t)(sweep_divide_up(s->tile_rows, s->witness ? s->tile_rows : s->group_rows) *
                             sweep_divide_up(s->tile_cols, s->group_cols))
                  : 0;
    *w = (struct sweep_worker){.k = fpl_backend("cpu")};
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

static void close_worker(struct sweep_worker *w) {
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
    *w = (struct sweep_worker){0};
}

typedef void (*amax_fn)(struct sweep_job *j, struct sweep_worker *w, int64_t band, int64_t k);

/* Tiles first .. first + n - 1 of a band are done with. */
static void forget(const struct sweep_job *j, int64_t band, int64_t first, int64_t n) {
    const struct fpl_tile a = fpl_schedule_tile(&j->schedule, band, first);
    const struct fpl_tile b = fpl_schedule_tile(&j->schedule, band, first + n - 1);
    const int64_t from = sweep_element(j, &a), to = sweep_element(j, &b) + b.rows * b.cols;
    fpl_tensor_forget(j->s->in, j->s->tensor, from, to - from);
}

static void for_amax(struct sweep_job *j, struct sweep_worker *workers, int count, int64_t band,
                     amax_fn each) {
    const int64_t tiles = fpl_schedule_tiles(&j->schedule, band);
    for (int64_t first = 0; first < tiles && !stopped(j); first += ROUND) {
        const int64_t n = tiles - first < ROUND ? tiles - first : ROUND;
#pragma omp parallel for num_threads(count) schedule(dynamic, 1) if (count > 1)
        for (int64_t k = 0; k < n; k++) each(j, &workers[omp_get_thread_num()], band, first + k);
        forget(j, band, first, n);
    }
}

/* Maxima do not depend on who found them. */
static void find_tensor_amax(struct sweep_job *j, struct sweep_worker *workers, int count) {
    for (int64_t b = 0; b < j->schedule.bands; b++) for_amax(j, workers, count, b, tensor_amax_tile);
    for (int i = 0; i < count; i++)
        if (workers[i].tensor_amax > j->tensor_amax) j->tensor_amax = workers[i].tensor_amax;
}

static void find_band_amax(struct sweep_job *j, struct sweep_worker *workers, int count, int64_t band) {
    const size_t bytes = (size_t)j->band_groups * sizeof *j->band_amax;
    for (int i = 0; i < count; i++) memset(workers[i].band_amax, 0, bytes);
    for_amax(j, workers, count, band, amax_tile);
    memset(j->band_amax, 0, bytes);
    for (int i = 0; i < count; i++) sweep_raise_amax(j->band_groups, workers[i].band_amax, j->band_amax);
}

/* One tile, all but what must happen in order. */
static enum fpl_code do_tile(struct sweep_job *j, struct sweep_worker *w, const struct fpl_tile *t,
                             struct part *p, struct fpl_error *err) {
    if (run_tile(j, w, t, p, err) != FPL_OK) return err->code;
    if (w->exponents != NULL) fpl_exponents_add(w->exponents, t->rows * t->cols, w->x, w->out);
    return j->s->codes != NULL ? sweep_write_codes(j, t, w, err) : FPL_OK;
}

/* Rounds of tiles: side by side, then merged in order.  A direct writer takes the bytes of a round
 * at its end, which is therefore shorter. */
static void run_band(struct sweep_job *j, struct sweep_worker *workers, int count, int64_t band) {
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
static enum fpl_code hold_rounds(struct sweep_job *j, int count, struct fpl_error *err) {
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
    const int64_t rows =
        s->witness ? s->tile_rows : sweep_divide_up(s->tile_rows, s->group_rows) * s->group_rows;
    return (rows + 2) * s->tile_cols + (s->group_cols < s->tile_cols ? s->group_cols : s->tile_cols) + 2;
}

enum fpl_code fpl_sweep_run(const struct fpl_sweep *s, struct fpl_swept *out, struct fpl_error *err) {
    struct sweep_job j = {.s = s, .limits = s->limits != NULL ? s->limits : &fpl_tile_limits, .result = out};
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
    struct sweep_worker *workers = calloc((size_t)count, sizeof *workers);
    enum fpl_code code = FPL_OK;
    if (schedule->witness) {
        j.band_groups = sweep_divide_up(schedule->cols, schedule->group_cols);
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
