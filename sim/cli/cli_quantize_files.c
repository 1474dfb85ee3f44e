/* cli_quantize_files.c - one quantizer over a file, and what OUT holds.
 *
 * Dequantized values: the file byte for byte, with the values of the selected tensors
 * replaced, each in the tensor's own dtype.  Codes: a .safetensors file in which each selected
 * tensor X has become X.codes, X.scales, .. (sim/tensor/codes.h), all others are as they were,
 * and the metadata tell quantizer, shapes and layout.
 *
 * A file that another program shortens while it is mapped raises SIGBUS: one line says so, and
 * the half-written OUT is taken away.
 */
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../tensor/codes.h"
#include "cli.h"
#include "cli_quantize.h"

/* ---- SIGBUS ------------------------------------------------------------------------------------ */

static const char *volatile half_written;

static void explain_bus_error(int number) {
    static const char text[] = "fplaw: quantize: the input was shortened while it was read\n";
    (void)number;
    if (half_written != NULL) unlink(half_written);
    (void)!write(STDERR_FILENO, text, sizeof text - 1);
    _exit(1);
}

static void catch_bus_error(const struct fpl_writer *w) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = explain_bus_error;
    sigemptyset(&action.sa_mask);
    half_written = w != NULL ? w->temporary : NULL;
    sigaction(SIGBUS, &action, NULL);
}

/* ---- progress ---------------------------------------------------------------------------------- */

static void show_progress(void *context, int64_t elements) {
    struct quantize_job *job = context;
    job->done += elements;
    fpl_cli_progress((double)job->done / ((double)job->elements * (double)job->count + 1.0), job->in);
}

/* ---- one tensor -------------------------------------------------------------------------------- */

/* Bytes from the mapped file to OUT. */
static enum fpl_code copy_bytes(const struct quantize_job *job, struct fpl_writer *w, uint64_t from,
                                uint64_t to, uint64_t bytes, struct fpl_error *err) {
    enum { PART = 1 << 20 };
    for (uint64_t i = 0; i < bytes; i += PART) {
        const size_t n = bytes - i < PART ? (size_t)(bytes - i) : PART;
        const uint8_t *p = job->container.data + from + i;
        const enum fpl_code code =
            w->direct ? fpl_writer_put(w, p, n, err) : fpl_writer_put_at(w, to + i, p, n, err);
        if (code != FPL_OK) return code;
        if (fpl_cli_signal != 0)
            return fpl_fail(err, FPL_STOPPED, "stopped by signal %d", (int)fpl_cli_signal);
    }
    return FPL_OK;
}

static void view(const struct quantize_job *job, const struct fpl_tensor *t, int64_t *rows, int64_t *cols) {
    *rows = job->shape_rows > 0 ? job->shape_rows : t->rows;
    *cols = job->shape_rows > 0 ? job->shape_cols : t->cols;
}

static enum fpl_code sweep(struct quantize_job *job, struct quantize_target *target, size_t k,
                           struct fpl_writer *out, const struct fpl_code_layout *codes,
                           struct fpl_error *err) {
    const struct fpl_tensor *t = &job->container.tensors[k];
    struct fpl_swept swept = {.exponents = target->exponents};
    struct fpl_sweep s = {.in = &job->container,
                          .tensor = t,
                          .quantizer = &target->quantizer,
                          .seed = job->seed,
                          .threads = job->threads,
                          .stop = &fpl_cli_signal,
                          .out = out,
                          .out_at = t->at,
                          .codes = codes,
                          .progress = show_progress,
                          .context = job};
    view(job, t, &s.rows, &s.cols);
    const enum fpl_code code = fpl_sweep_run(&s, &swept, err);
    if (code != FPL_OK)
        return *t->name != '\0' ? fpl_fail_at(err, "%s: tensor '%.80s'", job->in, t->name)
                                : fpl_fail_at(err, "%s", job->in);
    target->tensors[k] = (struct quantize_result){swept.measure, swept.changed};
    fpl_measure_merge(&target->total.sums, &swept.measure);
    target->total.changed += swept.changed;
    return FPL_OK;
}

