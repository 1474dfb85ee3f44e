/* cli_bench.c - `fplaw bench`: speed against limits and peers, and whether bits changed.
 *
 * A table for people, JSON (schema fplaw-bench/1, design.md) for machines.  --baseline reads an
 * earlier JSON and finds rows whose ratio fell by more than the tolerance plus the larger of
 * the two spreads, whose bits differ, or that are gone.
 */
#include <jansson.h>
#include <math.h>
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
    const char *baseline, *junit;
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
     "only these parts: steps, workers, products, quantizers, accumulators; a baseline's other rows are not "
     "compared",
     0},
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
enum { PARTS = sizeof parts / sizeof parts[0] };

/* Whether the list of names, separated by commas, holds `name`. */
static int listed(const char *names, const char *name) {
    const size_t n = strlen(name);
    for (const char *p = names; p != NULL; p = strchr(p, ','), p = p != NULL ? p + 1 : NULL)
        if (strncmp(p, name, n) == 0 && (p[n] == ',' || p[n] == '\0')) return 1;
    return 0;
}

static enum fpl_code check_suite(const char *suite, struct fpl_error *err) {
    int known = 0, asked = 1;
    for (const char *p = suite; p != NULL && *p != '\0'; p++) asked += *p == ',';
    for (int i = 0; i < PARTS; i++) known += listed(suite, parts[i].name);
    if (suite == NULL || known == asked) return FPL_OK;
    return fpl_fail(err, FPL_INVALID,
                    "bench: --suite '%.60s' names what is no part; accepted are steps, workers, products, "
                    "quantizers, accumulators, each once",
                    suite);
}

/* Whether the part that a row belongs to was asked for. */
static int row_asked(const char *suite, const char *row) {
    for (int i = 0; suite != NULL && i < PARTS; i++)
        for (int j = 0; j < 3 && parts[i].rows[j] != NULL; j++)
            if (strncmp(row, parts[i].rows[j], strlen(parts[i].rows[j])) == 0)
                return listed(suite, parts[i].name);
    return 1;
}

static enum fpl_code run_all(struct fpl_bench *b, const char *suite, struct fpl_error *err) {
    enum fpl_code code = FPL_OK;
    for (int i = 0; i < PARTS && code == FPL_OK; i++) {
        if (suite != NULL && !listed(suite, parts[i].name)) continue;
        fpl_cli_progress((double)i / PARTS, parts[i].name);
        code = parts[i].run(b, err);
    }
    fpl_cli_progress_end();
    return code;
}

/* ---- telling ------------------------------------------------------------------------------------ */

static void print_table(const struct fpl_bench *b) {
    struct fpl_record machine;
    memset(&machine, 0, sizeof machine);
    fpl_machine_describe(&machine);
    printf("%s, one core, %s, %s\n", machine.cpu, fpl_simd_level(), machine.compiler);
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
    return json_pack("{s:s, s:f, s:s, s:s, s:f, s:s, s:i, s:f}", "name", r->name, "value", r->value, "unit",
                     r->unit, "peer", r->peer, "ratio", r->ratio, "bits", r->bits, "repeats", r->repeats,
                     "spread", r->spread);
}

static enum fpl_code print_json(const struct fpl_bench *b, struct fpl_error *err) {
    struct fpl_record m;
    memset(&m, 0, sizeof m);
    fpl_machine_describe(&m);
    json_t *rows = json_array();
    for (int i = 0; i < b->count; i++) json_array_append_new(rows, row_json(&b->row[i]));
    json_t *root = json_pack("{s:s, s:{s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:f}, s:o}", "schema",
                             "fplaw-bench/1", "machine", "host", m.host, "cpu", m.cpu, "compiler", m.compiler,
                             "simd", fpl_simd_level(), "blas", fpl_sgemm_core(), "revision", fpl_cli_revision,
                             "numerics", FPL_NUMERICS, "sgemm_gflops", 1e-9 * b->sgemm, "rows", rows);
    char *text = root != NULL ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(root);
    if (text == NULL) return fpl_fail(err, FPL_SYSTEM, "bench: out of memory");
    puts(text);
    free(text);
    return FPL_OK;
}

/* ---- comparing ------------------------------------------------------------------------------------ */

static const struct fpl_bench_row *find_row(const struct fpl_bench *b, const char *name) {
    for (int i = 0; i < b->count; i++)
        if (strcmp(b->row[i].name, name) == 0) return &b->row[i];
    return NULL;
}

/* What is wrong with a row of the baseline now: "" if nothing. */
static void compare_row(const struct fpl_bench *b, json_t *old, double tolerance, char *why, size_t size) {
    const char *name = json_string_value(json_object_get(old, "name"));
    const char *bits = json_string_value(json_object_get(old, "bits"));
    const double ratio = json_number_value(json_object_get(old, "ratio"));
    const double spread = json_number_value(json_object_get(old, "spread"));
    const struct fpl_bench_row *now = find_row(b, name);
    why[0] = '\0';
    if (now == NULL)
        snprintf(why, size, "is not measured any more");
    else if (bits != NULL && strcmp(bits, now->bits) != 0)
        snprintf(why, size, "computes other bits (%s, were %s)", now->bits, bits);
    else if (now->ratio < ratio * (1.0 - tolerance - fmax(spread, now->spread)))
        snprintf(why, size, "fell from %.3f to %.3f of %s", ratio, now->ratio, now->peer);
}

