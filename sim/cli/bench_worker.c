/* bench_worker.c - do two workers do twice the work?
 *
 * A study runs one process per core.  Two processes share caches, memory and the clock of the
 * chip, so even sgemm does not double; the question is whether training scales as well as
 * sgemm does.  Two children are started by exec.  They do the same pieces of work, alone and
 * at the same time, training and sgemm in turn, each timed by the child that did it:
 *
 *   scaling = 2 (time alone) / (mean of the two times together)
 *
 * and the row's ratio is the median scaling of training over that of sgemm.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

/* ---- the child ------------------------------------------------------------------------------ */

/* Lines "train STEPS" and "sgemm TIMES"; answers with seconds. */
int fpl_bench_serve(void) {
    struct fpl_stepper *stepper = NULL;
    struct fpl_sgemm *sgemm = fpl_sgemm_create();
    struct fpl_error err = {FPL_OK, ""};
    char word[16];
    int times, status = 1;
    if (sgemm != NULL && fpl_stepper_create(&fpl_step_sizes[1], "fp32", &stepper, &err) == FPL_OK) {
        status = 0;
        while (scanf("%15s %d", word, &times) == 2) {
            double seconds = 0.0;
            if (strcmp(word, "sgemm") == 0)
                seconds = fpl_sgemm_seconds(sgemm, times);
            else
                for (int i = 0; i < times; i++) seconds += fpl_stepper_seconds(stepper, NULL);
            printf("%.9f\n", seconds);
            fflush(stdout);
        }
    }
    fpl_stepper_free(stepper);
    fpl_sgemm_free(sgemm);
    return status;
}

/* ---- the parent ----------------------------------------------------------------------------- */

struct child {
    pid_t pid;
    FILE *to, *from;
};

static enum fpl_code start(struct child *c, struct fpl_error *err) {
    int down[2], up[2];
    if (pipe2(down, O_CLOEXEC) != 0)
        return fpl_fail(err, FPL_SYSTEM, "bench: cannot make a pipe: %s", strerror(errno));
    if (pipe2(up, O_CLOEXEC) != 0) {
        close(down[0]);
        close(down[1]);
        return fpl_fail(err, FPL_SYSTEM, "bench: cannot make a pipe: %s", strerror(errno));
    }
    c->pid = fork();
    if (c->pid == 0) {
        dup2(down[0], STDIN_FILENO);
        dup2(up[1], STDOUT_FILENO);
        execl("/proc/self/exe", "fplaw", "bench", "--serve", (char *)NULL);
        _exit(127);
    }
    close(down[0]);
    close(up[1]);
    c->to = fdopen(down[1], "w");
    c->from = fdopen(up[0], "r");
    if (c->pid < 0 || c->to == NULL || c->from == NULL)
        return fpl_fail(err, FPL_SYSTEM, "bench: cannot start a worker: %s", strerror(errno));
    return FPL_OK;
}

static void stop(struct child *c) {
    if (c->to != NULL) fclose(c->to);
    if (c->from != NULL) fclose(c->from);
    if (c->pid > 0) waitpid(c->pid, NULL, 0);
}

static int ask(struct child *c, const char *work, int times) {
    return fprintf(c->to, "%s %d\n", work, times) > 0 && fflush(c->to) == 0;
}

static int answer(struct child *c, double *seconds) { return fscanf(c->from, "%lf", seconds) == 1; }

/* scaling of `times` pieces of work; 0: a child is gone */
static double scaling(struct child child[2], const char *work, int times) {
    double alone, both[2];
    if (!ask(&child[0], work, times) || !answer(&child[0], &alone)) return 0.0;
    if (!ask(&child[0], work, times) || !ask(&child[1], work, times)) return 0.0;
    if (!answer(&child[0], &both[0]) || !answer(&child[1], &both[1])) return 0.0;
    return 4.0 * alone / (both[0] + both[1]);
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static enum fpl_code measure(struct fpl_bench *b, struct child child[2], struct fpl_error *err) {
    enum { REPEATS = 25 };
    double train[REPEATS], sgemm[REPEATS];
    const int repeats = b->quick ? 3 : REPEATS;
    for (int i = 0; i < repeats; i++) {
        train[i] = scaling(child, "train", b->quick ? 10 : 150);
        sgemm[i] = scaling(child, "sgemm", b->quick ? 1 : 3);
        if (train[i] == 0.0 || sgemm[i] == 0.0)
            return fpl_fail(err, FPL_SYSTEM, "bench: a worker process ended before its time");
    }
    const struct fpl_times t = {train, repeats};
    struct fpl_bench_row *row = fpl_bench_add(b, &t, "workers", "two sgemm", "two workers");
    if (row == NULL) return FPL_OK;
    qsort(train, (size_t)repeats, sizeof *train, ascending);
    qsort(sgemm, (size_t)repeats, sizeof *sgemm, ascending);
    row->value = train[repeats / 2];
    row->ratio = train[repeats / 2] / sgemm[repeats / 2];
    row->spread = (train[3 * repeats / 4] - train[repeats / 4]) / train[repeats / 2];
    return FPL_OK;
}

enum fpl_code fpl_bench_workers(struct fpl_bench *b, struct fpl_error *err) {
    struct child child[2] = {{0, NULL, NULL}, {0, NULL, NULL}};
    struct sigaction ignore, before; /* a child that ended is found by its answer */
    memset(&ignore, 0, sizeof ignore);
    ignore.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &ignore, &before);
    enum fpl_code code = start(&child[0], err);
    if (code == FPL_OK) code = start(&child[1], err);
    if (code == FPL_OK) code = measure(b, child, err);
    stop(&child[0]);
    stop(&child[1]);
    sigaction(SIGPIPE, &before, NULL);
    return code;
}
