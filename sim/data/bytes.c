/* bytes.c - `bytes:FILE{:FILE}`: the bytes of any files, vocabulary 256.
 *
 * A colon cannot be part of a file's name.  What is trained on and what is held out:
 * corpus.h.
 */
#include "corpus.h"

static enum fpl_code locate(const uint8_t *bytes, size_t size, size_t *begin, int64_t *count,
                            struct fpl_error *err) {
    (void)bytes, (void)err;
    *begin = 0;
    *count = (int64_t)size;
    return FPL_OK;
}

static enum fpl_code bytes_open(struct fpl_data *d, const char *args, struct fpl_error *err) {
    if (args == NULL || *args == '\0')
        return fpl_fail(err, FPL_INVALID, "data: bytes names no file; accepted is %s", d->kind->grammar);
    return fpl_corpus_open(d, args, 1, 256, locate, err);
}

const struct fpl_source_kind fpl_source_bytes = {
    .name = "bytes",
    .grammar = "bytes:FILE[:FILE...]",
    .open = bytes_open,
    .close = fpl_corpus_close,
    .train = fpl_corpus_train,
    .held_out = fpl_corpus_held_out,
};
