/* plot.c - gnuplot as a child process: script in by a pipe-sized temporary file, SVG out by
 * a pipe, inlined as a base64 data URI.
 *
 * The script goes through an unlinked temporary file rather than a pipe: one process cannot
 * fill gnuplot's input and drain its output at once without threads or poll. */
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* An unlinked file with the given text, its offset at the start; -1 on failure. */
static int file_of_text(const char *text) {
    const char *dir = getenv("TMPDIR");
    char path[512];
    snprintf(path, sizeof path, "%s/fplaw-plot-XXXXXX", dir != NULL && *dir != '\0' ? dir : "/tmp");
    const int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0) return -1;
    unlink(path);
    size_t left = strlen(text);
    while (left > 0) {
        const ssize_t n = write(fd, text, left);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            close(fd);
            return -1;
        }
        text += n;
        left -= (size_t)n;
    }
    lseek(fd, 0, SEEK_SET);
    return fd;
}

static void read_all(int fd, struct fpl_text *out) {
    char buf[65536];
    for (;;) {
        const ssize_t n = read(fd, buf, sizeof buf);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return;
        fpl_text_append(out, buf, (size_t)n);
    }
}

/* gnuplot < script, its standard output into svg and its complaints into log. */
static enum fpl_code run_gnuplot(const char *script, struct fpl_text *svg, struct fpl_text *log,
                                 struct fpl_error *err) {
    int out[2] = {-1, -1};
    const int in = file_of_text(script), complaints = file_of_text("");
    enum fpl_code code = FPL_OK;
    if (in < 0 || complaints < 0 || pipe2(out, O_CLOEXEC) != 0) {
        code = fpl_fail(err, FPL_SYSTEM, "report: no temporary file for gnuplot: %s", strerror(errno));
        goto done;
    }
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, complaints, STDERR_FILENO);
    char name[] = "gnuplot";
    char *const argv[] = {name, NULL};
    pid_t child;
    const int rc = posix_spawnp(&child, name, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (rc != 0) {
        code = fpl_fail(err, FPL_SYSTEM,
                        "report: gnuplot cannot be started (%s); figures need Debian's gnuplot-nox",
                        strerror(rc));
        goto done;
    }
    close(out[1]);
    out[1] = -1;
    read_all(out[0], svg);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    lseek(complaints, 0, SEEK_SET);
    read_all(complaints, log);
    if (!WIFEXITED(status) || WEXITSTATUS(status) == 127)
        code = fpl_fail(err, FPL_SYSTEM, "report: gnuplot cannot be run; figures need Debian's gnuplot-nox");
    else if (WEXITSTATUS(status) != 0)
        code = fpl_fail(err, FPL_SYSTEM, "report: gnuplot failed with status %d: %.300s", WEXITSTATUS(status),
                        log->text != NULL ? log->text : "");
done:
    if (in >= 0) close(in);
    if (complaints >= 0) close(complaints);
    if (out[0] >= 0) close(out[0]);
    if (out[1] >= 0) close(out[1]);
    return code;
}

static void add_base64(struct fpl_text *t, const unsigned char *p, size_t size) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        const unsigned left = size - i > 2 ? 3 : (unsigned)(size - i);
        const unsigned v =
            (unsigned)p[i] << 16 | (left > 1 ? (unsigned)p[i + 1] << 8 : 0u) | (left > 2 ? p[i + 2] : 0u);
        const char four[4] = {digits[v >> 18], digits[v >> 12 & 63u], left > 1 ? digits[v >> 6 & 63u] : '=',
                              left > 2 ? digits[v & 63u] : '='};
        fpl_text_append(t, four, 4);
    }
}

enum fpl_code fpl_plot(struct fpl_text *t, const char *name, const char *alt, int width, int height,
                       const char *script, const char *figures, struct fpl_error *err) {
    struct fpl_text whole = {0}, svg = {0}, log = {0};
    fpl_text_add(&whole,
                 "set terminal svg size %d,%d dynamic enhanced font 'Helvetica,14' background '#ffffff'\n"
                 "set encoding utf8\nset samples 120\nset border 3 lc rgb '#5a6570'\nset tics nomirror\n"
                 "set grid lc rgb '#e3e7eb' lw 1\nset key top right samplen 1.5 spacing 1.05 font ',12'\n",
                 width, height);
    /* Okabe and Ito's palette: told apart by colour-blind readers and in print. */
    static const char *const colours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9",
                                          "#e69f00", "#4b5560", "#7a4fbf", "#000000"};
    for (size_t i = 0; i < sizeof colours / sizeof *colours; i++)
        fpl_text_add(&whole, "set linetype %zu lc rgb '%s' lw 2 pt %d ps 0.7\n", i + 1, colours[i], 7);
    fpl_text_append(&whole, script, strlen(script));
    enum fpl_code code = FPL_OK;
    if (whole.failed)
        code = fpl_fail(err, FPL_SYSTEM, "report: out of memory");
    else
        code = run_gnuplot(whole.text, &svg, &log, err);
    if (code == FPL_OK && (svg.failed || svg.size == 0 || strstr(svg.text, "</svg>") == NULL))
        code = fpl_fail(err, FPL_SYSTEM, "report: gnuplot drew nothing for figure '%s': %.300s", name,
                        log.text != NULL ? log.text : "no message");
    if (code == FPL_OK) {
        fpl_text_add(t, "<img width=\"%d\" height=\"%d\" alt=\"", width, height);
        fpl_html_escaped(t, alt);
        fpl_text_add(t, "\" src=\"data:image/svg+xml;base64,");
        add_base64(t, (const unsigned char *)svg.text, svg.size);
        fpl_text_add(t, "\">\n");
        if (figures != NULL) {
            char path[1024];
            snprintf(path, sizeof path, "%s/%s.svg", figures, name);
            code = fpl_make_directory(figures, err);
            if (code == FPL_OK) code = fpl_file_write(path, svg.text, svg.size, err);
        }
    }
    fpl_text_free(&whole);
    fpl_text_free(&svg);
    fpl_text_free(&log);
    return code;
}
