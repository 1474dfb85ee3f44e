/* fit_starts.c - fplaw's minimiser from starts that somebody else drew, timed (fit_scipy.py).
 *
 *   peer_fit_starts LAW DELTA SCALE WINDOW TARGET STARTS.bin RUNS.csv [NAME=COLUMN...]
 *
 * STARTS.bin holds starts of as many little-endian doubles as the fit has free parameters, in the
 * law's order, internal coordinates (law_internal.h).  Prints one line per start: seconds until the
 * objective is at most TARGET, or to convergence where it never is, and the objective reached; then one line
 * "fit SECONDS OBJECTIVE" for fpl_law_fit as the command line calls it (own starts, restarts and convergence
 * test included, no bootstrap, no findings).
 *
 * The minimiser knows of no target: it is asked for as many iterations as reach it, found beforehand by
 * asking for one, two and so on, and that run is timed from its start.  Times are medians of REPEATS, the
 * fit's is the least.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../sim/law/fitting.h"

enum { REPEATS = 5 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int fail(const char *what) {
    fprintf(stderr, "peer_fit_starts: %s\n", what);
    return 2;
}

static int ascending(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double number(const char *text) {
    char *end;
    const double x = strtod(text, &end);
    if (end == text || *end != '\0') exit(fail(text));
    return x;
}

static double minimised(const struct fpl_objective *o, const double *start, int iterations, double *value) {
    const struct fpl_problem *p = o->problem;
    double theta[FPL_LAW_PARAMS] = {0.0};
    struct fpl_minimum minimum = {0};
    int k = 0;
    for (int j = 0; j < p->law->params; j++)
        if (p->active[j]) theta[j] = start[k++];
    const double begin = now();
    fpl_approach(o, theta, iterations, 1e-9, &minimum);
    *value = minimum.value;
    return now() - begin;
}

/* As many iterations as reach the target, if any do: the peer stops there as well. */
static void from_start(const struct fpl_objective *o, const double *start, double target) {
    double spent[REPEATS], value;
    int iterations = 300;
    minimised(o, start, iterations, &value);
    if (value <= target)
        for (iterations = 1; minimised(o, start, iterations, &value) >= 0.0 && value > target;) iterations++;
    for (int r = 0; r < REPEATS; r++) spent[r] = minimised(o, start, iterations, &value);
    qsort(spent, REPEATS, sizeof *spent, ascending);
    printf("%.9g %.17g %s\n", spent[REPEATS / 2], value, value <= target ? "there" : "-");
}

int main(int argc, char **argv) {
    if (argc < 8) return fail("LAW DELTA SCALE WINDOW TARGET STARTS.bin RUNS.csv [NAME=COLUMN...]");
    struct fpl_error err = {FPL_OK, ""};
    struct fpl_runs runs;
    const struct fpl_law *law = fpl_law_find(argv[1]);
    if (law == NULL) return fail("no such law");
    if (fpl_runs_read_csv(argv[7], (const char *const *)argv + 8, &runs, &err) != FPL_OK)
        return fail(err.text);
    const double delta = number(argv[2]), scale = number(argv[3]), window = number(argv[4]),
                 target = number(argv[5]);
    struct fpl_problem problem = {.threads = 1};
    struct fpl_left_list left = {0, 0, NULL};
    if (fpl_rows_select(law, &runs, window, &problem, &left, &err) != FPL_OK) return fail(err.text);
    const size_t width = (size_t)fpl_problem_active(&problem);
    const struct fpl_objective o = {.problem = &problem, .delta = delta, .scale = scale};
    FILE *file = fopen(argv[6], "rb");
    double start[FPL_LAW_PARAMS];
    if (file == NULL) return fail("cannot read the starts");
    while (fread(start, sizeof *start, width, file) == width) from_start(&o, start, target);
    fclose(file);
    double least = HUGE_VAL, value = 0.0;
    for (int r = 0; r < REPEATS; r++) {
        const struct fpl_fit_options options = {
            .delta = delta, .window = window, .level = 0.95, .threads = 2};
        struct fpl_fit *fit = NULL;
        const double begin = now();
        if (fpl_law_fit(law, &runs, &options, &fit, &err) != FPL_OK) return fail(err.text);
        least = fmin(least, now() - begin);
        value = fit->objective;
        fpl_fit_free(fit);
    }
    printf("fit %.9g %.17g\n", least, value);
    free(left.item);
    fpl_problem_free(&problem);
    fpl_runs_free(&runs);
    return 0;
}
