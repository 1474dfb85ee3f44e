/* checkpoint.c - everything that training changes, in one file of our own format.
 *
 * Little-endian throughout; no struct images.
 *
 *   offset  bytes
 *        0      8  magic "FPLCKPT\n"
 *        8      4  version, 2 (1 is read too: it has neither diagnoses nor delayed scaling)
 *       12      4  R
 *       16      8  size of the whole file
 *       24      8  size of the configurations
 *       32      8  size of the replicas' state
 *       40      8  elements of each flat buffer (parameters, moment 1, moment 2)
 *       48         configurations: R canonical texts, each ended by a zero byte
 *                  state: step, seconds, then each replica (replica_state() is the layout), then
 *                  what delayed scaling remembers
 *                  the three flat buffers, float32
 *   end-16     16  XXH128 of all before it
 *
 * Reading refuses, in this order: what is no checkpoint; another version; a file whose size
 * is not the one it names (truncated); a wrong checksum (damaged); other configurations
 * (the first differing option is named).  Only then is anything used, so a bad file changes
 * nothing; the file itself is never touched by reading.  Writing is whole or not at all
 * (file.h).  One function per structure walks its fields for both directions.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "../base/file.h"
#include "trainer.h"

#define VERSION 2u
#define OLDEST 1u
#define HEADER 48u
#define CHECKSUM 16u
static const char magic[8] = {'F', 'P', 'L', 'C', 'K', 'P', 'T', '\n'};

_Static_assert(sizeof(fpl_real) == 4, "checkpoints hold float32");

/* ---- fields, in both directions --------------------------------------------------------------- */

/* data NULL: only counts bytes. */
struct codec {
    unsigned char *data;
    size_t at, size;
    int reading, failed;
    unsigned version;
};

static void code_u64(struct codec *c, uint64_t *x) {
    if (c->data != NULL) {
        if (c->size - c->at < 8) {
            c->failed = 1;
            return;
        }
        unsigned char *p = c->data + c->at;
        if (c->reading) *x = 0;
        for (int i = 0; i < 8; i++) {
            if (c->reading)
                *x |= (uint64_t)p[i] << (8 * i);
            else
                p[i] = (unsigned char)(*x >> (8 * i));
        }
    }
    c->at += 8;
}

static void code_i64(struct codec *c, int64_t *x) {
    uint64_t u = (uint64_t)*x;
    code_u64(c, &u);
    *x = (int64_t)u;
}

static void code_double(struct codec *c, double *x) {
    uint64_t u;
    memcpy(&u, x, sizeof u);
    code_u64(c, &u);
    memcpy(x, &u, sizeof u);
}

static void code_point(struct codec *c, struct fpl_point *p) {
    code_i64(c, &p->step);
    code_double(c, &p->loss);
    code_double(c, &p->se);
    code_double(c, &p->grad_norm);
}

static void code_text(struct codec *c, char *text, size_t size) {
    for (size_t i = 0; i < size; i += 8) {
        uint64_t u = 0;
        for (size_t j = 0; j < 8 && i + j < size; j++) u |= (uint64_t)(unsigned char)text[i + j] << (8 * j);
        code_u64(c, &u);
        for (size_t j = 0; j < 8 && i + j < size; j++) text[i + j] = (char)(unsigned char)(u >> (8 * j));
    }
    text[size - 1] = '\0';
}

/* What the configuration fixes (windows, widths) is not stored. */
static void code_watch(struct codec *c, struct fpl_watch *w) {
    double *const reals[] = {&w->sum,       &w->best,          &w->norm_mean, &w->spike_norm,
                             &w->point_sum, &w->point_squares, &w->point_norm};
    int64_t *const counts[] = {&w->count,      &w->near,        &w->above, &w->spikes,
                               &w->spike_step, &w->point_steps, &w->points};
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++) code_double(c, reals[i]);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) code_i64(c, counts[i]);
    if (w->points < 0 || w->points > FPL_CURVE_POINTS) {
        c->failed = 1;
        w->points = 0;
    }
    for (int64_t i = 0; i < w->points; i++) code_point(c, &w->curve[i]);
}

