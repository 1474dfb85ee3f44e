/* directory.c - the files of a study's directory that are not the database.
 *
 *   study.db        the store
 *   study.yaml      the latest study file
 *   lock            locked (flock) by the parent and inherited by its workers
 *   fit-STAGE.json  fits that later stages take LR and batch from
 *   checkpoints/ID  of runs that were stopped; a checkpoint goes when its record is stored
 */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../base/file.h"
#include "../base/number.h"

#define LOCK_PATIENCE 3.0 /* seconds: workers of a killed parent need a moment to die */

static char *path_in(const struct session *x, const char *name) {
    size_t room = strlen(x->o->directory) + strlen(name) + 2;
    char *path = malloc(room);
    if (path != NULL) snprintf(path, room, "%s/%s", x->o->directory, name);
    return path;
}

void directory_checkpoint(const struct session *x, const char *id, char *path, size_t size) {
    snprintf(path, size, "%s/checkpoints/%s", x->o->directory, id);
}

static enum fpl_code already_locked(const struct session *x, struct fpl_error *err) {
    char text[32] = "";
    ssize_t n = pread(x->lock, text, sizeof text - 1, 0);
    long pid = n > 0 ? strtol(text, NULL, 10) : 0;
    return fpl_fail(err, FPL_SYSTEM, "%s: another study is running here (process %ld)", x->o->directory, pid);
}

static enum fpl_code take_lock(struct session *x, struct fpl_error *err) {
    char *path = path_in(x, "lock");
    if (path == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    x->lock = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
    enum fpl_code code = FPL_OK;
    if (x->lock < 0) code = fpl_fail(err, FPL_SYSTEM, "%s: cannot be written: %s", path, strerror(errno));
    if (fd >= 0) close(fd);
    free(path);
    double begun = study_clock();
    while (code == FPL_OK && flock(x->lock, LOCK_EX | LOCK_NB) != 0) {
        struct timespec pause = {0, 20000000};
        if (errno != EWOULDBLOCK && errno != EINTR)
            code = fpl_fail(err, FPL_SYSTEM, "%s: cannot be locked: %s", x->o->directory, strerror(errno));
        else if (study_clock() - begun > LOCK_PATIENCE || session_stop_signal(x) != 0)
            code = already_locked(x, err);
        else
            nanosleep(&pause, NULL);
    }
    if (code != FPL_OK) return code;
    char text[32];
    int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    /* Only a courtesy to whoever is refused. */
    if (ftruncate(x->lock, 0) != 0 || pwrite(x->lock, text, (size_t)n, 0) != n) errno = 0;
    return FPL_OK;
}

static int is_id(const char *name) { return strspn(name, "0123456789abcdef") >= 16; }

/* Checkpoints of stored runs, and temporary files of workers that were killed while writing. */
static void clean_checkpoints(const struct session *x, const char *path) {
    DIR *d = opendir(path);
    if (d == NULL) return;
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        size_t length = strlen(e->d_name);
        int temporary = is_id(e->d_name) && length == 16 + 7 && e->d_name[16] == '.';
        int stale = is_id(e->d_name) && length == 16 && fpl_store_has(x->store, e->d_name);
        if (temporary || stale) unlinkat(dirfd(d), e->d_name, 0);
    }
    closedir(d);
}

enum fpl_code directory_read_spent(struct session *x, struct fpl_error *err) {
    char *text = NULL;
    enum fpl_code code = fpl_store_get_text(x->store, "spent", &text, err);
    if (text != NULL && fpl_number_parse(text, &x->spent, NULL) != FPL_OK) x->spent = 0;
    free(text);
    return code;
}

enum fpl_code directory_write_spent(struct session *x, struct fpl_error *err) {
    char text[40];
    x->saved = session_elapsed(x);
    snprintf(text, sizeof text, "%.3f", x->spent + x->saved);
    return fpl_store_set_text(x->store, "spent", text, err);
}

static enum fpl_code keep_study_file(struct session *x, struct fpl_error *err) {
    char *path = path_in(x, "study.yaml");
    if (path == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory");
    enum fpl_code code = fpl_file_write(path, x->s->text, x->s->text_size, err);
    free(path);
    if (code == FPL_OK) code = fpl_store_set_text(x->store, "name", x->s->name, err);
    return code;
}

enum fpl_code directory_open(struct session *x, struct fpl_error *err) {
    enum fpl_code code = fpl_make_directory(x->o->directory, err);
    if (code == FPL_OK) code = take_lock(x, err);
    if (code == FPL_OK) code = fpl_store_open(x->o->directory, 1, &x->store, err);
    if (code == FPL_OK) code = keep_study_file(x, err);
    char *path = code == FPL_OK ? path_in(x, "checkpoints") : NULL;
    if (path != NULL) code = fpl_make_directory(path, err);
    if (path != NULL && code == FPL_OK) clean_checkpoints(x, path);
    free(path);
    return code;
}

enum fpl_code directory_look(struct session *x, struct fpl_error *err) {
    struct stat st;
    char *path = x->o->directory != NULL ? path_in(x, "study.db") : NULL;
    enum fpl_code code = FPL_OK;
    if (path != NULL && stat(path, &st) == 0) code = fpl_store_open(x->o->directory, 0, &x->store, err);
    free(path);
    return code;
}
