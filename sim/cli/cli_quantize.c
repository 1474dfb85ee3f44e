/* cli_quantize.c - `fplaw quantize --to QUANTIZER [--shape RxC] [--seed S] [--json] IN OUT`.
 *
 * IN holds little-endian float32 values, raw or as .npy (recognised by its first bytes); OUT
 * gets the dequantized values in the same form and length, whole or not at all.  Random bits
 * are those of seed S, step 0, stream 0, element = position in the file.  The CPU backend
 * quantizes; its bits are those of fpl_quantize_reference.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/measure.h"
#include "../../kernels/kernels.h"
#include "../base/file.h"
#include "cli.h"
#include "npy.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are little-endian and read as they are");

struct arguments {
    const char *to, *shape, *seed, *paths[2], *extra;
    int count, json;
};

static const struct argp_option options[] = {
    {"to", 't', "QUANTIZER", 0, "as e4m3fn, e2m1/1x32:e8m0, e3m2:sr/row; `fplaw formats` lists the words", 0},
    {"shape", 's', "RxC", 0, "rows by columns; the columns run along the reduction axis (default: one row)",
     0},
    {"seed", 'S', "S", 0, "of stochastic rounding, 0 to 2^64 - 1 (default: 0)", 0},
    {"json", 'j', NULL, 0, "describe the result on standard output as one JSON object", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct arguments *a = state->input;
    switch (key) {
    case 't':
        a->to = arg;
        return 0;
    case 's':
        a->shape = arg;
        return 0;
    case 'S':
        a->seed = arg;
        return 0;
    case 'j':
        a->json = 1;
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

static enum fpl_code read_shape(const char *text, int64_t *rows, int64_t *cols, struct fpl_error *err) {
    uint64_t r, c = 0;
    const char *p = text;
    if (read_number(&p, INT64_MAX, &r) != 0 || *p++ != 'x' || read_number(&p, INT64_MAX, &c) != 0 ||
        *p != '\0' || r == 0 || c == 0)
        return fpl_fail(err, FPL_INVALID, "quantize: --shape \"%s\"; accepted: rows x columns, as 128x512",
                        text);
    *rows = (int64_t)r;
    *cols = (int64_t)c;
    return FPL_OK;
}

/* A file of values: where they lie and how they are seen. */
struct operand {
    char *file; /* whole file */
    size_t size, data_at;
    int64_t rows, cols;
    float *x, *out; /* rows x cols */
};

static enum fpl_code find_values(const struct arguments *a, struct operand *o, struct fpl_error *err) {
    const char *name = a->paths[0];
    o->data_at = 0;
    o->rows = 1;
    o->cols = (int64_t)(o->size / 4);
    if (fpl_npy_is(o->file, o->size)) {
        struct fpl_npy npy;
        if (fpl_npy_header(name, o->file, o->size, &npy, err) != FPL_OK) return err->code;
        o->data_at = npy.data_at;
        o->rows = npy.rows;
        o->cols = npy.cols;
    } else if (o->size % 4 != 0) {
        return fpl_fail(err, FPL_INVALID,
                        "%s: %zu bytes are not divisible by 4; accepted: whole float32 values", name,
                        o->size);
    }
    if (a->shape == NULL) return FPL_OK;
    const int64_t values = o->rows * o->cols;
    if (read_shape(a->shape, &o->rows, &o->cols, err) != FPL_OK) return err->code;
    if (o->rows > values / o->cols || o->rows * o->cols != values)
        return fpl_fail(err, FPL_INVALID, "%s: %lld float32 values are not --shape %s", name,
                        (long long)values, a->shape);
    return FPL_OK;
}

static enum fpl_code run_quantizer(const struct fpl_quantizer *q, uint64_t seed, const struct operand *o,
                                   struct fpl_error *err) {
    const struct fpl_kernels *k = fpl_backend("cpu");
    const struct fpl_device_options device = {.threads = 1};
    const size_t bytes = (size_t)(o->rows * o->cols) * sizeof *o->x;
    struct fpl_operand operand;
    struct fpl_device *dev = NULL;
    if (bytes == 0) return FPL_OK;
    if (k->open(&dev, &device, err) != FPL_OK) return err->code;
    memset(&operand, 0, sizeof operand);
    fpl_quantizer_lower(q, NULL, &operand.plan);
    operand.at.seed = seed;
    float *x = k->alloc(dev, bytes), *out = k->alloc(dev, bytes);
    if (x != NULL && out != NULL) {
        k->upload(dev, x, o->x, bytes);
        k->quantize(dev, 1, o->rows, o->cols, &operand, x, out, NULL);
        k->download(dev, o->out, out, bytes);
    }
    const enum fpl_code code = k->check(dev, err);
    k->release(dev, x);
    k->release(dev, out);
    k->close(dev);
    return code;
}

static json_t *real_or_null(double v) { return isfinite(v) ? json_real(v) : json_null(); }