/* ---- dequantized values ------------------------------------------------------------------------- */

/* out NULL: measure only. */
static enum fpl_code write_values(struct quantize_job *job, struct quantize_target *target,
                                  struct fpl_writer *out, struct fpl_error *err) {
    const struct fpl_container *c = &job->container;
    enum fpl_code code = FPL_OK;
    if (out != NULL) code = copy_bytes(job, out, 0, 0, c->data_at, err);
    for (size_t k = 0; k < c->count && code == FPL_OK; k++) {
        const struct fpl_tensor *t = &c->tensors[k];
        if (job->selected[k])
            code = sweep(job, target, k, out, NULL, err);
        else if (out != NULL)
            code = copy_bytes(job, out, t->at, t->at, t->bytes, err);
    }
    return code;
}

/* ---- codes -------------------------------------------------------------------------------------- */

/* The tensors of OUT, and for each of IN where its own begin. */
struct packed {
    struct fpl_tensor *tensors;
    size_t count, *first;
    struct fpl_code_layout *layouts; /* of selected ones */
};

static void free_packed(struct packed *p) {
    for (size_t i = 0; i < p->count; i++) free(p->tensors[i].name);
    free(p->tensors);
    free(p->first);
    free(p->layouts);
}

static const char *layout_name(const struct fpl_quantizer *q) {
    const int blocks = q->granularity == FPL_BLOCK && q->block_rows == 1;
    if (blocks && q->block_cols == 32 && q->scale_rule >= FPL_SCALE_FLOOR && q->scale_rule <= FPL_SCALE_EVEN)
        return "mx";
    if (blocks && q->block_cols == 16 && q->two_level && q->scale_rule == FPL_SCALE_FORMAT) return "nvfp4";
    return "fplaw";
}

static int add_text(json_t *o, const char *name, const char *ending, const char *value) {
    char key[512];
    snprintf(key, sizeof key, "%.400s%s", *name != '\0' ? name : "tensor", ending);
    return json_object_set_new(o, key, json_string(value));
}

/* The file's own metadata, and what a decoder needs. NULL without memory. */
static char *describe_codes(const struct quantize_job *job, const struct quantize_target *target) {
    const struct fpl_container *c = &job->container;
    json_t *o = c->metadata != NULL ? json_loads(c->metadata, 0, NULL) : json_object();
    int failed = add_text(o, "fplaw", ".quantizer", target->text);
    failed |= add_text(o, "fplaw", ".layout", layout_name(&target->quantizer));
    for (size_t k = 0; k < c->count; k++) {
        const struct fpl_tensor *t = &c->tensors[k];
        char shape[FPL_TENSOR_AXES * 24] = "";
        size_t n = 0;
        if (!job->selected[k]) continue;
        for (int i = 0; i < t->axes; i++)
            n += (size_t)snprintf(shape + n, sizeof shape - n, "%s%lld", i > 0 ? "," : "",
                                  (long long)t->shape[i]);
        failed |= add_text(o, t->name, ".shape", shape);
        failed |= add_text(o, t->name, ".dtype", t->dtype_name);
    }
    char *text = failed ? NULL : json_dumps(o, JSON_COMPACT);
    json_decref(o);
    return text;
}

