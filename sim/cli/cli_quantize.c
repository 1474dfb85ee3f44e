/* cli_quantize.c - `fplaw quantize --to QUANTIZER.. [options] IN [OUT]`: arguments and order.
 *
 * IN is raw little-endian float32, .npy or .safetensors (recognised by its first bytes); OUT
 * gets the dequantized values in the same form and length, or with --codes the packed codes,
 * whole or not at all.  Without OUT the measures are all there is.  Random bits are those of
 * seed S, step 0, stream 0, element = position in its tensor.  The CPU backend quantizes; its
 * bits are those of fpl_quantize_reference.
 */
#include "cli_quantize.h"

#include <fnmatch.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

enum { KEY_CODES = 1000, KEY_SVG, KEY_DTYPE };

struct arguments {
    const char **to, **globs; /* argc of each at most */
    int to_count, glob_count;
    const char *shape, *seed, *svg, *dtype, *threads, *paths[2], *extra;
    int count, json, codes, histogram;
};

static const struct argp_option options[] = {
    {"to", 't', "QUANTIZER", 0,
     "as e4m3fn, e2m1/1x32:e8m0, e3m2:sr/row (`fplaw formats` lists the words), or mxfp8, mxfp8_e5m2, "
     "mxfp6_e3m2, mxfp6_e2m3, mxfp4, nvfp4; several: --to A --to B or --to A,B",
     0},
    {"shape", 's', "RxC", 0,
     "rows by columns; the columns run along the reduction axis (default: the last axis "
     "of each tensor; raw: one row)",
     0},
    {"tensor", 'n', "GLOB", 0,
     "of a .safetensors file, the tensors whose names match, as 'model.*.weight' "
     "(default: all of F32, F16 and BF16); may be repeated",
     0},
    {"seed", 'S', "S", 0, "of stochastic rounding, 0 to 2^64 - 1 (default: 0)", 0},
    {"codes", KEY_CODES, NULL, 0,
     "write packed codes and scales instead of values: OUT is a .safetensors file", 0},
    {"histogram", 'H', NULL, 0, "draw how many values have which exponent, and which became 0", 0},
    {"svg", KEY_SVG, "FILE", 0, "the same as SVG", 0},
    {"dtype", KEY_DTYPE, "TYPE", 0, "of raw files and .npy files of '<u2': f32, f16 or bf16 (default: f32)",
     0},
    {"threads", 'T', "T", 0, "as many threads; the results are the same (default: one per processor)", 0},
    {"json", 'j', NULL, 0, "describe the result on standard output as one JSON object", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct arguments *a = state->input;
    switch (key) {
    case 't':
        a->to[a->to_count++] = arg;
        return 0;
    case 'n':
        a->globs[a->glob_count++] = arg;
        return 0;
    case 's':
        a->shape = arg;
        return 0;
    case 'S':
        a->seed = arg;
        return 0;
    case 'T':
        a->threads = arg;
        return 0;
    case 'j':
        a->json = 1;
        return 0;
    case 'H':
        a->histogram = 1;
        return 0;
    case KEY_CODES:
        a->codes = 1;
        return 0;
    case KEY_SVG:
        a->svg = arg;
        return 0;
    case KEY_DTYPE:
        a->dtype = arg;
        return 0;
    case ARGP_KEY_ARG:
        if (a->count == 2)
            a->extra = arg;
        else
            a->paths[a->count++] = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- words ----------------------------------------------------------------------------------------- */

/* Decimal digits up to most; 0 on success. */
static int read_number(const char **p, uint64_t most, uint64_t *value) {
    const char *digits = *p;
    *value = 0;
    for (; **p >= '0' && **p <= '9'; (*p)++) {
        const uint64_t digit = (uint64_t)(**p - '0');
        if (*value > (most - digit) / 10) return -1;
        *value = 10 * *value + digit;
    }
    return *p == digits ? -1 : 0;
}

static enum fpl_code read_shape(const char *text, struct quantize_job *job, struct fpl_error *err) {
    uint64_t r, c = 0;
    const char *p = text;
    if (text == NULL) return FPL_OK;
    if (read_number(&p, INT64_MAX, &r) != 0 || *p++ != 'x' || read_number(&p, INT64_MAX, &c) != 0 ||
        *p != '\0' || r == 0 || c == 0)
        return fpl_fail(err, FPL_INVALID, "quantize: --shape \"%s\"; accepted: rows x columns, as 128x512",
                        text);
    job->shape_rows = (int64_t)r;
    job->shape_cols = (int64_t)c;
    return FPL_OK;
}

/* Names of block formats for the quantizer of their operands. */
static const struct {
    const char *name, *text;
} block_formats[] = {
    {"mxfp8", "e4m3fn/1x32:rceil"},   {"mxfp8_e5m2", "e5m2ieee/1x32:rceil"}, {"mxfp6_e3m2", "e3m2/1x32:e8m0"},
    {"mxfp6_e2m3", "e2m3/1x32:e8m0"}, {"mxfp4", "e2m1/1x32:e8m0"},           {"nvfp4", "e2m1/1x16:e4m3fn+t"},
};

static enum fpl_code add_target(struct quantize_job *job, const char *text, struct fpl_error *err) {
    struct quantize_target *grown = realloc(job->targets, (job->count + 1) * sizeof *grown);
    if (grown == NULL) return fpl_fail(err, FPL_SYSTEM, "quantize: out of memory");
    job->targets = grown;
    struct quantize_target *t = &job->targets[job->count];
    memset(t, 0, sizeof *t);
    for (size_t i = 0; i < sizeof block_formats / sizeof block_formats[0]; i++)
        if (strcmp(text, block_formats[i].name) == 0) text = block_formats[i].text;
    if (fpl_quantizer_parse(text, &t->quantizer, err) != FPL_OK) return err->code;
    fpl_quantizer_print(&t->quantizer, t->text, sizeof t->text);
    for (size_t i = 0; i < job->count; i++)
        if (strcmp(job->targets[i].text, t->text) == 0)
            return fpl_fail(err, FPL_INVALID, "quantize: --to %s is given twice", t->text);
    job->count++;
    return FPL_OK;
}

/* A list: commas, those inside parentheses aside. */
static enum fpl_code add_targets(struct quantize_job *job, const char *list, struct fpl_error *err) {
    char *copy = strdup(list), *word = copy;
    enum fpl_code code = FPL_OK;
    int depth = 0;
    if (copy == NULL) return fpl_fail(err, FPL_SYSTEM, "quantize: out of memory");
    for (char *p = copy; code == FPL_OK; p++) {
        const char c = *p;
        depth += (c == '(') - (c == ')');
        if (c != '\0' && !(c == ',' && depth <= 0)) continue;
        *p = '\0';
        code = add_target(job, word, err);
        word = p + 1;
        if (c == '\0') break;
    }
    free(copy);
    return code;
}

/* OUT of a target: with several quantizers, % stands for the quantizer, made fit for a name. */
static char *name_out(const char *pattern, const char *quantizer, int several) {
    const size_t room = strlen(pattern) * (several ? strlen(quantizer) + 1 : 1) + 1;
    char *name = malloc(room), *to = name;
    if (name == NULL) return NULL;
    for (const char *p = pattern; *p != '\0'; p++) {
        if (*p != '%' || !several) {
            *to++ = *p;
            continue;
        }
        for (const char *q = quantizer; *q != '\0'; q++) *to++ = strchr("/:()#, *?", *q) != NULL ? '_' : *q;
    }
    *to = '\0';
    return name;
}

static enum fpl_code check_arguments(const struct arguments *a, struct quantize_job *job, int *dtype,
                                     struct fpl_error *err) {
    const char *p = a->seed;
    uint64_t threads = 0;
    if (a->to_count == 0)
        return fpl_fail(err, FPL_INVALID,
                        "quantize: no --to given; accepted: a quantizer, as --to e2m1/1x32:e8m0");
    if (a->count < 1)
        return fpl_fail(err, FPL_INVALID,
                        "quantize: no files given; accepted: IN and OUT (- for standard input and output)");
    if (a->extra != NULL)
        return fpl_fail(err, FPL_INVALID,
                        "quantize: unexpected argument \"%s\"; accepted: one IN and one OUT", a->extra);
    if (a->json && a->count == 2 && strcmp(a->paths[1], "-") == 0)
        return fpl_fail(err, FPL_INVALID,
                        "quantize: --json and OUT both want standard output; accepted: a file as OUT");
    if (a->codes && a->count < 2)
        return fpl_fail(err, FPL_INVALID, "quantize: --codes but no OUT given; accepted: a file as OUT");
    if (p != NULL && (read_number(&p, UINT64_MAX, &job->seed) != 0 || *p != '\0'))
        return fpl_fail(err, FPL_INVALID, "quantize: --seed \"%s\"; accepted: 0 to 18446744073709551615",
                        a->seed);
    p = a->threads;
    if (p != NULL && (read_number(&p, 1024, &threads) != 0 || *p != '\0' || threads == 0))
        return fpl_fail(err, FPL_INVALID, "quantize: --threads \"%s\"; accepted: 1 to 1024", a->threads);
    if (threads > 0) job->threads = (int)threads;
    for (int i = 0; a->dtype != NULL && fpl_dtype_names[i] != NULL; i++)
        if (strcmp(a->dtype, fpl_dtype_names[i]) == 0) *dtype = i;
    if (a->dtype != NULL && *dtype < 0)
        return fpl_fail(err, FPL_INVALID, "quantize: --dtype \"%s\"; accepted: f32, f16, bf16", a->dtype);
    if (read_shape(a->shape, job, err) != FPL_OK) return err->code;
    for (int i = 0; i < a->to_count; i++)
        if (add_targets(job, a->to[i], err) != FPL_OK) return err->code;
    if (job->count > 1 && a->count == 2 && strchr(a->paths[1], '%') == NULL)
        return fpl_fail(
            err, FPL_INVALID,
            "quantize: one OUT for %zu quantizers; accepted: a name with %%, which stands for the "
            "quantizer, or no OUT",
            job->count);
    job->in = a->paths[0];
    job->codes = a->codes;
    return FPL_OK;
}

/* ---- tensors ---------------------------------------------------------------------------------------- */

static int wanted(const struct arguments *a, const struct fpl_tensor *t) {
    if (t->dtype == FPL_DTYPE_OTHER) return 0;
    for (int i = 0; i < a->glob_count; i++)
        if (fnmatch(a->globs[i], t->name, 0) == 0) return 1;
    return a->glob_count == 0;
}

static enum fpl_code select_tensors(const struct arguments *a, struct quantize_job *job,
                                    struct fpl_error *err) {
    const struct fpl_container *c = &job->container;
    if (a->glob_count > 0 && c->kind != FPL_SAFETENSORS)
        return fpl_fail(err, FPL_INVALID, "%s: has no tensors by name; --tensor is for .safetensors files",
                        job->in);
    job->selected = calloc(c->count + 1, sizeof *job->selected);
    if (job->selected == NULL) return fpl_fail(err, FPL_SYSTEM, "quantize: out of memory");
    for (size_t k = 0; k < c->count; k++) {
        const struct fpl_tensor *t = &c->tensors[k];
        if (!wanted(a, t)) continue;
        job->selected[k] = 1;
        job->selected_count++;
        job->elements += t->elements;
        if (job->shape_rows > 0 && (job->shape_rows > t->elements / job->shape_cols ||
                                    job->shape_rows * job->shape_cols != t->elements))
            return fpl_fail(err, FPL_INVALID, "%s%s%.80s: %lld %s values are not --shape %s", job->in,
                            *t->name != '\0' ? ": tensor " : "", t->name, (long long)t->elements,
                            t->dtype == FPL_DTYPE_F32 ? "float32" : fpl_dtype_names[t->dtype], a->shape);
    }
    if (job->selected_count > 0) return FPL_OK;
    if (a->glob_count > 0)
        return fpl_fail(err, FPL_INVALID,
                        "%s: none of its %zu tensors is of F32, F16 or BF16 and matches --tensor '%s'",
                        job->in, c->count, a->globs[0]);
    return fpl_fail(err, FPL_INVALID, "%s: none of its %zu tensors is of F32, F16 or BF16", job->in,
                    c->count);
}

static enum fpl_code prepare_targets(const struct arguments *a, struct quantize_job *job,
                                     struct fpl_error *err) {
    for (size_t i = 0; i < job->count; i++) {
        struct quantize_target *t = &job->targets[i];
        t->tensors = calloc(job->container.count + 1, sizeof *t->tensors);
        if (a->count == 2) t->out = name_out(a->paths[1], t->text, job->count > 1);
        if (a->histogram || a->svg != NULL) t->exponents = calloc(1, sizeof *t->exponents);
        if (t->tensors == NULL || (a->count == 2 && t->out == NULL) ||
            ((a->histogram || a->svg != NULL) && t->exponents == NULL))
            return fpl_fail(err, FPL_SYSTEM, "quantize: out of memory");
    }
    return FPL_OK;
}

/* ---- report ----------------------------------------------------------------------------------------- */

/* To standard output, unless OUT is there. */
static enum fpl_code report(const struct arguments *a, const struct quantize_job *job,
                            struct fpl_error *err) {
    FILE *f = a->count == 2 && strcmp(a->paths[1], "-") == 0 ? stderr : stdout;
    if (a->svg != NULL && quantize_write_svg(job, a->svg, err) != FPL_OK) return err->code;
    if (a->json) {
        if (quantize_print_json(job, err) != FPL_OK) return err->code;
    } else if (a->count == 2 && job->count == 1 && job->container.kind != FPL_SAFETENSORS) {
        quantize_print_line(job->targets, &job->container);
    } else {
        quantize_print_table(f, job);
    }
    for (size_t i = 0; i < job->count && a->histogram && !a->json; i++) quantize_draw(f, &job->targets[i]);
    return FPL_OK;
}

static enum fpl_code run(const struct arguments *a, struct quantize_job *job, struct fpl_error *err) {
    int dtype = -1;
    if (check_arguments(a, job, &dtype, err) != FPL_OK) return err->code;
    if (fpl_container_open(&job->container, a->paths[0], dtype, err) != FPL_OK) return err->code;
    if (select_tensors(a, job, err) != FPL_OK || prepare_targets(a, job, err) != FPL_OK) return err->code;
    fpl_cli_catch_signals();
    enum fpl_code code = FPL_OK;
    for (size_t i = 0; i < job->count && code == FPL_OK; i++)
        code = quantize_file(job, &job->targets[i], err);
    fpl_cli_progress_end();
    return code == FPL_OK ? report(a, job, err) : code;
}

static int processors(void) {
    cpu_set_t set;
    const int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n < 1 ? 1 : n > 64 ? 64 : n;
}

static void free_job(struct quantize_job *job) {
    for (size_t i = 0; i < job->count; i++) {
        free(job->targets[i].tensors);
        free(job->targets[i].out);
        free(job->targets[i].exponents);
    }
    free(job->targets);
    free(job->selected);
    fpl_container_close(&job->container);
}

int fpl_cmd_quantize(int argc, char **argv) {
    static const struct argp argp = {
        options,
        parse,
        "--to QUANTIZER IN [OUT]",
        "Round a file of floats - raw little-endian float32, .npy (float32, float16, ml_dtypes' bfloat16) or "
        ".safetensors (F32, F16, BF16; other tensors are copied) - measure what was lost, and write what the "
        "values become in the same form.\v"
        "With several quantizers OUT is a pattern: % stands for the quantizer, its / and : as _. Values of "
        "F16 "
        "and BF16 tensors are rounded once more, to nearest, to be written, and a message tells how many "
        "that "
        "changed; measures are of the values before that.\n\n"
        "--codes: tensor X becomes X.codes, each row a string of bits, lowest first, element j at bits j w "
        "to "
        "j w + w - 1 (4-bit codes: two a byte, low nibble first); X.scales, one per group: bytes of E8M0 "
        "(exponent + 127) or of the scale format (e4m3fn), or F32; X.scale_2, F32, for +t (nvfp4); X.zeros, "
        "for "
        "+z. A value is fl(code * scale), then times scale_2. The metadata hold fplaw.quantizer, "
        "fplaw.layout "
        "(mx, nvfp4, fplaw), X.shape and X.dtype.\n\n"
        "Files are mapped and treated in tiles; standard input and devices are read, up to 1 GiB. One "
        "quantizer "
        "on an array with OUT says its measures in a line on standard error, all else as a table on standard "
        "output.",
        NULL,
        NULL,
        NULL};
    struct arguments a = {.to = malloc((size_t)argc * sizeof *a.to),
                          .globs = malloc((size_t)argc * sizeof *a.globs)};
    struct quantize_job job = {.threads = processors()};
    struct fpl_error err = {FPL_OK, ""};
    enum fpl_code code = FPL_OK;
    if (a.to == NULL || a.globs == NULL)
        code = fpl_fail(&err, FPL_SYSTEM, "quantize: out of memory");
    else
        fpl_cli_parse(&argp, argc, argv, &a);
    if (code == FPL_OK) code = run(&a, &job, &err);
    free_job(&job);
    free(a.to);
    free(a.globs);
    return code == FPL_OK ? 0 : fpl_cli_fail(&err);
}
