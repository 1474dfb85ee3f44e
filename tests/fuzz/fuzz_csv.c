/* fuzz_csv.c - tables of runs, as people bring them, and expressions that choose among rows: what is accepted
 * is exported, and read again gives the same table.  A first line "?EXPRESSION" is `--where`. */
#include <sys/mman.h>
#include <unistd.h>

#include "../../sim/base/runs.h"
#include "fuzz.h"

static enum fpl_code read_table(const char *text, size_t size, struct fpl_runs *runs, struct fpl_error *err) {
    char path[64];
    const int fd = memfd_create("fuzz.csv", 0);
    FUZZ_CHECK(fd >= 0 && write(fd, text, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const enum fpl_code code = fpl_runs_read_csv(path, NULL, runs, err);
    close(fd);
    return code;
}

static void export_and_read_again(const struct fpl_runs *runs) {
    struct fpl_runs again;
    struct fpl_error err = {FPL_OK, ""};
    char *first = fpl_runs_to_csv(runs, 0);
    FUZZ_CHECK(first != NULL);
    if (read_table(first, strlen(first), &again, &err) != FPL_OK) {
        fprintf(stderr, "%s\n%s", err.text, first);
        abort();
    }
    char *second = fpl_runs_to_csv(&again, 0);
    FUZZ_CHECK(second != NULL && again.count == runs->count && strcmp(first, second) == 0);
    fpl_runs_free(&again);
    free(first);
    free(second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fpl_runs runs;
    struct fpl_error err = {FPL_OK, ""};
    char expression[256] = "";
    const char *text = (const char *)data;
    const char *line = size > 0 && text[0] == '?' ? memchr(text, '\n', size) : NULL;
    if (line != NULL && line - text < (ptrdiff_t)sizeof expression) {
        memcpy(expression, text + 1, (size_t)(line - text - 1));
        size -= (size_t)(line + 1 - text);
        text = line + 1;
    }
    if (read_table(text, size, &runs, &err) != FPL_OK) {
        FUZZ_CHECK(err.code != FPL_OK && err.text[0] != '\0' && strchr(err.text, '\n') == NULL);
        return 0;
    }
    const size_t count = runs.count;
    if (expression[0] != '\0' && fpl_runs_where(&runs, expression, &err) != FPL_OK)
        FUZZ_CHECK(err.text[0] != '\0' && strchr(err.text, '\n') == NULL);
    FUZZ_CHECK(runs.count <= count);
    if (runs.count > 0) export_and_read_again(&runs);
    fpl_runs_free(&runs);
    return 0;
}
