/* file.h - whole files, read with a limit and written whole or not at all.
 *
 * Writing follows symbolic links, as open() does: what a link points at is replaced or, where
 * it is missing, made; the link stays.
 */
#ifndef FPL_FILE_H
#define FPL_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "../../formats/error.h"

/* Read all of path ("-": standard input), at most limit bytes; adds a terminating zero not
 * counted in *size.  Missing, unreadable or too large: one clear line. */
enum fpl_code fpl_file_read(const char *path, size_t limit, char **data, size_t *size, struct fpl_error *err);

/* Write under a temporary name in the same directory, fsync, rename over path.  On failure
 * path is untouched and the temporary file is gone.  path "-": standard output. */
enum fpl_code fpl_file_write(const char *path, const void *data, size_t size, struct fpl_error *err);

/* The same for what does not fit in memory or whose first bytes are known last.  After open,
 * exactly one of commit (sync, rename, sync of the directory) and abandon (the temporary file
 * goes, path is untouched) ends it; abandon after either is harmless.  A writer is direct when
 * path is "-", a pipe or a device: then bytes leave as they are put, in order, and put_at
 * may not be used. */
struct fpl_writer {
    const char *path; /* the caller's, for messages: stays valid until the end */
    char *target, *temporary;
    int fd, direct;
    unsigned mode;
};
enum fpl_code fpl_writer_open(struct fpl_writer *w, const char *path, struct fpl_error *err);
enum fpl_code fpl_writer_put(struct fpl_writer *w, const void *data, size_t size, struct fpl_error *err);
/* At an offset from the start, from any thread, in any order; leaves the position of put alone. */
enum fpl_code fpl_writer_put_at(const struct fpl_writer *w, uint64_t offset, const void *data, size_t size,
                                struct fpl_error *err);
enum fpl_code fpl_writer_commit(struct fpl_writer *w, struct fpl_error *err);
void fpl_writer_abandon(struct fpl_writer *w);

/* Create a directory (parents too); existing is fine. */
enum fpl_code fpl_make_directory(const char *path, struct fpl_error *err);

/* 32 hex digits of XXH128 and a terminator. */
void fpl_hash_text(const void *data, size_t size, char hex[33]);

/* Growing text buffer; text is always terminated; failed is set when memory ran out. */
struct fpl_text {
    char *text;
    size_t size, room;
    int failed;
};
void fpl_text_add(struct fpl_text *t, const char *fmt, ...) FPL_PRINTF(2, 3);
void fpl_text_append(struct fpl_text *t, const char *bytes, size_t size);
void fpl_text_free(struct fpl_text *t);

#endif
