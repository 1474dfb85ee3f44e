/* cli_bench.c - `fplaw bench`: speed against limits and peers, and whether bits changed.
 *
 * A table for people, JSON (schema fplaw-bench/1, design.md) for machines; bench_compare.c holds it
 * against an earlier one.
 */
#include <jansson.h>
#include <math.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../kernels/kernels.h"
#include "../base/config.h"
#include "../base/file.h"
#include "../train/machine.h"
#include "bench.h"
#include "cli.h"

/* ---- arguments ------------------------------------------------------------------------------ */

struct arguments {
    int json, quick, serve;
    const char *baseline, *junit, *device;
    const char *suite; /* names of parts; NULL: all */
    const char *tolerance_text;
    double tolerance;
};

static const struct argp_option options[] = {
    {"json", 'j', NULL, 0, "one JSON object on standard output", 0},
    {"baseline", 'b', "FILE", 0, "compare with an earlier --json; exit 3 where a row is slower or differs",
     0},
    {"tolerance", 't', "X", 0, "by how much a ratio may fall besides its spread, default 0.05", 0},
    {"junit", 'u', "FILE", 0, "write the comparison as JUnit XML too", 0},
    {"suite", 'p', "NAME[,NAME...]", 0,
     "only these parts: steps, workers, products, quantizers, accumulators, of a GPU quantizers, products, "
     "accumulators, packs; a baseline's other rows are not compared",
     0},
    {"device", 'd', "NAME", 0, "cpu (default), or a GPU of this build: cuda, cuda:1", 0},
    {"quick", 'q', NULL, 0, "few repeats, small sizes: a test that it works, not a measurement", 0},
    {"serve", 's', NULL, OPTION_HIDDEN, "a worker of the two-worker row", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct arguments *a = state->input;
    switch (key) {
    case 'j':
        a->json = 1;
        return 0;
    case 'b':
        a->baseline = arg;
        return 0;
    case 'u':
        a->junit = arg;
        return 0;
    case 'p':
        a->suite = arg;
        return 0;
    case 'd':
        a->device = arg;
        return 0;
    case 'q':
        a->quick = 1;
        return 0;
    case 's':
        a->serve = 1;
        return 0;
    case 't':
        a->tolerance_text = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static enum fpl_code read_tolerance(struct arguments *a, struct fpl_error *err) {
    char *end;
    a->tolerance = strtod(a->tolerance_text, &end);
    if (end != a->tolerance_text && *end == '\0' && a->tolerance >= 0.0 && a->tolerance <= 1.0) return FPL_OK;
    return fpl_fail(err, FPL_INVALID, "bench: --tolerance '%.40s' is not a number from 0 to 1",
                    a->tolerance_text);
}

/* ---- times and rows --------------------------------------------------------------------------- */

double fpl_times_least(const struct fpl_times *t) {
    double least = t->seconds[0];
    for (int i = 1; i < t->count; i++) least = t->seconds[i] < least ? t->seconds[i] : least;
    return least;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double fpl_times_spread(const struct fpl_times *t) {
    double *sorted = malloc((size_t)t->count * sizeof *sorted);
    if (sorted == NULL) return 0.0;
    memcpy(sorted, t->seconds, (size_t)t->count * sizeof *sorted);
    qsort(sorted, (size_t)t->count, sizeof *sorted, ascending);
    const double spread = (sorted[t->count / 2] - sorted[0]) / sorted[0];
    free(sorted);
    return spread;
}

struct fpl_bench_row *fpl_bench_add(struct fpl_bench *b, const struct fpl_times *t, const char *unit,
                                    const char *peer, const char *name, ...) {
    if (b->count == (int)(sizeof b->row / sizeof b->row[0])) return NULL;
    struct fpl_bench_row *row = &b->row[b->count++];
    va_list arguments;
    memset(row, 0, sizeof *row);
    va_start(arguments, name);
    vsnprintf(row->name, sizeof row->name, name, arguments);
    va_end(arguments);
    snprintf(row->unit, sizeof row->unit, "%s", unit);
    snprintf(row->peer, sizeof row->peer, "%s", peer);
    row->repeats = t->count;
    row->spread = fpl_times_spread(t);
    return row;
}

/* A part of the benchmark, and the first words of its rows. */
struct part {
    const char *name;
    enum fpl_code (*run)(struct fpl_bench *, struct fpl_error *);
    const char *rows[3];
};

static const struct part parts[] = {
    {"steps", fpl_bench_steps, {"step ", "quantizing "}},
    {"workers", fpl_bench_workers, {"two workers"}},
    {"products", fpl_bench_products, {"product "}},
    {"quantizers", fpl_bench_quantizers, {"quantize ", "turn "}},
    {"accumulators", fpl_bench_accumulators, {""}}, /* what no other part's rows begin with */
};

static const struct part device_parts[] = {
    {"quantizers", fpl_bench_device_quantizers, {"quantize ", "both "}},
    {"products", fpl_bench_device_products, {"product "}},
    {"accumulators", fpl_bench_device_accumulators, {"accumulate "}},
    {"packs", fpl_bench_device_packs, {"pack ", "large "}},
};
enum { MOST_PARTS = 5 };

/* Those of the device that is measured; the last row has no name. */
static void choose_parts(const struct fpl_bench *b, struct part *out) {
    const int is_host = b->kernels->devices == NULL;
    const size_t count = is_host ? sizeof parts / sizeof parts[0] : sizeof device_parts / sizeof parts[0];
    memset(out, 0, (MOST_PARTS + 1) * sizeof *out);
    memcpy(out, is_host ? parts : device_parts, count * sizeof *out);
}

/* Whether the list of names, separated by commas, holds `name`. */
static int listed(const char *names, const char *name) {
    const size_t n = strlen(name);
    for (const char *p = names; p != NULL; p = strchr(p, ','), p = p != NULL ? p + 1 : NULL)
        if (strncmp(p, name, n) == 0 && (p[n] == ',' || p[n] == '\0')) return 1;
    return 0;
}

static enum fpl_code check_suite(const struct part *part, const char *suite, struct fpl_error *err) {
    int known = 0, asked = 1;
    struct fpl_text names = {0};
    if (suite == NULL) return FPL_OK;
    for (const char *p = suite; *p != '\0'; p++) asked += *p == ',';
    for (const struct part *p = part; p->name != NULL; p++) {
        known += listed(suite, p->name);
        fpl_text_add(&names, "%s%s", p == part ? "" : ", ", p->name);
    }
    enum fpl_code code = FPL_OK;
    if (known != asked)
        code = fpl_fail(err, FPL_INVALID,
                        "bench: --suite '%.60s' names what is no part; accepted are %s, each once", suite,
                        names.failed ? "..." : names.text);
    fpl_text_free(&names);
    return code;
}

int fpl_bench_row_asked(const struct fpl_bench *b, const char *suite, const char *row) {
    struct part part[MOST_PARTS + 1];
    choose_parts(b, part);
    for (const struct part *p = part; suite != NULL && p->name != NULL; p++)
        for (int j = 0; j < 3 && p->rows[j] != NULL; j++)
            if (strncmp(row, p->rows[j], strlen(p->rows[j])) == 0) return listed(suite, p->name);
    return 1;
}

static enum fpl_code run_all(struct fpl_bench *b, const struct part *part, const char *suite,
                             struct fpl_error *err) {
    enum fpl_code code = FPL_OK;
    for (const struct part *p = part; p->name != NULL && code == FPL_OK; p++) {
        if (suite != NULL && !listed(suite, p->name)) continue;
        fpl_cli_progress((double)(p - part) / MOST_PARTS, p->name);
        code = p->run(b, err);
    }
    fpl_cli_progress_end();
    return code;
}

/* ---- telling ------------------------------------------------------------------------------------ */

static void print_table(const struct fpl_bench *b) {
    struct fpl_record machine;
    memset(&machine, 0, sizeof machine);
    fpl_machine_describe(&machine);
    if (b->kernels->devices == NULL)
        printf("%s, one core, %s, %s\n", machine.cpu, fpl_simd_level(), machine.compiler);
    else
        printf("%s: %s, on %s\n", b->kernels->name, b->variants, machine.cpu);
    if (b->sgemm > 0.0)
        printf("sgemm 1024^3, OpenBLAS (%s kernels), one thread: %.1f GFLOP/s\n", fpl_sgemm_core(),
               1e-9 * b->sgemm);
    putchar('\n');
    printf("%-38s %12s %-9s %8s of %-14s %7s\n", "", "value", "", "ratio", "peer", "spread");
    for (int i = 0; i < b->count; i++) {
        const struct fpl_bench_row *r = &b->row[i];
        const int share = strcmp(r->unit, "share") == 0;
        const double value = share ? 100.0 * r->value : r->value;
        printf("%-38s %12.*f %-9s %8.3f of %-14s %6.1f%%\n", r->name,
               value >= 1000.0 ? 0
               : share         ? 1
                               : 2,
               value, share ? "%" : r->unit, r->ratio, r->peer, 100.0 * r->spread);
    }
}

static json_t *row_json(const struct fpl_bench_row *r) {
    return json_pack("{s:s, s:f, s:s, s:s, s:f, s:s, s:i, s:i, s:f}", "name", r->name, "value", r->value,
                     "unit", r->unit, "peer", r->peer, "ratio", r->ratio, "bits", r->bits, "repeats",
                     r->repeats, "replicas", r->replicas, "spread", r->spread);
}

static enum fpl_code print_json(const struct fpl_bench *b, struct fpl_error *err) {
    struct fpl_record m;
    memset(&m, 0, sizeof m);
    fpl_machine_describe(&m);
    json_t *rows = json_array();
    for (int i = 0; i < b->count; i++) json_array_append_new(rows, row_json(&b->row[i]));
    json_t *root = json_pack("{s:s, s:{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:f}, s:o}", "schema",
                             "fplaw-bench/1", "machine", "backend", b->kernels->name, "device", b->variants,
                             "host", m.host, "cpu", m.cpu, "compiler", m.compiler, "simd", fpl_simd_level(),
                             "blas", fpl_sgemm_core(), "revision", fpl_cli_revision, "numerics", FPL_NUMERICS,
                             "sgemm_gflops", 1e-9 * b->sgemm, "rows", rows);
    char *text = root != NULL ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(root);
    if (text == NULL) return fpl_fail(err, FPL_SYSTEM, "bench: out of memory");
    puts(text);
    free(text);
    return FPL_OK;
}

/* ---- the command ------------------------------------------------------------------------------------ */

/* The device's own words are asked for once: opening it takes time. */
static enum fpl_code choose_device(struct fpl_bench *b, const char *text, struct fpl_error *err) {
    struct fpl_device *dev = NULL;
    cpu_set_t set;
    enum fpl_code code =
        fpl_backend_choose(text != NULL ? text : fpl_backend_names[0], &b->kernels, &b->number, err);
    if (code == FPL_OK) code = fpl_backend_ready(b->kernels, b->number, err);
    if (b->number < 0) b->number = 0;
    b->threads = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    const struct fpl_device_options first = {.threads = 1, .number = b->number};
    if (code == FPL_OK) code = b->kernels->open(&dev, &first, err);
    if (code != FPL_OK) return code;
    b->kernels->describe(dev, b->variants, sizeof b->variants);
    b->kernels->close(dev);
    return FPL_OK;
}

int fpl_cmd_bench(int argc, char **argv) {
    static const struct argp argp = {
        options,
        parse,
        "",
        "Measure training steps, products and quantizers against their peers, on one core or on a GPU.",
        NULL,
        NULL,
        NULL};
    struct arguments a = {.tolerance = 0.05};
    struct fpl_error err = {FPL_OK, ""};
    static struct fpl_bench bench;
    json_t *baseline = NULL;
    fpl_cli_parse(&argp, argc, argv, &a);
    if (a.serve) return fpl_bench_serve();
    if (a.junit != NULL && a.baseline == NULL) {
        fpl_fail(&err, FPL_INVALID, "bench: --junit tells a comparison and needs --baseline FILE");
        return fpl_cli_fail(&err);
    }
    if (a.tolerance_text != NULL && read_tolerance(&a, &err) != FPL_OK) return fpl_cli_fail(&err);
    enum fpl_code code = choose_device(&bench, a.device, &err);
    struct part part[MOST_PARTS + 1];
    if (code == FPL_OK) choose_parts(&bench, part);
    if (code == FPL_OK && a.baseline != NULL) code = fpl_bench_load(&bench, a.baseline, &baseline, &err);
    if (code == FPL_OK) code = check_suite(part, a.suite, &err);
    bench.quick = a.quick;
    if (code == FPL_OK) code = run_all(&bench, part, a.suite, &err);
    if (code == FPL_OK && a.json)
        code = print_json(&bench, &err);
    else if (code == FPL_OK)
        print_table(&bench);
    if (code == FPL_OK && baseline != NULL) {
        const struct fpl_bench_comparison c = {a.baseline, a.junit, a.suite, a.tolerance};
        code = fpl_bench_compare(&bench, &c, baseline, &err);
    }
    json_decref(baseline);
    return code == FPL_OK ? 0 : fpl_cli_fail(&err);
}
