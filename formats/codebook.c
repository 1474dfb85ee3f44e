/* codebook.c - reading lists of values, and the process's table of known ones.
 *
 * The table is a linked list behind a mutex: a process meets a handful of codebooks, looks them
 * up when a recipe is parsed or lowered, and never removes one.  The named ones are added before
 * the first look-up.
 *
 * nf4: the 16 values of QLoRA (arXiv 2305.14314, appendix E), quantiles of the normal
 * distribution scaled to [-1, 1] with an exact zero.
 */
#include "codebook.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static const float nf4[16] = {-1.0f,
                              -0.6961928009986877f,
                              -0.5250730514526367f,
                              -0.39491748809814453f,
                              -0.28444138169288635f,
                              -0.18477343022823334f,
                              -0.09105003625154495f,
                              0.0f,
                              0.07958029955625534f,
                              0.16093020141124725f,
                              0.24611230194568634f,
                              0.33791524171829224f,
                              0.44070982933044434f,
                              0.5626170039176941f,
                              0.7229568362236023f,
                              1.0f};

const struct fpl_named_codebook fpl_named_codebooks[] = {
    {"nf4", "16 normal quantiles in [-1, 1], scaled by absmax", "arXiv 2305.14314", 16, nf4},
    {NULL, NULL, NULL, 0, NULL},
};

/* ---- the table ----------------------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct fpl_codebook *table; /* newest first */
static int named_added;

static uint64_t hash_of(const float *ascending, size_t count) {
    uint8_t bytes[4096];
    size_t used = 0;
    XXH64_state_t state;
    XXH64_reset(&state, 0);
    for (size_t i = 0; i < count; i++) {
        uint32_t u;
        memcpy(&u, &ascending[i], sizeof u);
        for (int b = 0; b < 4; b++) bytes[used++] = (uint8_t)(u >> (8 * b));
        if (used == sizeof bytes || i + 1 == count) {
            XXH64_update(&state, bytes, used);
            used = 0;
        }
    }
    const uint64_t hash = XXH64_digest(&state);
    return hash != 0 ? hash : 1;
}

static struct fpl_codebook *look_up(uint64_t hash) {
    for (struct fpl_codebook *c = table; c != NULL; c = c->next)
        if (c->hash == hash) return c;
    return NULL;
}

static void add_named(void) {
    static struct fpl_codebook named[sizeof fpl_named_codebooks / sizeof fpl_named_codebooks[0]];
    if (named_added) return;
    named_added = 1;
    for (size_t i = 0; fpl_named_codebooks[i].name != NULL; i++) {
        const struct fpl_named_codebook *n = &fpl_named_codebooks[i];
        named[i] = (struct fpl_codebook){.hash = hash_of(n->values, (size_t)n->count),
                                         .count = n->count,
                                         .values = n->values,
                                         .name = n->name,
                                         .source = n->source,
                                         .next = table};
        table = &named[i];
    }
}

const struct fpl_codebook *fpl_codebook_find(uint64_t hash) {
    pthread_mutex_lock(&lock);
    add_named();
    const struct fpl_codebook *found = look_up(hash);
    pthread_mutex_unlock(&lock);
    return found;
}

static int ascending(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Takes `values`, ascending, whatever comes out. */
static const struct fpl_codebook *keep(float *values, size_t count, const char *file) {
    struct fpl_codebook *c = calloc(1, sizeof *c);
    const uint64_t hash = hash_of(values, count);
    pthread_mutex_lock(&lock);
    add_named();
    struct fpl_codebook *known = look_up(hash);
    if (known == NULL && c != NULL) {
        *c = (struct fpl_codebook){.hash = hash, .count = (int32_t)count, .values = values, .next = table};
        c->file = file != NULL ? strdup(file) : NULL;
        known = table = c;
        c = NULL;
        values = NULL;
    }
    pthread_mutex_unlock(&lock);
    free(values);
    free(c);
    return known;
}

enum fpl_code fpl_codebook_add(const float *values, size_t count, const char *where,
                               const struct fpl_codebook **out, struct fpl_error *err) {
    const char *name = where != NULL ? where : "codebook";
    if (count == 0 || count > FPL_CODEBOOK_MOST)
        return fpl_fail(err, FPL_INVALID, "%s: %zu values; accepted: 1 to %d", name, count,
                        (int)FPL_CODEBOOK_MOST);
    float *sorted = malloc(count * sizeof *sorted);
    if (sorted == NULL) return fpl_fail(err, FPL_SYSTEM, "%s: no memory for %zu values", name, count);
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(values[i])) {
            free(sorted);
            return fpl_fail(err, FPL_INVALID, "%s: value %zu is not finite; accepted: float32 values", name,
                            i + 1);
        }
        sorted[i] = values[i] + 0.0f; /* -0 is 0 */
    }
    qsort(sorted, count, sizeof *sorted, ascending);
    for (size_t i = 1; i < count; i++) {
        if (sorted[i] != sorted[i - 1]) continue;
        const double twice = (double)sorted[i];
        free(sorted);
        return fpl_fail(err, FPL_INVALID, "%s: the value %.9g is there twice; accepted: different values",
                        name, twice);
    }
    *out = keep(sorted, count, where);
    return *out != NULL ? FPL_OK : fpl_fail(err, FPL_SYSTEM, "%s: out of memory", name);
}

/* ---- files ----------------------------------------------------------------------------------- */

struct reader {
    const char *text, *where;
    size_t size, at;
    size_t line, start; /* of the line: for messages */
};

static int is_separator(char c) { return c == ' ' || c == '\t' || c == ',' || c == '\r' || c == '\n'; }

