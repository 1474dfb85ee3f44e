/* codebook.h - element formats that are a list of values.
 *
 * A codebook is 1 to 65536 different float32 values in any order; rounding goes to the nearest
 * of them by value (round.h).  It comes from the registry below (nf4) or from a file: numbers
 * as C writes them (decimal or hexadecimal), separated by blanks, commas or line breaks, '#' to
 * the end of a line being a comment.  Each must be a finite float32 value once rounded to
 * nearest, and no two may be equal (0 and -0 are).
 *
 * Identity is content: the XXH64 of the ascending values as little-endian float32, written
 * codebook(#0123456789abcdef).  That is the canonical text, so a run's identity changes when the
 * file's values do and does not when the file moves or is reordered.  The text alone does not
 * hold the values: what names a codebook in a record or in a request to another process carries
 * them beside it (sim/base/codebooks.h).
 *
 * Known contents live in one table per process: they are added once, never changed or freed, so
 * pointers to values stay good (struct fpl_round, plans).  Adding and finding are thread-safe.
 */
#ifndef FPL_CODEBOOK_H
#define FPL_CODEBOOK_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { FPL_CODEBOOK_MOST = 65536, FPL_CODEBOOK_FILE_MOST = 4 << 20 };

struct fpl_codebook {
    uint64_t hash; /* never 0 */
    int32_t count;
    const float *values; /* ascending */
    const char *name;    /* of the registry; NULL: from a file */
    const char *source;  /* of the registry */
    const char *file;    /* where it was first read in this process; NULL: nowhere */
    struct fpl_codebook *next;
};

/* Codebooks with a name; the last row has name NULL. */
struct fpl_named_codebook {
    const char *name, *meaning, *source;
    int count;
    const float *values; /* ascending */
};
extern const struct fpl_named_codebook fpl_named_codebooks[];

/* NULL: this process does not know the content. */
const struct fpl_codebook *fpl_codebook_find(uint64_t hash);

/* Make the content known; values in any order.  where: for messages, and kept as `file` if that
 * is not NULL.  Errors: none or too many values, a value that is not finite, two equal ones. */
enum fpl_code fpl_codebook_add(const float *values, size_t count, const char *where,
                               const struct fpl_codebook **out, struct fpl_error *err);

/* From a file's text, and from a file. */
enum fpl_code fpl_codebook_parse(const char *text, size_t size, const char *where,
                                 const struct fpl_codebook **out, struct fpl_error *err);
enum fpl_code fpl_codebook_read(const char *path, const struct fpl_codebook **out, struct fpl_error *err);

/* The hash named at the next "codebook(#...)" of a canonical text at or after *at, which moves
 * behind it; 0: there is none. */
uint64_t fpl_codebook_next(const char *text, size_t *at);

/* FPL_INVALID if the text names a codebook whose content this process does not know. */
enum fpl_code fpl_codebooks_known(const char *text, struct fpl_error *err);

#ifdef __cplusplus
}
#endif
#endif
