/* pool.c - worker processes: started by exec, spoken to in lines over a socket pair.
 *
 * A worker is the program itself run again (posix_spawn of the given command), so it has no
 * thread, lock or library state of the parent.  Its standard input and output are one end of
 * a socket pair; messages go through send() with MSG_NOSIGNAL, so a dead worker is an error
 * code, not a signal.  Workers form process groups of their own: Ctrl-C reaches only the
 * parent, which then asks them to stop.  They inherit the descriptor of the directory's lock,
 * so that the lock is free only when the parent and all its workers are gone.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST_ARGUMENTS 16
#define MOST_LINE ((size_t)64 << 20)

extern char **environ;

double study_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

enum fpl_code pool_open(struct pool *p, int workers, const char *const *command, int lock,
                        struct fpl_error *err) {
    *p = (struct pool){.command = command, .lock = lock};
    p->worker = calloc((size_t)workers, sizeof *p->worker);
    if (p->worker == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory");
    p->count = workers;
    for (int i = 0; i < workers; i++) p->worker[i] = (struct pool_worker){.fd = -1};
    return FPL_OK;
}

int pool_idle(const struct pool *p) {
    for (int i = 0; i < p->count; i++)
        if (!p->worker[i].busy) return i;
    return -1;
}

int pool_busy(const struct pool *p) {
    int busy = 0;
    for (int i = 0; i < p->count; i++) busy += p->worker[i].busy;
    return busy;
}

/* ---- starting --------------------------------------------------------------------------------- */

static int spawn(const struct pool *p, char **argv, int end, pid_t *pid) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, usual;
    sigemptyset(&none);
    sigemptyset(&usual);
    sigaddset(&usual, SIGINT);
    sigaddset(&usual, SIGTERM);
    sigaddset(&usual, SIGPIPE);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_adddup2(&actions, end, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, end, STDOUT_FILENO);
    if (p->lock >= 0) posix_spawn_file_actions_adddup2(&actions, p->lock, p->lock); /* clears close-on-exec */
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setsigdefault(&attributes, &usual);
    posix_spawnattr_setsigmask(&attributes, &none);
    int reason = posix_spawn(pid, argv[0], &actions, &attributes, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return reason;
}

/* Both ends above 2, so that dup2 in the child cannot overwrite them. */
static int make_pair(int ends[2]) {
    int made[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, made) != 0) return errno;
    int reason = 0;
    for (int i = 0; i < 2; i++) {
        ends[i] = fcntl(made[i], F_DUPFD_CLOEXEC, 3);
        if (ends[i] < 0) reason = errno;
        close(made[i]);
    }
    if (reason != 0)
        for (int i = 0; i < 2; i++)
            if (ends[i] >= 0) close(ends[i]);
    return reason;
}

static enum fpl_code start(struct pool *p, struct pool_worker *w, struct fpl_error *err) {
    char *argv[MOST_ARGUMENTS + 2], parent[24];
    int n = 0, ends[2];
    for (; n < MOST_ARGUMENTS && p->command[n] != NULL; n++) argv[n] = (char *)(uintptr_t)p->command[n];
    snprintf(parent, sizeof parent, "%ld", (long)getpid());
    argv[n++] = parent;
    argv[n] = NULL;
    int reason = make_pair(ends);
    if (reason == 0) {
        pid_t pid = 0;
        reason = spawn(p, argv, ends[1], &pid);
        close(ends[1]);
        if (reason != 0)
            close(ends[0]);
        else
            w->pid = (int)pid, w->fd = ends[0];
    }
    w->size = 0;
    return reason == 0 ? FPL_OK
                       : fpl_fail(err, FPL_SYSTEM, "a worker cannot be started: %s", strerror(reason));
}

