/* checkpoint.c - everything that training changes of one run, in one file of our own format.
 *
 * A run's file is the same, byte for byte but for what was measured, whatever pack it trained in;
 * so runs may be packed otherwise when they go on.  Little-endian throughout; no struct images.
 *
 *   offset  bytes
 *        0      8  magic "FPLCKPT\n"
 *        8      4  version, 2 (1 is read too: it has neither diagnoses nor delayed scaling)
 *       12      4  runs in the file, 1
 *       16      8  size of the whole file
 *       24      8  size of the configuration
 *       32      8  size of the state
 *       40      8  elements of each flat buffer (parameters, moment 1, moment 2)
 *       48         configuration: its canonical text, ended by a zero byte
 *                  state (fpl_code_state() of codec.c is the layout)
 *                  the three flat buffers as a model of one replica lays them out, float32
 *   end-16     16  XXH128 of all before it
 *
 * Reading refuses, in this order: what is no checkpoint; another version; a file whose size
 * is not the one it names (truncated); a wrong checksum (damaged); other configurations
 * (the first differing option is named).  Only then is anything used, so a bad file changes
 * nothing; the file itself is never touched by reading.  Writing is whole or not at all
 * (file.h).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "../base/file.h"
#include "codec.h"

#define VERSION 2u
#define OLDEST 1u
#define HEADER 48u
#define CHECKSUM 16u
static const char magic[8] = {'F', 'P', 'L', 'C', 'K', 'P', 'T', '\n'};

_Static_assert(sizeof(fpl_real) == 4, "checkpoints hold float32");

/* ---- layout ------------------------------------------------------------------------------------ */

struct layout {
    uint64_t total, configurations, state, elements;
};

static size_t aligned(size_t n) {
    return (n + FPL_MODEL_ALIGNMENT - 1) / FPL_MODEL_ALIGNMENT * FPL_MODEL_ALIGNMENT;
}

/* Elements of a flat buffer of one replica. */
static size_t elements(const struct fpl_trainer *t) {
    size_t sum = 0;
    for (int i = 0; i < fpl_model_parameter_count(t->model); i++)
        sum = aligned(sum + (size_t)fpl_model_parameter(t->model, i)->segment.size);
    return sum;
}

static void header(struct codec *c, uint64_t *version_and_runs, struct layout *l) {
    c->at = sizeof magic;
    fpl_code_u64(c, version_and_runs);
    fpl_code_u64(c, &l->total);
    fpl_code_u64(c, &l->configurations);
    fpl_code_u64(c, &l->state);
    fpl_code_u64(c, &l->elements);
}

/* Copies replica r's part of the flat buffers to or from the file's. */
static void copy_buffers(struct fpl_trainer *t, int r, unsigned char *file, int reading) {
    const struct fpl_model_state s = fpl_model_state(t->model);
    fpl_real *const buffers[] = {s.parameters, s.moment1, s.moment2};
    const size_t count = elements(t);
    if (reading) fpl_order_floats(file, 3 * count);
    for (int b = 0; b < 3; b++) {
        size_t at = (size_t)b * count;
        for (int i = 0; i < fpl_model_parameter_count(t->model); i++) {
            const struct fpl_segment *g = &fpl_model_parameter(t->model, i)->segment;
            fpl_real *device = buffers[b] + g->offset + r * g->size;
            if (reading)
                t->k->upload(t->dev, device, file + 4 * at, 4 * (size_t)g->size);
            else
                t->k->download(t->dev, file + 4 * at, device, 4 * (size_t)g->size);
            at = aligned(at + (size_t)g->size);
        }
    }
    if (!reading) fpl_order_floats(file, 3 * count);
}

/* ---- writing ----------------------------------------------------------------------------------- */

enum fpl_code fpl_checkpoint_image(struct fpl_trainer *t, int r, struct fpl_image *out,
                                   struct fpl_error *err) {
    struct codec c = {.version = VERSION};
    const char *canonical = t->replica[r].canonical;
    fpl_code_state(&c, t, r, &t->step);
    struct layout l = {.configurations = strlen(canonical) + 1, .state = c.at, .elements = elements(t)};
    l.total = HEADER + l.configurations + l.state + 12 * l.elements + CHECKSUM;
    *out = (struct fpl_image){.data = calloc(l.total, 1), .size = l.total};
    if (out->data == NULL)
        return fpl_fail(err, FPL_SYSTEM, "no memory for a checkpoint of %" PRIu64 " bytes", l.total);
    memcpy(out->data, magic, sizeof magic);
    uint64_t version_and_runs = VERSION | (uint64_t)1 << 32;
    c = (struct codec){.data = out->data, .size = l.total, .version = VERSION};
    header(&c, &version_and_runs, &l);
    memcpy(out->data + c.at, canonical, l.configurations);
    c.at += l.configurations;
    fpl_code_state(&c, t, r, &t->step);
    copy_buffers(t, r, out->data + c.at, 0);
    XXH128_canonical_t sum;
    XXH128_canonicalFromHash(&sum, XXH3_128bits(out->data, l.total - CHECKSUM));
    memcpy(out->data + l.total - CHECKSUM, &sum, CHECKSUM);
    return t->k->check(t->dev, err);
}