static void code_diagnosis(struct codec *c, struct fpl_diagnosis_point *p) {
    int64_t *const counts[] = {&p->step, &p->layer, &p->elements, &p->nonfinite, &p->least, &p->bins};
    double *const reals[] = {&p->sqnr_db, &p->underflow, &p->clipped, &p->amax};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) code_i64(c, counts[i]);
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++) code_double(c, reals[i]);
    code_text(c, p->operand, sizeof p->operand);
    if (c->reading) {
        const int sound = !c->failed && p->bins >= 0 && (uint64_t)p->bins <= (c->size - c->at) / 8;
        p->count = sound ? calloc((size_t)p->bins + 1, sizeof *p->count) : NULL;
        if (p->count == NULL) {
            c->failed = 1;
            p->bins = 0;
        }
    }
    for (int64_t i = 0; i < p->bins; i++) code_i64(c, &p->count[i]);
}

static void code_diagnoses(struct codec *c, struct fpl_replica *p) {
    int64_t count = p->diagnosis_count;
    code_i64(c, &count);
    if (c->reading) {
        p->diagnosis_count = 0;
        if (count < 0 || (uint64_t)count > (c->size - c->at) / 112 ||
            fpl_diagnosis_reserve(p, count, NULL) != FPL_OK) {
            c->failed = 1;
            return;
        }
    }
    for (int64_t i = 0; i < count && !c->failed; i++) {
        if (c->reading) memset(&p->diagnosis[i], 0, sizeof p->diagnosis[i]);
        code_diagnosis(c, &p->diagnosis[i]);
        p->diagnosis_count = i + 1;
    }
}

static void replica_state(struct codec *c, struct fpl_replica *p) {
    int64_t status = (int64_t)p->status, evals = p->eval_count;
    code_i64(c, &status);
    code_text(c, p->why, sizeof p->why);
    code_i64(c, &p->steps);
    code_i64(c, &p->nonfinite);
    code_watch(c, &p->watch);
    code_i64(c, &evals);
    if (c->reading) {
        const int sound = status >= 0 && status < FPL_RUN_STATUSES && evals >= 0 &&
                          (uint64_t)evals <= (c->size - c->at) / 32 &&
                          fpl_replica_reserve(p, evals, NULL) == FPL_OK;
        if (!sound) {
            c->failed = 1;
            return;
        }
        p->status = (enum fpl_status)status;
        p->eval_count = evals;
    }
    for (int64_t i = 0; i < evals; i++) code_point(c, &p->eval[i]);
    if (c->version >= 2 && !c->failed) code_diagnoses(c, p);
}

/* float32 between host and file order. */
static void order_floats(void *data, size_t count) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    uint32_t *word = data;
    for (size_t i = 0; i < count; i++) word[i] = __builtin_bswap32(word[i]);
#else
    (void)data;
    (void)count;
#endif
}

/* What delayed scaling remembers. */
static void code_delay(struct codec *c, struct fpl_trainer *t) {
    size_t count;
    float *const device = fpl_model_delay(t->model, &count);
    uint64_t stored = count;
    code_u64(c, &stored);
    if (stored != count || (c->data != NULL && (c->size - c->at) / 4 < count)) c->failed = 1;
    if (c->failed || count == 0) return;
    if (c->data != NULL && c->reading) {
        order_floats(c->data + c->at, count);
        t->k->upload(t->dev, device, c->data + c->at, 4 * count);
    } else if (c->data != NULL) {
        t->k->download(t->dev, c->data + c->at, device, 4 * count);
        order_floats(c->data + c->at, count);
    }
    c->at += 4 * count;
}

static void trainer_state(struct codec *c, struct fpl_trainer *t) {
    code_i64(c, &t->step);
    code_double(c, &t->seconds);
    code_double(c, &t->train_seconds);
    for (int r = 0; r < t->R; r++) replica_state(c, &t->replica[r]);
    if (c->version >= 2) code_delay(c, t);
}

/* ---- layout ------------------------------------------------------------------------------------ */

struct layout {
    uint64_t total, configurations, state, elements;
};

static size_t configurations_size(const struct fpl_trainer *t) {
    size_t size = 0;
    for (int r = 0; r < t->R; r++) size += strlen(t->replica[r].canonical) + 1;
    return size;
}

static void header(struct codec *c, uint64_t *version_and_R, struct layout *l) {
    c->at = sizeof magic;
    code_u64(c, version_and_R);
    code_u64(c, &l->total);
    code_u64(c, &l->configurations);
    code_u64(c, &l->state);
    code_u64(c, &l->elements);
}

