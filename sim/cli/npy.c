/* npy.c - the header of NumPy's .npy files (NumPy enhancement proposal 1).
 *
 * "\x93NUMPY", major and minor version, the length of the header text (2 bytes in version 1,
 * else 4, little-endian), then a Python dictionary: descr, fortran_order, shape.  Only what
 * `fplaw quantize` takes is accepted: '<f4' in C order, as many values as the shape says.
 */
#include "npy.h"

#include <ctype.h>
#include <string.h>

static const char magic[6] = {'\x93', 'N', 'U', 'M', 'P', 'Y'};

int fpl_npy_is(const char *data, size_t size) {
    return size >= sizeof magic && memcmp(data, magic, sizeof magic) == 0;
}

static size_t little_endian(const char *p, int bytes) {
    size_t value = 0;
    for (int i = bytes - 1; i >= 0; i--) value = value << 8 | (unsigned char)p[i];
    return value;
}

/* The text after 'key': inside the header text; NULL if it is not there. */
static const char *value_of(const char *text, const char *key) {
    const char *p = strstr(text, key);
    if (p == NULL) return NULL;
    p += strlen(key);
    while (*p == ' ') p++;
    if (*p++ != ':') return NULL;
    while (*p == ' ') p++;
    return p;
}

/* "(3, 4)", "(7,)" or "()": rows and cols; 0 if it is none of these or overflows. */
static int read_shape(const char *p, int64_t most, int64_t *rows, int64_t *cols) {
    *rows = *cols = 1;
    if (*p++ != '(') return 0;
    for (;;) {
        while (*p == ' ') p++;
        if (*p == ')') return 1;
        if (!isdigit((unsigned char)*p)) return 0;
        int64_t axis = 0;
        while (isdigit((unsigned char)*p)) {
            if (axis > most / 10 - 1) return 0;
            axis = 10 * axis + (*p++ - '0');
        }
        if (*cols != 0 && *rows > most / *cols) return 0;
        *rows *= *cols;
        *cols = axis;
        while (*p == ' ') p++;
        if (*p == ',')
            p++;
        else if (*p != ')')
            return 0;
    }
}

enum fpl_code fpl_npy_header(const char *name, const char *data, size_t size, struct fpl_npy *out,
                             struct fpl_error *err) {
    char text[4096];
    const size_t prefix = size > 6 && data[6] == 1 ? 10 : 12;
    if (size < prefix || data[6] < 1 || data[6] > 3)
        return fpl_fail(err, FPL_INVALID, "%s: truncated or unknown .npy header; accepted: versions 1 to 3",
                        name);
    const size_t length = little_endian(data + 8, (int)prefix - 8);
    if (length >= sizeof text || length > size - prefix)
        return fpl_fail(err, FPL_INVALID,
                        "%s: .npy header of %zu bytes in a file of %zu; accepted: at most %zu", name, length,
                        size, sizeof text - 1);
    memcpy(text, data + prefix, length);
    text[length] = '\0';

    const char *descr = value_of(text, "'descr'"), *order = value_of(text, "'fortran_order'");
    const char *shape = value_of(text, "'shape'");
    if (descr == NULL || order == NULL || shape == NULL)
        return fpl_fail(err, FPL_INVALID, "%s: .npy header lacks descr, fortran_order or shape", name);
    if (strncmp(descr, "'<f4'", 5) != 0)
        return fpl_fail(err, FPL_INVALID, "%s: .npy of type %.16s; accepted: '<f4', little-endian float32",
                        name, descr);
    if (strncmp(order, "False", 5) != 0)
        return fpl_fail(err, FPL_INVALID,
                        "%s: .npy in Fortran order; accepted: C order (numpy.ascontiguousarray)", name);
    out->data_at = prefix + length;
    const int64_t values = (int64_t)((size - out->data_at) / 4);
    if (!read_shape(shape, INT64_MAX / 4, &out->rows, &out->cols))
        return fpl_fail(err, FPL_INVALID, "%s: .npy with an unreadable shape; accepted: as (3, 4)", name);
    const int fits = out->cols == 0 || out->rows <= values / out->cols;
    if (!fits || out->rows * out->cols != values || (size - out->data_at) % 4 != 0)
        return fpl_fail(err, FPL_INVALID,
                        "%s: %zu bytes of data do not hold the .npy shape, %lld x %lld float32", name,
                        size - out->data_at, (long long)out->rows, (long long)out->cols);
    return FPL_OK;
}