static enum fpl_code plan_tensors(const struct quantize_job *job, const struct quantize_target *target,
                                  struct packed *p, struct fpl_error *err) {
    const struct fpl_container *c = &job->container;
    *p = (struct packed){.tensors = calloc(4 * c->count, sizeof *p->tensors),
                         .first = calloc(c->count, sizeof *p->first),
                         .layouts = calloc(c->count, sizeof *p->layouts)};
    if (p->tensors == NULL || p->first == NULL || p->layouts == NULL)
        return fpl_fail(err, FPL_SYSTEM, "quantize: out of memory");
    for (size_t k = 0; k < c->count; k++) {
        const struct fpl_tensor *t = &c->tensors[k];
        struct fpl_tensor *to = &p->tensors[p->count];
        int64_t rows, cols;
        int parts = 1;
        p->first[k] = p->count;
        view(job, t, &rows, &cols);
        if (!job->selected[k]) {
            *to = *t;
            to->name = strdup(t->name);
        } else {
            if (fpl_codes_layout(&target->quantizer, rows, cols, &p->layouts[k], err) != FPL_OK)
                return fpl_fail_at(err, "%s", target->text);
            parts = fpl_codes_tensors(&p->layouts[k], t, to);
        }
        for (int i = 0; i < parts; i++, p->count++)
            if (to[i].name == NULL) return fpl_fail(err, FPL_SYSTEM, "quantize: out of memory");
    }
    return FPL_OK;
}

/* Offsets of the parts of tensor k, by their names' endings. */
static void place(const struct packed *p, size_t k, size_t end, struct fpl_writer *w) {
    struct fpl_code_layout *l = &p->layouts[k];
    l->writer = w;
    for (size_t i = p->first[k]; i < end; i++) {
        const char *ending = strrchr(p->tensors[i].name, '.');
        if (strcmp(ending, ".codes") == 0) l->codes_at = p->tensors[i].at;
        if (strcmp(ending, ".scales") == 0) l->scales_at = p->tensors[i].at;
        if (strcmp(ending, ".zeros") == 0) l->zeros_at = p->tensors[i].at;
        if (strcmp(ending, ".scale_2") == 0) l->scale_2_at = p->tensors[i].at;
    }
}

static enum fpl_code write_codes(struct quantize_job *job, struct quantize_target *target,
                                 struct fpl_writer *w, struct fpl_error *err) {
    const struct fpl_container *c = &job->container;
    struct fpl_text header = {0};
    struct packed p;
    char *metadata = describe_codes(job, target);
    enum fpl_code code = plan_tensors(job, target, &p, err);
    if (code == FPL_OK && metadata == NULL) code = fpl_fail(err, FPL_SYSTEM, "quantize: out of memory");
    if (code == FPL_OK && fpl_safetensors_header(p.tensors, p.count, metadata, &header, err) != FPL_OK)
        code = fpl_fail_at(err, "%s", job->in);
    if (code == FPL_OK) code = fpl_writer_put_at(w, 0, header.text, header.size, err);
    for (size_t k = 0; k < c->count && code == FPL_OK; k++) {
        const struct fpl_tensor *t = &c->tensors[k];
        if (!job->selected[k]) {
            code = copy_bytes(job, w, t->at, p.tensors[p.first[k]].at, t->bytes, err);
            continue;
        }
        place(&p, k, k + 1 < c->count ? p.first[k + 1] : p.count, w);
        code = sweep(job, target, k, NULL, &p.layouts[k], err);
    }
    free(metadata);
    fpl_text_free(&header);
    free_packed(&p);
    return code;
}

enum fpl_code quantize_file(struct quantize_job *job, struct quantize_target *target, struct fpl_error *err) {
    struct fpl_writer w;
    if (target->out == NULL) {
        catch_bus_error(NULL);
        return write_values(job, target, NULL, err);
    }
    enum fpl_code code = fpl_writer_open(&w, target->out, err);
    if (code != FPL_OK) return code;
    if (job->codes && w.direct) {
        fpl_writer_abandon(&w);
        return fpl_fail(err, FPL_INVALID, "%s: --codes needs a regular file as OUT, not a pipe or device",
                        target->out);
    }
    catch_bus_error(&w);
    code = job->codes ? write_codes(job, target, &w, err) : write_values(job, target, &w, err);
    half_written = NULL;
    if (code == FPL_OK) return fpl_writer_commit(&w, err);
    fpl_writer_abandon(&w);
    return code;
}