static enum fpl_code print_json(const char *quantizer, const struct fpl_quantizer_measure *m,
                                struct fpl_error *err) {
    json_t *o = json_object();
    int bad = o == NULL;
    bad |= json_object_set_new(o, "quantizer", json_string(quantizer));
    bad |= json_object_set_new(o, "elements", json_integer(m->elements));
    bad |= json_object_set_new(o, "bits_per_value", json_real(m->bits_per_value));
    bad |= json_object_set_new(o, "sqnr_db", real_or_null(m->sqnr_db));
    bad |= json_object_set_new(o, "underflow", json_real(m->underflow));
    bad |= json_object_set_new(o, "clipped", json_real(m->clipped));
    bad |= json_object_set_new(o, "nonfinite", json_integer(m->nonfinite));
    bad |= json_object_set_new(o, "amax", json_real(m->amax));
    char *text = bad ? NULL : json_dumps(o, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(17));
    json_decref(o);
    if (text == NULL) return fpl_fail(err, FPL_SYSTEM, "quantize: out of memory");
    puts(text);
    free(text);
    return FPL_OK;
}

/* On standard error, because OUT may be standard output. */
static void print_line(const char *quantizer, const struct fpl_quantizer *q,
                       const struct fpl_quantizer_measure *m) {
    char largest[48] = "", sqnr[32] = "undefined";
    if (!isnan(m->sqnr_db)) snprintf(sqnr, sizeof sqnr, "%.2f dB", m->sqnr_db);
    if (!q->identity) {
        struct fpl_format_limits limits;
        fpl_format_limits(&q->format, &limits);
        snprintf(largest, sizeof largest, " (largest %.9g)", limits.largest);
    }
    fprintf(stderr,
            "%s%s: %lld values, %.4g bits each, SQNR %s, underflow %.3g %%, clipped %.3g %%, "
            "%lld non-finite, amax %.9g\n",
            quantizer, largest, (long long)m->elements, m->bits_per_value, sqnr, 100.0 * m->underflow,
            100.0 * m->clipped, (long long)m->nonfinite, m->amax);
}

static enum fpl_code quantize_file(const struct arguments *a, const struct fpl_quantizer *q, uint64_t seed,
                                   struct operand *o, struct fpl_error *err) {
    struct fpl_quantizer_measure m;
    char quantizer[FPL_QUANTIZER_TEXT];
    if (fpl_file_read(a->paths[0], SIZE_MAX / 4, &o->file, &o->size, err) != FPL_OK) return err->code;
    if (find_values(a, o, err) != FPL_OK) return err->code;
    const size_t bytes = (size_t)(o->rows * o->cols) * sizeof *o->x;
    o->x = malloc(bytes + 1); /* never of size 0 */
    o->out = malloc(bytes + 1);
    if (o->x == NULL || o->out == NULL)
        return fpl_fail(err, FPL_SYSTEM, "quantize: out of memory (%zu bytes)", bytes);
    memcpy(o->x, o->file + o->data_at, bytes);
    if (run_quantizer(q, seed, o, err) != FPL_OK) return err->code;
    memcpy(o->file + o->data_at, o->out, bytes);
    if (fpl_file_write(a->paths[1], o->file, o->size, err) != FPL_OK) return err->code;
    fpl_quantizer_measure(q, o->rows, o->cols, o->x, o->out, &m);
    fpl_quantizer_print(q, quantizer, sizeof quantizer);
    if (a->json) return print_json(quantizer, &m, err);
    print_line(quantizer, q, &m);
    return FPL_OK;
}

static enum fpl_code check_arguments(const struct arguments *a, struct fpl_quantizer *q, uint64_t *seed,
                                     struct fpl_error *err) {
    const char *p = a->seed;
    *seed = 0;
    if (a->to == NULL)
        return fpl_fail(err, FPL_INVALID,
                        "quantize: no --to given; accepted: a quantizer, as --to e2m1/1x32:e8m0");
    if (a->count < 2)
        return fpl_fail(err, FPL_INVALID,
                        "quantize: %s; accepted: IN and OUT (- for standard input and output)",
                        a->count == 0 ? "no files given" : "no OUT given");
    if (a->extra != NULL)
        return fpl_fail(err, FPL_INVALID,
                        "quantize: unexpected argument \"%s\"; accepted: one IN and one OUT", a->extra);
    if (a->json && strcmp(a->paths[1], "-") == 0)
        return fpl_fail(err, FPL_INVALID,
                        "quantize: --json and OUT both want standard output; accepted: a file as OUT");
    if (p != NULL && (read_number(&p, UINT64_MAX, seed) != 0 || *p != '\0'))
        return fpl_fail(err, FPL_INVALID, "quantize: --seed \"%s\"; accepted: 0 to 18446744073709551615",
                        a->seed);
    int64_t rows, cols;
    if (a->shape != NULL && read_shape(a->shape, &rows, &cols, err) != FPL_OK) return err->code;
    return fpl_quantizer_parse(a->to, q, err);
}

int fpl_cmd_quantize(int argc, char **argv) {
    static const struct argp argp = {
        options,
        parse,
        "--to QUANTIZER IN OUT",
        "Round a file of float32 values, raw little-endian or .npy, and write what they become.\v"
        "Without --json one line on standard error tells the error, underflow and clipping.",
        NULL,
        NULL,
        NULL};
    struct arguments a = {.count = 0};
    struct operand o = {.file = NULL};
    struct fpl_error err = {FPL_OK, ""};
    struct fpl_quantizer q;
    uint64_t seed;
    fpl_cli_parse(&argp, argc, argv, &a);
    enum fpl_code code = check_arguments(&a, &q, &seed, &err);
    if (code == FPL_OK) code = quantize_file(&a, &q, seed, &o, &err);
    free(o.file);
    free(o.x);
    free(o.out);
    return code == FPL_OK ? 0 : fpl_cli_fail(&err);
}
