/* file.c - see file.h.
 *
 * Writing: everything goes to PATH.XXXXXX in the directory of PATH, is synced, takes PATH's
 * name by rename, and the directory is synced.  At every moment, after a kill or a power cut
 * included, PATH is absent, the old file or the new file.  A PATH that exists and is no
 * regular file (a device, a pipe) has nothing to protect and is written directly.  A PATH that
 * is a symbolic link stands for what it points at, which may not exist yet.
 */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

/* ---- reading ------------------------------------------------------------------------------ */

/* Read descriptor to its end into *t, at most limit bytes. 0, or an errno; EFBIG above the limit. */
static int read_all(int fd, size_t limit, char **data, size_t *size) {
    size_t room = 4096, used = 0;
    struct stat st;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) {
        if ((uint64_t)st.st_size > limit) return EFBIG;
        room = (size_t)st.st_size + 2; /* one for the terminator, one to see the end at once */
    }
    char *buffer = malloc(room);
    if (buffer == NULL) return ENOMEM;
    for (;;) {
        ssize_t n = read(fd, buffer + used, room - used - 1);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 || used + (size_t)n > limit) {
            int reason = n < 0 ? errno : EFBIG;
            free(buffer);
            return reason;
        }
        if (n == 0) break;
        used += (size_t)n;
        if (used + 1 < room) continue;
        char *larger = realloc(buffer, room * 2);
        if (larger == NULL) {
            free(buffer);
            return ENOMEM;
        }
        buffer = larger;
        room *= 2;
    }
    buffer[used] = '\0';
    *data = buffer;
    *size = used;
    return 0;
}

enum fpl_code fpl_file_read(const char *path, size_t limit, char **data, size_t *size,
                            struct fpl_error *err) {
    int standard = strcmp(path, "-") == 0;
    const char *name = standard ? "standard input" : path;
    if (*path == '\0') return fpl_fail(err, FPL_INVALID, "an empty name is found where a file's is expected");
    int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        enum fpl_code code = errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG || errno == ELOOP
                                 ? FPL_INVALID
                                 : FPL_SYSTEM;
        return fpl_fail(err, code, "%s: cannot be opened: %s", name, strerror(errno));
    }
    int reason = read_all(fd, limit, data, size);
    if (!standard) close(fd);
    if (reason == 0) return FPL_OK;
    if (reason == EFBIG)
        return fpl_fail(err, FPL_INVALID, "%s: longer than the %zu bytes accepted here", name, limit);
    if (reason == EISDIR) return fpl_fail(err, FPL_INVALID, "%s: is a directory, a file is expected", name);
    return fpl_fail(err, FPL_SYSTEM, "%s: cannot be read: %s", name, strerror(reason));
}

/* ---- writing ------------------------------------------------------------------------------ */

/* A short write is gone on with; one that takes nothing means that there is no room. */
static int write_all(int fd, const char *data, size_t size) {
    while (size > 0) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno;
        if (n == 0) return ENOSPC;
        data += n;
        size -= (size_t)n;
    }
    return 0;
}

