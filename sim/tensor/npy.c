/* npy.c - the header of NumPy's .npy files (NumPy enhancement proposal 1).
 *
 * "\x93NUMPY", major and minor version, the length of the header text (2 bytes in version 1,
 * else 4, little-endian), then a Python dictionary of exactly three keys: descr,
 * fortran_order, shape.  It is read token by token, so that text inside one value is never
 * taken for another key.  Accepted are the float types of tensor.h in C order, or in Fortran
 * order where the two agree (at most one axis longer than 1), and exactly as many bytes of
 * data as the shape says.
 */
#include <stdlib.h>
#include <string.h>

#include "tensor.h"

static const uint8_t magic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};
enum { HEADER_MOST = 1 << 16 };

int fpl_npy_is(const uint8_t *data, uint64_t size) {
    return size >= sizeof magic && memcmp(data, magic, sizeof magic) == 0;
}

/* The header text and how far it was read. */
struct text {
    const char *begin, *at, *end;
};

static void skip_spaces(struct text *t) {
    while (t->at < t->end && (*t->at == ' ' || *t->at == '\n' || *t->at == '\t')) t->at++;
}

/* One character, spaces before it skipped; 0 if something else is there. */
static int take(struct text *t, char c) {
    skip_spaces(t);
    if (t->at == t->end || *t->at != c) return 0;
    t->at++;
    return 1;
}

/* A quoted string without escapes, cut to fit; 0 if there is none. */
static int take_string(struct text *t, char *out, size_t size) {
    skip_spaces(t);
    if (t->at == t->end || (*t->at != '\'' && *t->at != '"')) return 0;
    const char quote = *t->at++;
    size_t n = 0;
    for (; t->at < t->end && *t->at != quote && *t->at != '\\'; t->at++)
        if (n + 1 < size) out[n++] = *t->at;
    out[n] = '\0';
    return take(t, quote);
}

static int take_word(struct text *t, const char *word) {
    const size_t n = strlen(word);
    skip_spaces(t);
    if ((size_t)(t->end - t->at) < n || memcmp(t->at, word, n) != 0) return 0;
    t->at += n;
    return 1;
}

/* "(3, 4)", "(7,)" or "()". */
static int take_shape(struct text *t, struct fpl_tensor *out) {
    out->axes = 0;
    if (!take(t, '(')) return 0;
    while (!take(t, ')')) {
        if (out->axes == FPL_TENSOR_AXES) return 0;
        int64_t axis = 0;
        int digits = 0;
        for (skip_spaces(t); t->at < t->end && *t->at >= '0' && *t->at <= '9'; t->at++, digits++) {
            if (axis > (INT64_MAX - 9) / 10) return 0;
            axis = 10 * axis + (*t->at - '0');
        }
        if (digits == 0) return 0;
        out->shape[out->axes++] = axis;
        if (take(t, ',')) continue;
        if (!take(t, ')')) return 0;
        return out->axes > 1; /* "(7)" is a number, not a shape */
    }
    return 1;
}

struct header {
    char descr[32];
    int fortran;
    int have_descr, have_order, have_shape;
};

static enum fpl_code parse_dictionary(const char *name, struct text *t, struct header *h,
                                      struct fpl_tensor *out, struct fpl_error *err) {
    char key[32];
    if (!take(t, '{'))
        return fpl_fail(err, FPL_INVALID, "%s: .npy header is no dictionary; accepted: {'descr': ..}", name);
    while (!take(t, '}')) {
        int *have = NULL;
        if (take_string(t, key, sizeof key) && take(t, ':'))
            have = strcmp(key, "descr") == 0           ? &h->have_descr
                   : strcmp(key, "fortran_order") == 0 ? &h->have_order
                   : strcmp(key, "shape") == 0         ? &h->have_shape
                                                       : NULL;
        if (have == NULL || *have)
            return fpl_fail(err, FPL_INVALID,
                            "%s: .npy header with an unknown or repeated key before byte %lld of its text; "
                            "accepted: descr, "
                            "fortran_order, shape",
                            name, (long long)(t->at - t->begin));
        *have = 1;
        if (have == &h->have_descr && !take_string(t, h->descr, sizeof h->descr))
            return fpl_fail(err, FPL_INVALID,
                            "%s: .npy of a structured or unreadable type; accepted: '<f4', '<f2', '<V2'",
                            name);
        if (have == &h->have_order && !(h->fortran = take_word(t, "True")) && !take_word(t, "False"))
            return fpl_fail(err, FPL_INVALID, "%s: .npy with fortran_order neither True nor False", name);
        if (have == &h->have_shape && !take_shape(t, out))
            return fpl_fail(err, FPL_INVALID,
                            "%s: .npy with an unreadable shape; accepted: as (3, 4), up to %d axes", name,
                            FPL_TENSOR_AXES);
        if (take(t, ',')) continue;
        if (take(t, '}')) break;
        return fpl_fail(err, FPL_INVALID, "%s: .npy header lacks a comma or its closing brace", name);
    }
    if (!h->have_descr || !h->have_order || !h->have_shape)
        return fpl_fail(err, FPL_INVALID, "%s: .npy header lacks descr, fortran_order or shape", name);
    skip_spaces(t);
    if (t->at < t->end && *t->at != '\0')
        return fpl_fail(err, FPL_INVALID, "%s: .npy header goes on after its closing brace", name);
    return FPL_OK;
}