/* ---- writing ----------------------------------------------------------------------------------- */

static void append_buffers(struct fpl_trainer *t, unsigned char *to) {
    const struct fpl_model_state s = fpl_model_state(t->model);
    const fpl_real *const buffers[] = {s.parameters, s.moment1, s.moment2};
    for (int i = 0; i < 3; i++, to += 4 * s.elements) {
        t->k->download(t->dev, to, buffers[i], 4 * s.elements);
        order_floats(to, s.elements);
    }
}

enum fpl_code fpl_checkpoint_write(struct fpl_trainer *t, const char *path, struct fpl_error *err) {
    struct codec c = {.version = VERSION};
    trainer_state(&c, t);
    struct layout l = {.configurations = configurations_size(t),
                       .state = c.at,
                       .elements = fpl_model_state(t->model).elements};
    l.total = HEADER + l.configurations + l.state + 12 * l.elements + CHECKSUM;
    unsigned char *file = malloc(l.total);
    if (file == NULL)
        return fpl_fail(err, FPL_SYSTEM, "%s: no memory for a checkpoint of %" PRIu64 " bytes", path,
                        l.total);

    memcpy(file, magic, sizeof magic);
    uint64_t version_and_R = VERSION | (uint64_t)t->R << 32;
    c = (struct codec){.data = file, .size = l.total, .version = VERSION};
    header(&c, &version_and_R, &l);
    for (int r = 0; r < t->R; r++) {
        const size_t size = strlen(t->replica[r].canonical) + 1;
        memcpy(file + c.at, t->replica[r].canonical, size);
        c.at += size;
    }
    trainer_state(&c, t);
    append_buffers(t, file + c.at);
    XXH128_canonical_t sum;
    XXH128_canonicalFromHash(&sum, XXH3_128bits(file, l.total - CHECKSUM));
    memcpy(file + l.total - CHECKSUM, &sum, CHECKSUM);

    enum fpl_code code = t->k->check(t->dev, err);
    if (code == FPL_OK) code = fpl_file_write(path, file, l.total, err);
    free(file);
    return code;
}

/* ---- reading ----------------------------------------------------------------------------------- */

/* The first bytes, so that a large foreign file is not loaded. */
static enum fpl_code check_magic(const char *path, int *found, struct fpl_error *err) {
    char start[sizeof magic] = {0};
    *found = access(path, F_OK) == 0;
    if (!*found) return FPL_OK;
    FILE *f = fopen(path, "rb");
    if (f == NULL) return fpl_fail(err, FPL_SYSTEM, "%s: cannot be opened, is it readable?", path);
    const size_t n = fread(start, 1, sizeof start, f);
    fclose(f);
    if (n < sizeof start && memcmp(start, magic, n) == 0)
        return fpl_fail(err, FPL_INVALID,
                        "%s: truncated checkpoint, it has %zu bytes; remove it to start anew", path, n);
    if (memcmp(start, magic, sizeof magic) != 0)
        return fpl_fail(err, FPL_INVALID, "%s: no fplaw checkpoint (it does not begin with FPLCKPT)", path);
    return FPL_OK;
}

static enum fpl_code check_file(const char *path, unsigned char *file, size_t size, uint64_t *version_and_R,
                                struct layout *l, struct fpl_error *err) {
    struct codec c = {.data = file, .size = size, .reading = 1};
    if (size < HEADER + CHECKSUM)
        return fpl_fail(err, FPL_INVALID,
                        "%s: truncated checkpoint, it has %zu bytes; remove it to start anew", path, size);
    header(&c, version_and_R, l);
    const uint64_t version = *version_and_R & 0xffffffffu;
    if (version < OLDEST || version > VERSION)
        return fpl_fail(err, FPL_INVALID, "%s: checkpoint version %" PRIu64 ", this program reads %u to %u",
                        path, version, OLDEST, VERSION);
    if (l->total != size)
        return fpl_fail(err, FPL_INVALID,
                        "%s: %s checkpoint, it has %zu bytes and names %" PRIu64 "; remove it to start anew",
                        path, size < l->total ? "truncated" : "damaged", size, l->total);
    XXH128_canonical_t sum;
    XXH128_canonicalFromHash(&sum, XXH3_128bits(file, size - CHECKSUM));
    if (memcmp(&sum, file + size - CHECKSUM, CHECKSUM) != 0)
        return fpl_fail(err, FPL_INVALID,
                        "%s: damaged checkpoint, its checksum does not hold; remove it to start anew", path);
    const uint64_t body = size - HEADER - CHECKSUM;
    if (l->configurations > body || l->state > body - l->configurations ||
        l->elements != (body - l->configurations - l->state) / 12 ||
        (body - l->configurations - l->state) % 12 != 0)
        return fpl_fail(err, FPL_INVALID, "%s: damaged checkpoint, its sizes contradict each other", path);
    return FPL_OK;
}

