/* error.c - see error.h.  The message is formatted into a fixed buffer, so reporting a
 * failure cannot itself fail. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A message is one line whatever was quoted in it. */
static void one_line(char *text) {
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f) *text = '?';
}

enum fpl_code fpl_fail(struct fpl_error *err, enum fpl_code code, const char *fmt, ...) {
    if (err == NULL) return code;
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
    one_line(err->text);
    err->code = code;
    return code;
}

enum fpl_code fpl_fail_at(struct fpl_error *err, const char *fmt, ...) {
    if (err == NULL) return FPL_INVALID;
    char where[sizeof err->text], text[sizeof err->text];
    va_list args;
    va_start(args, fmt);
    vsnprintf(where, sizeof where, fmt, args);
    va_end(args);
    memcpy(text, err->text, sizeof text);
    size_t used = strnlen(where, sizeof where - 3);
    memcpy(err->text, where, used);
    memcpy(err->text + used, ": ", 2);
    size_t rest = strnlen(text, sizeof err->text - used - 3);
    memcpy(err->text + used + 2, text, rest);
    err->text[used + 2 + rest] = '\0';
    one_line(err->text);
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