enum fpl_code fpl_checkpoint_write(struct fpl_trainer *t, int r, const char *path, struct fpl_error *err) {
    struct fpl_image image;
    enum fpl_code code = fpl_checkpoint_image(t, r, &image, err);
    if (code == FPL_OK) code = fpl_file_write(path, image.data, image.size, err);
    free(image.data);
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

static enum fpl_code check_file(const char *path, unsigned char *file, size_t size,
                                uint64_t *version_and_runs, struct layout *l, struct fpl_error *err) {
    struct codec c = {.data = file, .size = size, .reading = 1};
    if (size < HEADER + CHECKSUM)
        return fpl_fail(err, FPL_INVALID,
                        "%s: truncated checkpoint, it has %zu bytes; remove it to start anew", path, size);
    header(&c, version_and_runs, l);
    const uint64_t version = *version_and_runs & 0xffffffffu;
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

static enum fpl_code check_configuration(const struct fpl_trainer *t, int r, const char *path,
                                         const unsigned char *text, const struct layout *l, uint64_t runs,
                                         struct fpl_error *err) {
    if (runs != 1)
        return fpl_fail(err, FPL_INVALID, "%s: checkpoint of %" PRIu64 " runs, 1 is accepted", path, runs);
    if (memchr(text, '\0', l->configurations) == NULL)
        return fpl_fail(err, FPL_INVALID, "%s: damaged checkpoint, its configuration does not end", path);
    if (strcmp((const char *)text, t->replica[r].canonical) != 0)
        return name_difference(path, t->replica[r].canonical, (const char *)text, err);
    if (l->elements != elements(t))
        return fpl_fail(err, FPL_INVALID, "%s: checkpoint of %" PRIu64 " elements, this model has %zu", path,
                        l->elements, elements(t));
    return FPL_OK;
}

enum fpl_code fpl_checkpoint_restore(struct fpl_trainer *t, int r, const char *path, struct fpl_image *image,
                                     struct fpl_error *err) {
    uint64_t version_and_runs = 0;
    int64_t step = 0;
    struct layout l = {0};
    enum fpl_code code = check_file(path, image->data, image->size, &version_and_runs, &l, err);
    if (code == FPL_OK)
        code = check_configuration(t, r, path, image->data + HEADER, &l, version_and_runs >> 32, err);
    if (code != FPL_OK) return code;
    struct codec c = {.data = image->data + HEADER + l.configurations, .size = l.state, .reading = 1};
    c.version = (unsigned)(version_and_runs & 0xffffffffu);
    fpl_code_state(&c, t, r, &step);
    if (c.failed || c.at != l.state)
        return fpl_fail(err, FPL_INVALID, "%s: damaged checkpoint, its state does not fit its size", path);
    if (r == 0) t->step = step;
    if (step != t->step)
        return fpl_fail(err, FPL_INVALID,
                        "%s: checkpoint after step %lld, the runs before it in the pack are at step %lld",
                        path, (long long)step, (long long)t->step);
    copy_buffers(t, r, image->data + HEADER + l.configurations + l.state, 1);
    fpl_model_changed(t->model);
    return t->k->check(t->dev, err);
}

enum fpl_code fpl_checkpoint_read(struct fpl_trainer *t, int r, const char *path, struct fpl_error *err) {
    char *text = NULL;
    size_t size = 0;
    int found = 0;
    enum fpl_code code = check_magic(path, &found, err);
    if (code == FPL_OK && !found && t->step != 0)
        return fpl_fail(err, FPL_INVALID,
                        "%s: no checkpoint, the runs before it in the pack are at step %lld", path,
                        (long long)t->step);
    if (code != FPL_OK || !found) return code;
    code = fpl_file_read(path, SIZE_MAX / 4, &text, &size, err);
    struct fpl_image image = {(unsigned char *)text, size};
    if (code == FPL_OK) code = fpl_checkpoint_restore(t, r, path, &image, err);
    free(text);
    return code;
}

int64_t fpl_checkpoint_step(const char *path) {
    unsigned char start[HEADER];
    uint64_t version_and_runs, step = 0;
    struct layout l;
    FILE *f = fopen(path, "rb");
    if (f == NULL) return access(path, F_OK) == 0 ? -1 : 0;
    int sound = fread(start, 1, HEADER, f) == HEADER && memcmp(start, magic, sizeof magic) == 0;
    if (sound) {
        struct codec c = {.data = start, .size = HEADER, .reading = 1};
        header(&c, &version_and_runs, &l);
        sound = l.configurations < 1 << 20 && fseek(f, (long)l.configurations, SEEK_CUR) == 0 &&
                fread(start, 1, 8, f) == 8;
    }
    if (sound) {
        struct codec c = {.data = start, .size = 8, .reading = 1};
        fpl_code_u64(&c, &step);
    }
    fclose(f);
    return sound && step <= INT64_MAX ? (int64_t)step : -1;
}