/* The first line in which two canonical texts differ. */
static enum fpl_code name_difference(const char *path, const char *here, const char *there,
                                     struct fpl_error *err) {
    for (;;) {
        const int a = (int)strcspn(here, "\n"), b = (int)strcspn(there, "\n");
        if (a != b || memcmp(here, there, (size_t)a) != 0 || here[a] == '\0')
            return fpl_fail(err, FPL_INVALID,
                            "%s: checkpoint of another configuration: it has %.*s, this run has %.*s", path,
                            b < 120 ? b : 120, there, a < 120 ? a : 120, here);
        here += a + 1;
        there += b + (there[b] != '\0');
    }
}

static enum fpl_code check_configurations(const struct fpl_trainer *t, const char *path,
                                          const unsigned char *texts, const struct layout *l, uint64_t R,
                                          struct fpl_error *err) {
    const char *text = (const char *)texts, *end = text + l->configurations;
    if (R != (uint64_t)t->R)
        return fpl_fail(err, FPL_INVALID, "%s: checkpoint of %" PRIu64 " runs side by side, here are %d",
                        path, R, t->R);
    for (int r = 0; r < t->R; r++) {
        const size_t left = (size_t)(end - text);
        if (memchr(text, '\0', left) == NULL)
            return fpl_fail(err, FPL_INVALID, "%s: damaged checkpoint, a configuration does not end", path);
        if (strcmp(text, t->replica[r].canonical) != 0)
            return name_difference(path, t->replica[r].canonical, text, err);
        text += strlen(text) + 1;
    }
    if (l->elements != fpl_model_state(t->model).elements)
        return fpl_fail(err, FPL_INVALID, "%s: checkpoint of %" PRIu64 " elements, this model has %zu", path,
                        l->elements, fpl_model_state(t->model).elements);
    return FPL_OK;
}

static void restore_buffers(struct fpl_trainer *t, unsigned char *from) {
    const struct fpl_model_state s = fpl_model_state(t->model);
    fpl_real *const buffers[] = {s.parameters, s.moment1, s.moment2};
    for (int i = 0; i < 3; i++, from += 4 * s.elements) {
        order_floats(from, s.elements);
        t->k->upload(t->dev, buffers[i], from, 4 * s.elements);
    }
    fpl_model_changed(t->model);
}

enum fpl_code fpl_checkpoint_read(struct fpl_trainer *t, const char *path, int *found,
                                  struct fpl_error *err) {
    char *text = NULL;
    size_t size;
    uint64_t version_and_R = 0;
    struct layout l = {0};
    enum fpl_code code = check_magic(path, found, err);
    if (code != FPL_OK || !*found) return code;
    code = fpl_file_read(path, SIZE_MAX / 4, &text, &size, err);
    if (code != FPL_OK) return code;
    unsigned char *file = (unsigned char *)text;
    code = check_file(path, file, size, &version_and_R, &l, err);
    if (code == FPL_OK) code = check_configurations(t, path, file + HEADER, &l, version_and_R >> 32, err);
    if (code == FPL_OK) {
        struct codec c = {.data = file + HEADER + l.configurations, .size = l.state, .reading = 1};
        c.version = (unsigned)(version_and_R & 0xffffffffu);
        trainer_state(&c, t);
        if (c.failed || c.at != l.state)
            code =
                fpl_fail(err, FPL_INVALID, "%s: damaged checkpoint, its state does not fit its size", path);
        else
            restore_buffers(t, file + HEADER + l.configurations + l.state);
    }
    free(text);
    return code == FPL_OK ? t->k->check(t->dev, err) : code;
}