static int write_all_at(int fd, uint64_t offset, const char *data, size_t size) {
    if (offset > INT64_MAX || size > INT64_MAX - offset) return EFBIG;
    while (size > 0) {
        ssize_t n = pwrite(fd, data, size, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno;
        if (n == 0) return ENOSPC;
        data += n;
        size -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

/* Descriptors that cannot be synced (pipes, some file systems) say EINVAL. */
static int sync_descriptor(int fd) { return fsync(fd) != 0 && errno != EINVAL && errno != EROFS ? errno : 0; }

static int sync_directory_of(const char *path) {
    char *copy = strdup(path);
    if (copy == NULL) return ENOMEM;
    char *slash = strrchr(copy, '/');
    const char *directory = ".";
    if (slash != NULL) {
        slash[slash == copy] = '\0'; /* keep the slash of the root */
        directory = copy;
    }
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(copy);
    if (fd < 0) return errno == EACCES ? 0 : errno; /* writable but not readable: cannot be synced */
    int reason = sync_descriptor(fd);
    close(fd);
    return reason;
}

/* The permissions of the file that is replaced, else those of any new file. */
static mode_t wanted_mode(const struct stat *old) {
    if (old != NULL) return old->st_mode & 07777;
    mode_t mask = umask(0);
    umask(mask);
    return 0666 & ~mask;
}

/* What the symbolic link `path` holds, seen from where the link lies; NULL with errno. */
static char *follow_link(const char *path) {
    char held[PATH_MAX];
    const ssize_t n = readlink(path, held, sizeof held);
    if (n < 0) return NULL;
    if ((size_t)n == sizeof held) {
        errno = ENAMETOOLONG;
        return NULL;
    }
    const char *slash = strrchr(path, '/');
    const size_t kept = held[0] == '/' || slash == NULL ? 0 : (size_t)(slash - path) + 1;
    char *joined = malloc(kept + (size_t)n + 1);
    if (joined == NULL) return NULL;
    memcpy(joined, path, kept);
    memcpy(joined + kept, held, (size_t)n);
    joined[kept + (size_t)n] = '\0';
    return joined;
}

/* The name that is to be replaced or made: path with its last links followed, even where what
 * they point at is missing.  NULL with errno. */
static char *final_target(const char *path) {
    enum { MOST_LINKS = 40 }; /* as Linux */
    struct stat st;
    char *whole = realpath(path, NULL);
    if (whole != NULL) return whole;
    char *at = strdup(path);
    for (int i = 0; at != NULL && lstat(at, &st) == 0 && S_ISLNK(st.st_mode); i++) {
        char *next = i < MOST_LINKS ? follow_link(at) : NULL;
        if (i == MOST_LINKS) errno = ELOOP;
        int reason = errno;
        free(at);
        errno = reason;
        at = next;
    }
    return at;
}

static enum fpl_code cannot_write(const char *path, int reason, struct fpl_error *err) {
    return fpl_fail(err, FPL_SYSTEM, "%s: cannot be written: %s",
                    strcmp(path, "-") == 0 ? "standard output" : path, strerror(reason));
}

/* A new file beside the target, open; 0 or an errno. */
static int open_temporary(struct fpl_writer *w, const char *path) {
    w->target = final_target(path);
    if (w->target == NULL) return errno;
    const size_t room = strlen(w->target) + sizeof ".XXXXXX";
    w->temporary = malloc(room);
    if (w->temporary == NULL) return ENOMEM;
    snprintf(w->temporary, room, "%s.XXXXXX", w->target);
    w->fd = mkostemp(w->temporary, O_CLOEXEC);
    if (w->fd >= 0) return 0;
    const int reason = errno;
    free(w->temporary);
    w->temporary = NULL;
    return reason;
}

enum fpl_code fpl_writer_open(struct fpl_writer *w, const char *path, struct fpl_error *err) {
    struct stat st;
    const int standard = strcmp(path, "-") == 0, exists = !standard && stat(path, &st) == 0;
    *w = (struct fpl_writer){.path = path, .fd = -1};
    if (*path == '\0') return fpl_fail(err, FPL_INVALID, "an empty name is found where a file's is expected");
    if (exists && S_ISDIR(st.st_mode))
        return fpl_fail(err, FPL_INVALID, "%s: is a directory, a file name is expected", path);
    w->direct = standard || (exists && !S_ISREG(st.st_mode));
    w->mode = wanted_mode(exists ? &st : NULL);
    int reason;
    if (w->direct) {
        w->fd = standard ? STDOUT_FILENO : open(path, O_WRONLY | O_CLOEXEC);
        reason = w->fd < 0 ? errno : 0;
    } else {
        reason = open_temporary(w, path);
    }
    if (reason == 0) return FPL_OK;
    fpl_writer_abandon(w);
    return cannot_write(path, reason, err);
}

enum fpl_code fpl_writer_put(struct fpl_writer *w, const void *data, size_t size, struct fpl_error *err) {
    const int reason = write_all(w->fd, data, size);
    return reason == 0 ? FPL_OK : cannot_write(w->path, reason, err);
}

enum fpl_code fpl_writer_put_at(const struct fpl_writer *w, uint64_t offset, const void *data, size_t size,
                                struct fpl_error *err) {
    const int reason = w->direct ? ESPIPE : write_all_at(w->fd, offset, data, size);
    return reason == 0 ? FPL_OK : cannot_write(w->path, reason, err);
}

/* Close what was opened here; 0 or an errno. */
static int close_writer(struct fpl_writer *w) {
    const int fd = w->fd;
    w->fd = -1;
    return fd >= 0 && fd != STDOUT_FILENO && close(fd) != 0 ? errno : 0;
}

enum fpl_code fpl_writer_commit(struct fpl_writer *w, struct fpl_error *err) {
    int reason = 0;
    if (!w->direct && fchmod(w->fd, (mode_t)w->mode) != 0) reason = errno;
    if (!w->direct && reason == 0) reason = sync_descriptor(w->fd);
    const int closed = close_writer(w);
    if (reason == 0) reason = closed;
    if (!w->direct && reason == 0 && rename(w->temporary, w->target) != 0) reason = errno;
    if (!w->direct && reason == 0) {
        free(w->temporary); /* it has the target's name now */
        w->temporary = NULL;
        reason = sync_directory_of(w->target);
    }
    const char *path = w->path;
    fpl_writer_abandon(w);
    return reason == 0 ? FPL_OK : cannot_write(path, reason, err);
}

void fpl_writer_abandon(struct fpl_writer *w) {
    (void)close_writer(w);
    if (w->temporary != NULL) unlink(w->temporary);
    free(w->temporary);
    free(w->target);
    w->temporary = w->target = NULL;
}

enum fpl_code fpl_file_write(const char *path, const void *data, size_t size, struct fpl_error *err) {
    struct fpl_writer w;
    enum fpl_code code = fpl_writer_open(&w, path, err);
    if (code != FPL_OK) return code;
    code = fpl_writer_put(&w, data, size, err);
    if (code == FPL_OK) return fpl_writer_commit(&w, err);
    fpl_writer_abandon(&w);
    return code;
}

enum fpl_code fpl_make_directory(const char *path, struct fpl_error *err) {
    if (*path == '\0')
        return fpl_fail(err, FPL_INVALID, "an empty name is found where a directory's is expected");
    char *copy = strdup(path);
    if (copy == NULL) return fpl_fail(err, FPL_SYSTEM, "%s: out of memory", path);
    int reason = 0;
    for (char *p = copy + (*copy == '/'); reason == 0; p++) {
        if (*p != '/' && *p != '\0') continue;
        char kept = *p;
        *p = '\0';
        if (mkdir(copy, 0777) != 0 && errno != EEXIST) reason = errno;
        *p = kept;
        if (kept == '\0') break;
    }
    free(copy);
    struct stat st;
    if (reason == 0 && stat(path, &st) == 0 && S_ISDIR(st.st_mode)) return FPL_OK;
    if (reason == 0) reason = ENOTDIR;
    /* Parents are made here, so ENOENT comes from a file system that takes no directories. */
    return fpl_fail(err, reason == ENOTDIR ? FPL_INVALID : FPL_SYSTEM, "%s: cannot be made a directory: %s",
                    path, strerror(reason));
}

/* ---- hash and text buffer ------------------------------------------------------------------- */

void fpl_hash_text(const void *data, size_t size, char hex[33]) {
    XXH128_canonical_t digest;
    XXH128_canonicalFromHash(&digest, XXH3_128bits(data, size));
    for (size_t i = 0; i < sizeof digest.digest; i++) snprintf(hex + 2 * i, 3, "%02x", digest.digest[i]);
}

/* Room for `more` bytes and a terminator; 0 when memory ran out. */
static int text_reserve(struct fpl_text *t, size_t more) {
    if (t->failed) return 0;
    if (more >= SIZE_MAX / 2 - t->size) {
        t->failed = 1;
        return 0;
    }
    size_t need = t->size + more + 1;
    if (need <= t->room) return 1;
    size_t room = t->room < 256 ? 256 : t->room;
    while (room < need) room *= 2;
    char *larger = realloc(t->text, room);
    if (larger == NULL) {
        t->failed = 1;
        return 0;
    }
    t->text = larger;
    t->room = room;
    t->text[t->size] = '\0';
    return 1;
}

void fpl_text_append(struct fpl_text *t, const char *bytes, size_t size) {
    if (!text_reserve(t, size)) return;
    if (size > 0) memcpy(t->text + t->size, bytes, size);
    t->size += size;
    t->text[t->size] = '\0';
}

void fpl_text_add(struct fpl_text *t, const char *fmt, ...) {
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0)
        t->failed = 1;
    else if (text_reserve(t, (size_t)n)) {
        vsnprintf(t->text + t->size, t->room - t->size, fmt, again);
        t->size += (size_t)n;
    }
    va_end(again);
}

void fpl_text_free(struct fpl_text *t) {
    free(t->text);
    *t = (struct fpl_text){0};
}