enum fpl_code pool_send(struct pool *p, int worker, const char *line, struct fpl_error *err) {
    struct pool_worker *w = &p->worker[worker];
    if (w->fd < 0) {
        enum fpl_code code = start(p, w, err);
        if (code != FPL_OK) return code;
    }
    w->busy = 1;
    w->started = study_clock();
    size_t left = strlen(line);
    while (left > 0) {
        ssize_t n = send(w->fd, line, left, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return FPL_OK; /* it is dead: pool_wait will say so */
        line += n;
        left -= (size_t)n;
    }
    return FPL_OK;
}

/* ---- listening -------------------------------------------------------------------------------- */

/* The first whole line received from any worker. */
static int take_line(struct pool *p, struct pool_event *event) {
    for (int i = 0; i < p->count; i++) {
        struct pool_worker *w = &p->worker[i];
        char *end = w->size > 0 ? memchr(w->text, '\n', w->size) : NULL;
        if (end == NULL) continue;
        size_t length = (size_t)(end - w->text);
        char *line = malloc(length + 1);
        if (line == NULL) return 0;
        memcpy(line, w->text, length);
        line[length] = '\0';
        w->size -= length + 1;
        memmove(w->text, end + 1, w->size);
        *event = (struct pool_event){.kind = POOL_LINE, .worker = i, .was_busy = w->busy, .line = line};
        return 1;
    }
    return 0;
}

static void bury(struct pool *p, int worker, struct pool_event *event) {
    struct pool_worker *w = &p->worker[worker];
    int status = 0;
    close(w->fd);
    while (waitpid(w->pid, &status, 0) < 0 && errno == EINTR) {
    }
    *event = (struct pool_event){.kind = POOL_DEATH, .worker = worker, .was_busy = w->busy};
    if (WIFSIGNALED(status))
        snprintf(event->why, sizeof event->why, "killed by signal %d", WTERMSIG(status));
    else
        snprintf(event->why, sizeof event->why, "ended with status %d", WEXITSTATUS(status));
    free(w->text);
    *w = (struct pool_worker){.fd = -1};
}

/* 1: bytes or nothing for now; 0: the worker is gone or mad. */
static int receive(struct pool_worker *w) {
    if (w->room - w->size < 4096) {
        size_t room = w->room == 0 ? 8192 : 2 * w->room;
        char *larger = room > MOST_LINE ? NULL : realloc(w->text, room);
        if (larger == NULL) {
            kill(w->pid, SIGKILL);
            return 0;
        }
        w->text = larger;
        w->room = room;
    }
    ssize_t n = recv(w->fd, w->text + w->size, w->room - w->size, 0);
    if (n > 0) w->size += (size_t)n;
    return n > 0 || (n < 0 && errno == EINTR);
}

enum fpl_code pool_wait(struct pool *p, int milliseconds, struct pool_event *event, struct fpl_error *err) {
    *event = (struct pool_event){.kind = POOL_NOTHING};
    if (take_line(p, event)) return FPL_OK;
    struct pollfd *fds = calloc((size_t)p->count, sizeof *fds);
    if (fds == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory");
    for (int i = 0; i < p->count; i++) fds[i] = (struct pollfd){.fd = p->worker[i].fd, .events = POLLIN};
    int ready = poll(fds, (nfds_t)p->count, milliseconds);
    for (int i = 0; i < p->count && ready > 0 && event->kind == POOL_NOTHING; i++)
        if (fds[i].fd >= 0 && fds[i].revents != 0 && !receive(&p->worker[i])) bury(p, i, event);
    free(fds);
    if (event->kind == POOL_NOTHING) take_line(p, event);
    return FPL_OK;
}

/* ---- ending ----------------------------------------------------------------------------------- */

void pool_signal(struct pool *p, int signal) {
    for (int i = 0; i < p->count; i++) {
        if (p->worker[i].fd < 0) continue;
        if (signal != 0) kill(p->worker[i].pid, signal);
        shutdown(p->worker[i].fd, SHUT_WR); /* an idle worker reads the end of its input */
    }
}

static int has_ended(int pid) {
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == pid;
}

void pool_close(struct pool *p) {
    double begun = study_clock();
    for (int i = 0; i < p->count; i++) {
        struct pool_worker *w = &p->worker[i];
        if (w->fd < 0) continue;
        struct pool_event event;
        if (!w->busy) {
            shutdown(w->fd, SHUT_WR);
            while (!has_ended(w->pid) && study_clock() - begun < 2) {
                struct timespec pause = {0, 2000000};
                nanosleep(&pause, NULL);
            }
        }
        kill(w->pid, SIGKILL); /* not yet collected, so the number is still its own */
        bury(p, i, &event);
    }
    free(p->worker);
    *p = (struct pool){.lock = -1};
}