static enum fpl_code load_baseline(const char *path, json_t **root, struct fpl_error *err) {
    char *text;
    size_t size;
    json_error_t where;
    enum fpl_code code = fpl_file_read(path, 16u << 20, &text, &size, err);
    if (code != FPL_OK) return code;
    *root = json_loadb(text, size, 0, &where);
    free(text);
    if (*root == NULL)
        return fpl_fail(err, FPL_INVALID, "%s, line %d: not JSON: %s", path, where.line, where.text);
    const char *schema = json_string_value(json_object_get(*root, "schema"));
    json_t *rows = json_object_get(*root, "rows"), *row;
    size_t i;
    int good = schema != NULL && strcmp(schema, "fplaw-bench/1") == 0 && json_is_array(rows);
    json_array_foreach(rows, i, row) {
        good = good && json_is_string(json_object_get(row, "name")) &&
               json_is_number(json_object_get(row, "ratio"));
    }
    if (good) return FPL_OK;
    json_decref(*root);
    return fpl_fail(err, FPL_INVALID, "%s: not the output of `fplaw bench --json` (schema fplaw-bench/1)",
                    path);
}

static void add_attribute(struct fpl_text *xml, const char *name, const char *value) {
    fpl_text_add(xml, " %s=\"", name);
    for (; *value != '\0'; value++) {
        if (strchr("<>&\"'", *value) != NULL || (unsigned char)*value < 32)
            fpl_text_add(xml, "&#%d;", *value);
        else
            fpl_text_append(xml, value, 1);
    }
    fpl_text_add(xml, "\"");
}

static void add_case(struct fpl_text *xml, const char *name, const char *why) {
    fpl_text_add(xml, "  <testcase classname=\"fplaw.bench\"");
    add_attribute(xml, "name", name);
    fpl_text_add(xml, ">");
    if (why[0] != '\0') {
        fpl_text_add(xml, "<failure");
        add_attribute(xml, "message", why);
        fpl_text_add(xml, "/>");
    }
    fpl_text_add(xml, "</testcase>\n");
}

/* Compare row by row; messages and JUnit cases; FPL_REGRESSION if any row got worse. */
static enum fpl_code compare(const struct fpl_bench *b, const struct arguments *a, json_t *baseline,
                             struct fpl_error *err) {
    struct fpl_text xml = {NULL, 0, 0, 0}, names = {NULL, 0, 0, 0};
    json_t *rows = json_object_get(baseline, "rows"), *row;
    size_t i;
    int worse = 0;
    fpl_text_add(
        &xml, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"fplaw bench\" tests=\"%zu\">\n",
        json_array_size(rows));
    json_array_foreach(rows, i, row) {
        const char *name = json_string_value(json_object_get(row, "name"));
        char why[160];
        if (name != NULL && !row_asked(a->suite, name)) continue;
        compare_row(b, row, a->tolerance, why, sizeof why);
        add_case(&xml, name, why);
        if (why[0] == '\0') continue;
        fpl_text_add(&names, "%s'%s' %s", worse++ ? "; " : "", name, why);
    }
    fpl_text_add(&xml, "</testsuite>\n");
    enum fpl_code code =
        xml.failed || names.failed ? fpl_fail(err, FPL_SYSTEM, "bench: out of memory") : FPL_OK;
    if (code == FPL_OK && a->junit != NULL) code = fpl_file_write(a->junit, xml.text, xml.size, err);
    if (code == FPL_OK && worse > 0)
        code = fpl_fail(err, FPL_REGRESSION, "bench: %d of %zu rows are worse than %s: %s", worse,
                        json_array_size(rows), a->baseline, names.text);
    fpl_text_free(&xml);
    fpl_text_free(&names);
    return code;
}

/* ---- the command ------------------------------------------------------------------------------------ */

int fpl_cmd_bench(int argc, char **argv) {
    static const struct argp argp = {
        options, parse,
        "",      "Measure training steps, products and quantizers against their peers, on one core.",
        NULL,    NULL,
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
    if (a.baseline != NULL && load_baseline(a.baseline, &baseline, &err) != FPL_OK) return fpl_cli_fail(&err);
    if (check_suite(a.suite, &err) != FPL_OK) return fpl_cli_fail(&err);
    bench.quick = a.quick;
    enum fpl_code code = run_all(&bench, a.suite, &err);
    if (code == FPL_OK && a.json)
        code = print_json(&bench, &err);
    else if (code == FPL_OK)
        print_table(&bench);
    if (code == FPL_OK && baseline != NULL) code = compare(&bench, &a, baseline, &err);
    json_decref(baseline);
    return code == FPL_OK ? 0 : fpl_cli_fail(&err);
}