/* To the next value; 0 at the end. */
static int skip_blanks(struct reader *r) {
    int comment = 0;
    for (; r->at < r->size; r->at++) {
        const char c = r->text[r->at];
        if (c == '\n') {
            comment = 0;
            r->line++;
            r->start = r->at + 1;
        } else if (c == '#') {
            comment = 1;
        } else if (!comment && !is_separator(c)) {
            return 1;
        }
    }
    return 0;
}

static enum fpl_code read_value(struct reader *r, float *value, struct fpl_error *err) {
    char word[64], *end;
    const size_t from = r->at, column = from - r->start + 1;
    while (r->at < r->size && !is_separator(r->text[r->at]) && r->text[r->at] != '#') r->at++;
    const size_t n = r->at - from;
    snprintf(word, sizeof word, "%.*s", (int)(n < 40 ? n : 40), r->text + from);
    const char first = word[0] == '-' || word[0] == '+' ? word[1] : word[0];
    const int number = (first >= '0' && first <= '9') || first == '.';
    char *copy = n < sizeof word ? word : NULL;
    if (copy != NULL) memcpy(copy, r->text + from, n), copy[n] = '\0';
    errno = 0;
    *value = copy != NULL && number ? strtof(copy, &end) : 0.0f;
    if (copy == NULL || !number || *end != '\0' || strlen(copy) != n)
        return fpl_fail(
            err, FPL_INVALID,
            "%s, line %zu, column %zu: found \"%.40s\", expected a number as 0.5, -1e-3 or 0x1p-4", r->where,
            r->line, column, word);
    if (!isfinite(*value))
        return fpl_fail(err, FPL_INVALID,
                        "%s, line %zu, column %zu: %.40s is beyond float32; accepted: at "
                        "most 3.40282347e+38",
                        r->where, r->line, column, word);
    return FPL_OK;
}

enum fpl_code fpl_codebook_parse(const char *text, size_t size, const char *where,
                                 const struct fpl_codebook **out, struct fpl_error *err) {
    struct reader r = {.text = text, .where = where != NULL ? where : "codebook", .size = size, .line = 1};
    float *values = malloc(FPL_CODEBOOK_MOST * sizeof *values);
    size_t count = 0;
    enum fpl_code code = FPL_OK;
    if (values == NULL) return fpl_fail(err, FPL_SYSTEM, "%s: out of memory", r.where);
    while (code == FPL_OK && skip_blanks(&r)) {
        float value;
        code = read_value(&r, &value, err);
        if (code == FPL_OK && count == FPL_CODEBOOK_MOST)
            code = fpl_fail(err, FPL_INVALID, "%s, line %zu: more than the %d values accepted", r.where,
                            r.line, (int)FPL_CODEBOOK_MOST);
        else if (code == FPL_OK)
            values[count++] = value;
    }
    if (code == FPL_OK) code = fpl_codebook_add(values, count, where, out, err);
    free(values);
    return code;
}

enum fpl_code fpl_codebook_read(const char *path, const struct fpl_codebook **out, struct fpl_error *err) {
    struct stat status;
    /* A pipe would be waited for, a directory opens: only what is a file is read. */
    if (stat(path, &status) != 0)
        return fpl_fail(err, errno == ENOENT || errno == ENOTDIR ? FPL_INVALID : FPL_SYSTEM,
                        "codebook \"%s\": %s", path, strerror(errno));
    if (!S_ISREG(status.st_mode))
        return fpl_fail(err, FPL_INVALID, "codebook \"%s\" is no regular file; accepted: a file of numbers",
                        path);
    if (status.st_size > FPL_CODEBOOK_FILE_MOST)
        return fpl_fail(err, FPL_INVALID, "codebook \"%s\" has %lld bytes; accepted: at most %d", path,
                        (long long)status.st_size, (int)FPL_CODEBOOK_FILE_MOST);
    FILE *f = fopen(path, "rb");
    if (f == NULL) return fpl_fail(err, FPL_SYSTEM, "codebook \"%s\": %s", path, strerror(errno));
    char *text = malloc(FPL_CODEBOOK_FILE_MOST + 1);
    const size_t size = text != NULL ? fread(text, 1, FPL_CODEBOOK_FILE_MOST + 1, f) : 0;
    const int failed = ferror(f);
    fclose(f);
    enum fpl_code code;
    if (text == NULL)
        code = fpl_fail(err, FPL_SYSTEM, "codebook \"%s\": out of memory", path);
    else if (failed || size > FPL_CODEBOOK_FILE_MOST)
        code = fpl_fail(err, FPL_SYSTEM, "codebook \"%s\" cannot be read", path);
    else
        code = fpl_codebook_parse(text, size, path, out, err);
    free(text);
    return code;
}

/* ---- names in canonical texts ----------------------------------------------------------------- */

uint64_t fpl_codebook_next(const char *text, size_t *at) {
    static const char mark[] = "codebook(#";
    for (const char *p; (p = strstr(text + *at, mark)) != NULL;) {
        char *end;
        p += sizeof mark - 1;
        *at = (size_t)(p - text);
        const uint64_t hash = strspn(p, "0123456789abcdef") == 16 ? strtoull(p, &end, 16) : 0;
        if (hash != 0 && *end == ')') return hash;
    }
    return 0;
}

enum fpl_code fpl_codebooks_known(const char *text, struct fpl_error *err) {
    size_t at = 0;
    for (uint64_t hash; (hash = fpl_codebook_next(text, &at)) != 0;)
        if (fpl_codebook_find(hash) == NULL)
            return fpl_fail(err, FPL_INVALID,
                            "the values of codebook(#%016llx) are not known here; accepted: codebook(FILE) "
                            "with the file that holds them",
                            (unsigned long long)hash);
    return FPL_OK;
}
