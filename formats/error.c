/* error.c - see error.h.  The message lies in a fixed buffer, and where memory for a
 * longer one is missing it is cut short: reporting a failure cannot itself fail. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A message is one line whatever was quoted in it. */
static void one_line(char *text) {
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f) *text = '?';
}

/* What does not fit loses its middle, where a long name is quoted, so that the reason at the
 * end stays. */
static void keep_ends(struct fpl_error *err, const char *text, size_t length) {
    static const char gap[] = " ... ";
    const size_t room = sizeof err->text - 1, head = (room - (sizeof gap - 1)) / 2;
    if (length <= room) {
        memcpy(err->text, text, length);
        err->text[length] = '\0';
    } else {
        const size_t tail = room - head - (sizeof gap - 1);
        memcpy(err->text, text, head);
        memcpy(err->text + head, gap, sizeof gap - 1);
        memcpy(err->text + room - tail, text + length - tail, tail);
        err->text[room] = '\0';
    }
    one_line(err->text);
}

enum fpl_code fpl_fail(struct fpl_error *err, enum fpl_code code, const char *fmt, ...) {
    if (err == NULL) return code;
    char *text = NULL;
    va_list args;
    va_start(args, fmt);
    const int length = vasprintf(&text, fmt, args);
    va_end(args);
    if (length >= 0) {
        keep_ends(err, text, (size_t)length);
        free(text);
    } else {
        va_start(args, fmt);
        vsnprintf(err->text, sizeof err->text, fmt, args);
        va_end(args);
        one_line(err->text);
    }
    err->code = code;
    return code;
}

enum fpl_code fpl_fail_at(struct fpl_error *err, const char *fmt, ...) {
    if (err == NULL) return FPL_INVALID;
    char where[sizeof err->text], text[2 * sizeof err->text];
    va_list args;
    va_start(args, fmt);
    vsnprintf(where, sizeof where, fmt, args);
    va_end(args);
    const int length = snprintf(text, sizeof text, "%s: %s", where, err->text);
    keep_ends(err, text, (size_t)length < sizeof text ? (size_t)length : sizeof text - 1);
    return err->code;
}

/* Levenshtein distance of words of at most 63 characters; longer ones count as far. */
static int edit_distance(const char *a, const char *b) {
    int row[64];
    size_t na = strlen(a), nb = strlen(b);
    if (na > 63 || nb > 63) return 64;
    for (size_t j = 0; j <= nb; j++) row[j] = (int)j;
    for (size_t i = 1; i <= na; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= nb; j++) {
            int up = row[j], best = diagonal + (a[i - 1] != b[j - 1]);
            if (up + 1 < best) best = up + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = up;
            row[j] = best;
        }
    }
    return row[nb];
}

const char *fpl_nearest_word(const char *found, const char *const *words) {
    const char *best = NULL;
    int limit = 1 + (int)strlen(found) / 3, least = limit + 1;
    for (; *words != NULL; words++) {
        int d = edit_distance(found, *words);
        if (d < least) least = d, best = *words;
    }
    return best;
}