/* '<V2' is what two bytes of a type that NumPy itself does not know look like. */
static enum fpl_code read_descr(const char *name, const char *descr, int raw, enum fpl_dtype *dtype,
                                struct fpl_error *err) {
    const int two_bytes = strcmp(descr, "<V2") == 0 || strcmp(descr, "|V2") == 0;
    if (strcmp(descr, "<f4") == 0)
        *dtype = FPL_DTYPE_F32;
    else if (strcmp(descr, "<f2") == 0)
        *dtype = FPL_DTYPE_F16;
    else if (two_bytes && raw != FPL_DTYPE_F16 && raw != FPL_DTYPE_F32)
        *dtype = FPL_DTYPE_BF16;
    else if (strcmp(descr, "<u2") == 0 && (raw == FPL_DTYPE_F16 || raw == FPL_DTYPE_BF16))
        *dtype = (enum fpl_dtype)raw;
    else
        return fpl_fail(
            err, FPL_INVALID,
            "%s: .npy of type '%.16s'; accepted: '<f4' (float32), '<f2' (float16), '<V2' (bfloat16 "
            "as ml_dtypes saves it), '<u2' with a dtype given",
            name, descr);
    return FPL_OK;
}

static enum fpl_code check_data(struct fpl_container *c, const char *name, struct fpl_tensor *t,
                                struct fpl_error *err) {
    const int64_t width = fpl_dtype_bytes(t->dtype);
    if (fpl_tensor_view(t) != 0)
        return fpl_fail(err, FPL_INVALID, "%s: .npy with an unreadable shape: it overflows", name);
    if (t->elements > INT64_MAX / width || (uint64_t)(t->elements * width) != c->size - c->data_at)
        return fpl_fail(err, FPL_INVALID,
                        "%s: %llu bytes of data do not hold the .npy shape, %lld x %lld of %d bytes", name,
                        (unsigned long long)(c->size - c->data_at), (long long)t->rows, (long long)t->cols,
                        (int)width);
    t->at = c->data_at;
    t->bytes = c->size - c->data_at;
    return FPL_OK;
}

enum fpl_code fpl_npy_parse(struct fpl_container *c, const char *name, int raw, struct fpl_error *err) {
    const uint8_t *d = c->data;
    const uint64_t prefix = c->size > 6 && d[6] == 1 ? 10 : 12;
    if (c->size < prefix || d[6] < 1 || d[6] > 3)
        return fpl_fail(err, FPL_INVALID, "%s: truncated or unknown .npy header; accepted: versions 1 to 3",
                        name);
    uint64_t length = 0;
    for (uint64_t i = prefix; i-- > 8;) length = length << 8 | d[i];
    if (length > HEADER_MOST || length > c->size - prefix)
        return fpl_fail(err, FPL_INVALID,
                        "%s: .npy header of %llu bytes in a file of %llu; accepted: at most %d", name,
                        (unsigned long long)length, (unsigned long long)c->size, HEADER_MOST);
    c->data_at = prefix + length;
    c->tensors = calloc(1, sizeof *c->tensors);
    if (c->tensors == NULL) return fpl_fail(err, FPL_SYSTEM, "%s: out of memory", name);
    c->count = 1;
    struct fpl_tensor *t = c->tensors;
    t->name = strdup("");
    if (t->name == NULL) return fpl_fail(err, FPL_SYSTEM, "%s: out of memory", name);

    struct header h = {.fortran = 0};
    const char *begin = (const char *)d + prefix;
    struct text text = {begin, begin, begin + length};
    enum fpl_code code = parse_dictionary(name, &text, &h, t, err);
    if (code == FPL_OK) code = read_descr(name, h.descr, raw, &t->dtype, err);
    if (code == FPL_OK) code = check_data(c, name, t, err);
    if (code != FPL_OK) return code;
    memcpy(t->dtype_name, h.descr, 4); /* known by now: "<f4" and the like */
    int long_axes = 0;
    for (int i = 0; i < t->axes; i++) long_axes += t->shape[i] > 1;
    if (h.fortran && long_axes > 1)
        return fpl_fail(err, FPL_INVALID,
                        "%s: .npy in Fortran order; accepted: C order (numpy.ascontiguousarray)", name);
    return FPL_OK;
}
