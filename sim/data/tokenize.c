/* tokenize.c - bytes of text files to a token shard (shard.h), one token a byte.
 *
 * Texts may be pipes of unknown length, so the shard is written as it is read, into a
 * temporary file beside it, and its header last (struct fpl_writer of sim/base/file.h).  At
 * every moment the shard's name is absent, the old file or the new one.  A signal that the
 * caller counts in *stop is looked for before every part, and twice a second while a pipe has
 * none.
 */
#include "data.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../base/file.h"
#include "shard.h"

enum { PART = 1 << 14, PATIENCE = 500 /* milliseconds */ };

static enum fpl_code stopped(const char *out, const volatile sig_atomic_t *stop, struct fpl_error *err) {
    return fpl_fail(err, FPL_STOPPED, "%s: not written: stopped by signal %d", out, (int)*stop);
}

/* One open text, all of it; *count grows by its bytes. */
static enum fpl_code convert(int in, const char *name, struct fpl_writer *w, int64_t *count,
                             const volatile sig_atomic_t *stop, struct fpl_error *err) {
    uint8_t text[PART], tokens[2 * PART];
    for (;;) {
        struct pollfd source = {.fd = in, .events = POLLIN};
        if (stop != NULL && *stop != 0) return stopped(w->path, stop, err);
        const int ready = poll(&source, 1, PATIENCE);
        if (ready == 0 || (ready < 0 && errno == EINTR)) continue;
        ssize_t n = read(in, text, sizeof text);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0)
            return fpl_fail(err, errno == EISDIR ? FPL_INVALID : FPL_SYSTEM, "%s: cannot be read: %s", name,
                            strerror(errno));
        if (n == 0) return FPL_OK;
        *count += n;
        if (*count > INT32_MAX)
            return fpl_fail(err, FPL_INVALID,
                            "%s: more than the %d tokens that a shard counts; write several shards", name,
                            INT32_MAX);
        for (ssize_t i = 0; i < n; i++) {
            tokens[2 * i] = text[i];
            tokens[2 * i + 1] = 0;
        }
        const enum fpl_code code = fpl_writer_put(w, tokens, 2 * (size_t)n, err);
        if (code != FPL_OK) return code;
    }
}

static void put_word(uint8_t *p, uint32_t w) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(w >> 8 * i);
}

static void shard_header(int64_t count, uint8_t header[FPL_SHARD_HEADER]) {
    memset(header, 0, FPL_SHARD_HEADER);
    put_word(header, FPL_SHARD_MAGIC);
    put_word(header + 4, FPL_SHARD_VERSION);
    put_word(header + 8, (uint32_t)count);
}

static enum fpl_code convert_file(const char *file, struct fpl_writer *w, int64_t *tokens,
                                  const volatile sig_atomic_t *stop, struct fpl_error *err) {
    const int standard = strcmp(file, "-") == 0;
    const int in = standard ? STDIN_FILENO : open(file, O_RDONLY | O_CLOEXEC);
    if (in < 0 && errno == EINTR && stop != NULL && *stop != 0) return stopped(w->path, stop, err);
    if (in < 0)
        return fpl_fail(err,
                        errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG || errno == ELOOP
                            ? FPL_INVALID
                            : FPL_SYSTEM,
                        "%s: cannot be opened: %s", file, strerror(errno));
    const enum fpl_code code = convert(in, standard ? "standard input" : file, w, tokens, stop, err);
    if (!standard) close(in);
    return code;
}

/* Everything but the last step, which gives the shard its name. */
static enum fpl_code write_shard(struct fpl_writer *w, const char *const *files, int count,
                                 const volatile sig_atomic_t *stop, struct fpl_error *err) {
    uint8_t header[FPL_SHARD_HEADER];
    int64_t tokens = 0;
    shard_header(0, header);
    enum fpl_code code = fpl_writer_put(w, header, sizeof header, err);
    for (int k = 0; code == FPL_OK && k < count; k++) code = convert_file(files[k], w, &tokens, stop, err);
    if (code != FPL_OK) return code;
    if (tokens == 0) return fpl_fail(err, FPL_INVALID, "%s: not written: the texts are empty", w->path);
    shard_header(tokens, header);
    return fpl_writer_put_at(w, 0, header, sizeof header, err);
}

enum fpl_code fpl_data_tokenize_bytes(const char *const *files, int count, const char *out,
                                      const volatile sig_atomic_t *stop, struct fpl_error *err) {
    struct stat st;
    struct fpl_writer w;
    if (*out == '\0') return fpl_fail(err, FPL_INVALID, "an empty name is found where a shard's is expected");
    if (strcmp(out, "-") == 0 || (stat(out, &st) == 0 && !S_ISREG(st.st_mode)))
        return fpl_fail(
            err, FPL_INVALID,
            "%s: is no regular file; a shard's header is written last, so a file name is expected", out);
    int inputs = 0;
    for (int k = 0; k < count; k++) inputs += strcmp(files[k], "-") == 0;
    if (inputs > 1)
        return fpl_fail(err, FPL_INVALID, "standard input can be read only once, '-' is given %d times",
                        inputs);
    enum fpl_code code = fpl_writer_open(&w, out, err);
    if (code != FPL_OK) return code;
    code = write_shard(&w, files, count, stop, err);
    if (code == FPL_OK) return fpl_writer_commit(&w, err);
    fpl_writer_abandon(&w);
    return code;
}
