/* tokenize.c - bytes of text files to a token shard (shard.h), one token a byte.
 *
 * Texts may be pipes of unknown length, so the shard is written as it is read, into a
 * temporary file beside it, and its header last; then sync, rename, sync of the directory, as
 * sim/base/file.h does for what fits in memory.  At every moment the shard's name is
 * absent, the old file or the new one.  A signal that the caller counts in *stop is looked for
 * before every part, and twice a second while a pipe has none.
 */
#include "data.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shard.h"

enum { PART = 1 << 14, PATIENCE = 500 /* milliseconds */ };

static int write_all(int fd, const uint8_t *p, size_t size) {
    while (size > 0) {
        ssize_t n = write(fd, p, size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno;
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

static enum fpl_code cannot_write(const char *out, int reason, struct fpl_error *err) {
    return fpl_fail(err, FPL_SYSTEM, "%s: cannot be written: %s", out, strerror(reason));
}

static enum fpl_code stopped(const char *out, const volatile sig_atomic_t *stop, struct fpl_error *err) {
    return fpl_fail(err, FPL_STOPPED, "%s: not written: stopped by signal %d", out, (int)*stop);
}

/* One open text, all of it; *count grows by its bytes. */
static enum fpl_code convert(int in, const char *name, int fd, const char *out, int64_t *count,
                             const volatile sig_atomic_t *stop, struct fpl_error *err) {
    uint8_t text[PART], tokens[2 * PART];
    for (;;) {
        struct pollfd source = {.fd = in, .events = POLLIN};
        if (stop != NULL && *stop != 0) return stopped(out, stop, err);
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
        int reason = write_all(fd, tokens, 2 * (size_t)n);
        if (reason != 0) return cannot_write(out, reason, err);
    }
}

static void put_word(uint8_t *p, uint32_t w) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(w >> 8 * i);
}

static int write_header(int fd, int64_t count) {
    uint8_t header[FPL_SHARD_HEADER] = {0};
    put_word(header, FPL_SHARD_MAGIC);
    put_word(header + 4, FPL_SHARD_VERSION);
    put_word(header + 8, (uint32_t)count);
    if (lseek(fd, 0, SEEK_SET) != 0) return errno;
    return write_all(fd, header, sizeof header);
}

static enum fpl_code write_shard(int fd, const char *const *files, int count, const char *out,
                                 const volatile sig_atomic_t *stop, struct fpl_error *err) {
    int reason = write_header(fd, 0);
    if (reason != 0) return cannot_write(out, reason, err);
    int64_t tokens = 0;
    for (int k = 0; k < count; k++) {
        int standard = strcmp(files[k], "-") == 0;
        int in = standard ? STDIN_FILENO : open(files[k], O_RDONLY | O_CLOEXEC);
        if (in < 0 && errno == EINTR && stop != NULL && *stop != 0) return stopped(out, stop, err);
        if (in < 0)
            return fpl_fail(err,
                            errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG || errno == ELOOP
                                ? FPL_INVALID
                                : FPL_SYSTEM,
                            "%s: cannot be opened: %s", files[k], strerror(errno));
        enum fpl_code code = convert(in, standard ? "standard input" : files[k], fd, out, &tokens, stop, err);
        if (!standard) close(in);
        if (code != FPL_OK) return code;
    }
    if (tokens == 0) return fpl_fail(err, FPL_INVALID, "%s: not written: the texts are empty", out);
    reason = write_header(fd, tokens);
    mode_t mask = umask(0);
    umask(mask);
    if (reason == 0 && fchmod(fd, 0666 & ~mask) != 0) reason = errno;
    if (reason == 0 && fsync(fd) != 0) reason = errno;
    return reason == 0 ? FPL_OK : cannot_write(out, reason, err);
}

/* A directory that cannot be opened or synced is not an error: the shard is already there. */
static void sync_directory_of(const char *path) {
    char *directory = strdup(path);
    if (directory == NULL) return;
    char *slash = strrchr(directory, '/');
    if (slash != NULL) slash[slash == directory] = '\0';
    int fd = open(slash != NULL ? directory : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    free(directory);
}

enum fpl_code fpl_data_tokenize_bytes(const char *const *files, int count, const char *out,
                                      const volatile sig_atomic_t *stop, struct fpl_error *err) {
    struct stat st;
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
    /* A symbolic link keeps pointing: its target is what is replaced. */
    char *link = realpath(out, NULL);
    const char *target = link != NULL ? link : out;
    size_t room = strlen(target) + sizeof ".XXXXXX";
    char *temporary = malloc(room);
    if (temporary == NULL) {
        free(link);
        return fpl_fail(err, FPL_SYSTEM, "%s: out of memory", out);
    }
    snprintf(temporary, room, "%s.XXXXXX", target);
    int fd = mkostemp(temporary, O_CLOEXEC);
    enum fpl_code code =
        fd < 0 ? cannot_write(out, errno, err) : write_shard(fd, files, count, out, stop, err);
    if (fd >= 0) {
        if (close(fd) != 0 && code == FPL_OK) code = cannot_write(out, errno, err);
        if (code == FPL_OK && rename(temporary, target) != 0) code = cannot_write(out, errno, err);
        if (code == FPL_OK)
            sync_directory_of(target);
        else
            unlink(temporary);
    }
    free(temporary);
    free(link);
    return code;
}
