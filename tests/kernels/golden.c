/* golden.c - the rounder and the kernels against tables made by other implementations.
 *
 *     golden [all] TABLE...
 *
 * Rounding to a small format is a step function of the input's bit pattern, so a table of its
 * steps is all of it: each line of a table holds the first input of a run and what the run's
 * inputs become, both as float32 bits in hexadecimal; `-` marks runs that are not comparable, as
 * NaN where the other type has no NaN.  Above them stand comments (#), `quantizer TEXT`,
 * `peer NAME` and, where a zero's sign is not compared, `zeros any`.  tests/formats/golden holds
 * ml_dtypes' types (tests/peers/sweep.py writes them) and the CUDA toolkit's (cuda_headers tables);
 * both programs make the tables from all 2^32 inputs and can compare them again.
 * Compared on the stratified set of sweep.h, or with `all` on every float32 value. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sweep.h"

struct run {
    uint32_t first, bits;
    int skip;
};

struct table {
    char quantizer[64], peer[64];
    int any_zero;
    int64_t count, room;
    struct run *runs;
};

static int add(struct table *t, const struct run *r) {
    if (t->count == t->room) {
        const int64_t room = t->room ? 2 * t->room : 1024;
        struct run *more = realloc(t->runs, (size_t)room * sizeof *more);
        if (more == NULL) return 0;
        t->runs = more;
        t->room = room;
    }
    t->runs[t->count++] = *r;
    return 1;
}

/* 1 when the line belongs to a table and, if it is a run, follows the one before it. */
static int take_line(struct table *t, const char *line) {
    struct run r = {0, 0, 0};
    char value[16];
    if (line[0] == '#' || line[0] == '\n') return 1;
    if (sscanf(line, "quantizer %63[^\n]", t->quantizer) == 1) return 1;
    if (sscanf(line, "peer %63[^\n]", t->peer) == 1) return 1;
    if (strcmp(line, "zeros any\n") == 0) return t->any_zero = 1;
    if (sscanf(line, "%8x %15s", &r.first, value) != 2) return 0;
    r.skip = strcmp(value, "-") == 0;
    if (!r.skip && sscanf(value, "%8x", &r.bits) != 1) return 0;
    if (t->count == 0 ? r.first != 0 : r.first <= t->runs[t->count - 1].first) return 0;
    return add(t, &r);
}

static int read_table(const char *path, struct table *t) {
    char line[128];
    FILE *f = fopen(path, "r");
    int good = f != NULL;
    while (good && fgets(line, sizeof line, f) != NULL) good = take_line(t, line);
    if (f != NULL) fclose(f);
    return good && t->count > 0 && t->quantizer[0];
}

static void by_table(const void *context, int n, const float *x, float *want, unsigned char *skip) {
    const struct table *t = context;
    uint32_t bits;
    memcpy(&bits, x, sizeof bits);
    int64_t at = 0, end = t->count; /* runs[at].first <= bits < runs[end].first */
    while (end - at > 1) {
        const int64_t middle = at + (end - at) / 2;
        if (t->runs[middle].first <= bits)
            at = middle;
        else
            end = middle;
    }
    for (int i = 0; i < n; at++) { /* a run's inputs at a time */
        const struct run r = t->runs[at];
        const uint32_t last = at + 1 < t->count ? t->runs[at + 1].first - 1 : UINT32_MAX;
        for (; i < n; i++) {
            memcpy(&bits, x + i, sizeof bits);
            if (bits > last) break;
            memcpy(want + i, &r.bits, sizeof *want);
            skip[i] = (unsigned char)r.skip;
        }
    }
}

int main(int argc, char **argv) {
    const int every = argc > 1 && strcmp(argv[1], "all") == 0;
    int failures = argc - every < 2;
    for (int i = 1 + every; i < argc; i++) {
        struct table t = {.count = 0};
        struct sweep_result r = {0, 0, 0, 0};
        if (!read_table(argv[i], &t)) {
            printf("%s: not a table\n", argv[i]);
            failures++;
        } else if (sweep(t.quantizer, t.peer, t.any_zero, by_table, &t, every, &r) != 0 || r.compared == 0) {
            printf("%s: differs\n", argv[i]);
            failures++;
        }
        free(t.runs);
    }
    return failures != 0;
}
