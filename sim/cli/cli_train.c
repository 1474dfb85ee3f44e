/* cli_train.c - `fplaw train [FILE.yaml] [key=value...]`: one run.
 *
 * Options come from the table of config.h: defaults, then the file, then key=value
 * arguments, each key at most once in either.  With --out DIR the run leaves
 * DIR/record.json (written when it has ended, also by a signal), DIR/checkpoint.bin (the last
 * state) and, with diagnose_every, DIR/diagnostics.csv; the same command then goes on from there.  Standard
 * output gets a short summary, or the record itself with --json.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../base/file.h"
#include "../base/number.h"
#include "../base/yaml.h"
#include "../train/train.h"
#include "cli.h"

#define MOST_THREADS 1024
#define MOST_SETTINGS 64

struct arguments {
    const char *file, *out, *device, *threads;
    int json, settings, files;
    const char *setting[MOST_SETTINGS]; /* key=value */
};

static const struct argp_option options[] = {
    {"out", 'o', "DIR", 0,
     "write DIR/record.json, DIR/checkpoint.bin and, with diagnose_every, DIR/diagnostics.csv; go on from "
     "the "
     "checkpoint",
     0},
    {"threads", 't', "T", 0, "threads inside one operation (default 1); results do not depend on them", 0},
    {"device", 'd', "NAME", 0,
     "cpu (default), cuda where this build has it (`fplaw --version`), or one of several: cuda:1", 0},
    {"json", 'j', NULL, 0, "print the record as JSON", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct arguments *a = state->input;
    switch (key) {
    case 'o':
        a->out = arg;
        return 0;
    case 't':
        a->threads = arg;
        return 0;
    case 'd':
        a->device = arg;
        return 0;
    case 'j':
        a->json = 1;
        return 0;
    case ARGP_KEY_ARG:
        if (strchr(arg, '=') != NULL && strcmp(arg, "-") != 0) {
            if (a->settings < MOST_SETTINGS) a->setting[a->settings] = arg;
            a->settings++;
        } else {
            a->file = arg;
            a->files++;
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* Words of text in lines that end before column 78, each after the first indented by 28. */
static void add_wrapped(struct fpl_text *t, const char *text) {
    for (size_t column = 27; *text != '\0';) {
        const size_t word = strcspn(text, " ");
        const int wrap = column + 1 + word > 78;
        fpl_text_add(t, wrap ? "\n%28s%.*s" : "%s %.*s", "", (int)word, text);
        column = (wrap ? 28 : column + 1) + word;
        text += word + (text[word] == ' ');
    }
    fpl_text_add(t, "\n");
}

/* --help ends with the table of options. */
static char *help_filter(int key, const char *text, void *input) {
    (void)input;
    if (key != ARGP_KEY_HELP_POST_DOC) return (char *)(uintptr_t)text;
    struct fpl_text t = {0};
    fpl_text_add(&t, "Options of a run (a YAML map, or key=value) and their defaults:\n");
    for (const struct fpl_option *o = fpl_options; o->key != NULL; o++) {
        fpl_text_add(&t, "  %-17s %-7s", o->key, o->fallback);
        add_wrapped(&t, o->help);
    }
    fpl_text_add(&t,
                 "\nExit status: 0 done (also where the run diverged: the record says so), 1 the environment "
                 "failed, 2 wrong arguments or input, 130 or 143 stopped by a signal, checkpoint written.");
    return t.text;
}

/* ---- the configuration --------------------------------------------------------------------------- */

static int is_amount(const char *key) {
    return strcmp(key, "tokens") == 0 || strcmp(key, "tokens_per_param") == 0 || strcmp(key, "steps") == 0;
}

static enum fpl_code apply_file(struct fpl_config *c, const char *path, struct fpl_error *err) {
    struct fpl_yaml *root = NULL;
    enum fpl_code code = fpl_yaml_read(path, &root, err);
    if (code != FPL_OK) return code;
    const char *amount = NULL;
    if (root->kind != FPL_YAML_MAP)
        code = fpl_fail(err, FPL_INVALID, "%s:%d: a map of options is expected", path, root->line);
    for (size_t i = 0; code == FPL_OK && i < root->count; i++) {
        const struct fpl_yaml *v = root->item[i];
        if (v->kind != FPL_YAML_SCALAR)
            code = fpl_fail(err, FPL_INVALID, "%s:%d: %s: one value is expected, not a %s", path, v->line,
                            v->key, v->kind == FPL_YAML_LIST ? "list" : "map");
        else if (is_amount(v->key) && amount != NULL)
            code = fpl_fail(err, FPL_INVALID,
                            "%s:%d: %s: only one of tokens, tokens_per_param and steps, but %s stands "
                            "before it",
                            path, v->key_line, v->key, amount);
        else if (fpl_config_set(c, v->key, v->text, err) != FPL_OK)
            code = fpl_fail_at(err, "%s:%d", path, v->line);
        if (is_amount(v->key)) amount = v->key;
    }
    fpl_yaml_free(root);
    return code;
}

static enum fpl_code apply_setting(struct fpl_config *c, const struct arguments *a, int i,
                                   struct fpl_error *err) {
    const char *text = a->setting[i], *value = strchr(text, '=') + 1;
    const int length = (int)(value - text) - 1;
    char key[64];
    snprintf(key, sizeof key, "%.*s", length < 63 ? length : 63, text);
    for (int j = 0; j < i; j++) {
        char other[64];
        const int n = (int)strcspn(a->setting[j], "=");
        snprintf(other, sizeof other, "%.*s", n < 63 ? n : 63, a->setting[j]);
        if (strcmp(key, other) == 0) return fpl_fail(err, FPL_INVALID, "%s: given twice", key);
        if (is_amount(key) && is_amount(other))
            return fpl_fail(err, FPL_INVALID, "%s and %s: only one of tokens, tokens_per_param and steps",
                            other, key);
    }
    return fpl_config_set(c, key, value, err);
}

static enum fpl_code read_config(const struct arguments *a, struct fpl_config *c, struct fpl_error *err) {
    fpl_config_defaults(c);
    if (a->files > 1)
        return fpl_fail(err, FPL_INVALID, "train: more than one file; `%s` is no key=value", a->file);
    if (a->settings > MOST_SETTINGS)
        return fpl_fail(err, FPL_INVALID, "train: %d settings, at most %d are accepted", a->settings,
                        MOST_SETTINGS);
    enum fpl_code code = a->file != NULL ? apply_file(c, a->file, err) : FPL_OK;
    for (int i = 0; code == FPL_OK && i < a->settings; i++) code = apply_setting(c, a, i, err);
    return code == FPL_OK ? fpl_config_check(c, err) : code;
}

static enum fpl_code read_threads(const struct arguments *a, int *threads, struct fpl_error *err) {
    int64_t n = 1;
    if (a->threads != NULL && (fpl_integer_parse(a->threads, &n, err) != FPL_OK || n < 1 || n > MOST_THREADS))
        return fpl_fail(err, FPL_INVALID, "--threads %.40s: an integer from 1 to %d is accepted", a->threads,
                        MOST_THREADS);
    *threads = (int)n;
    return FPL_OK;
}

static enum fpl_code find_device(const struct arguments *a, struct fpl_train_options *o,
                                 struct fpl_error *err) {
    int number;
    enum fpl_code code =
        fpl_backend_choose(a->device != NULL ? a->device : fpl_backend_names[0], &o->kernels, &number, err);
    if (code == FPL_OK) code = fpl_backend_ready(o->kernels, number, err);
    o->device = number < 0 ? 0 : number;
    return code;
}

/* ---- running and telling ------------------------------------------------------------------------- */

static void show_progress(void *context, int64_t step, int64_t steps, double loss) {
    static double last;
    struct timespec now;
    char text[96];
    (void)context;
    clock_gettime(CLOCK_MONOTONIC, &now);
    const double t = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    if (t - last < 0.1 && step < steps) return;
    last = t;
    snprintf(text, sizeof text, "step %lld of %lld, loss %.4f", (long long)step, (long long)steps, loss);
    fpl_cli_progress((double)step / (double)steps, text);
}

static void print_summary(const struct fpl_config *c, const struct fpl_record *r) {
    printf("run        %s, %s\n", r->id, fpl_status_names[r->status]);
    if (r->why[0] != '\0') printf("why        %s\n", r->why);
    printf("model      N = %.0f (layers %lld, width %lld, heads %lld, ffn %lld), recipe %s\n", r->N,
           (long long)c->layers, (long long)c->width, (long long)c->heads, (long long)fpl_config_ffn(c),
           c->recipe);
    printf("trained    D = %.0f in %lld steps\n", r->D, (long long)r->steps);
    if (!isnan(r->loss)) printf("held-out   loss %.5f +- %.5f nats per token\n", r->loss, r->loss_se);
    if (!isnan(r->oracle)) printf("           the source's own loss on that sample %.5f\n", r->oracle);
    printf("speed      %.0f tokens/s, %.2f GFLOP/s, %.1f s in all\n", r->tokens_per_second,
           1e-9 * r->tokens_per_second * (r->D > 0 ? r->flop / r->D : 0), r->seconds);
    printf("machine    %s, %s\n", r->backend, r->variants);
}

/* DIR/name, with an optional second part. */
static enum fpl_code write_part(const struct arguments *a, const char *name, const char *first,
                                const char *second, struct fpl_error *err) {
    struct fpl_text path = {0}, whole = {0};
    fpl_text_add(&path, "%s/%s", a->out, name);
    fpl_text_append(&whole, first, strlen(first));
    if (second != NULL) fpl_text_append(&whole, second, strlen(second));
    const enum fpl_code code = path.failed || whole.failed
                                   ? fpl_fail(err, FPL_SYSTEM, "train: no memory for %s", name)
                                   : fpl_file_write(path.text, whole.text, whole.size, err);
    fpl_text_free(&path);
    fpl_text_free(&whole);
    return code;
}

static enum fpl_code write_record(const struct arguments *a, const struct fpl_record *r, const char *json,
                                  struct fpl_error *err) {
    if (a->out == NULL) return FPL_OK;
    const enum fpl_code code = write_part(a, "record.json", json, NULL, err);
    if (code != FPL_OK || r->diagnosis_count == 0) return code;
    char *csv = fpl_diagnosis_to_csv(r->id, r->diagnosis, r->diagnosis_count);
    if (csv == NULL) return fpl_fail(err, FPL_SYSTEM, "train: no memory for diagnostics");
    const enum fpl_code written = write_part(a, "diagnostics.csv", fpl_diagnosis_header, csv, err);
    free(csv);
    return written;
}

/* The record goes to its file and to standard output, each whether or not the other takes it. */
static enum fpl_code tell(const struct arguments *a, const struct fpl_config *c, const struct fpl_record *r,
                          struct fpl_error *err) {
    char *json = fpl_record_to_json(r);
    if (json == NULL) return fpl_fail(err, FPL_SYSTEM, "train: no memory for the record");
    const enum fpl_code code = write_record(a, r, json, err);
    if (a->json)
        printf("%s\n", json);
    else
        print_summary(c, r);
    free(json);
    return code;
}

/* Train, then write and print the record, also that of a run whose last checkpoint failed.  Of
 * two errors the first is told; a signal's status wins over success, not over errors. */
static enum fpl_code train(const struct arguments *a, const struct fpl_config *c, const struct fpl_data *data,
                           const struct fpl_train_options *o, struct fpl_error *err) {
    struct fpl_record record;
    struct fpl_error untold = {FPL_OK, ""};
    enum fpl_code code = fpl_train(c, 1, data, o, &record, err);
    fpl_cli_progress_end();
    if (record.id[0] != '\0' && tell(a, c, &record, &untold) != FPL_OK &&
        (code == FPL_OK || code == FPL_STOPPED)) {
        *err = untold;
        code = untold.code;
    }
    fpl_record_free(&record);
    return code;
}

/* Nothing should be trained for a directory that takes no files. */
static enum fpl_code make_writable(const char *directory, struct fpl_error *err) {
    const enum fpl_code code = fpl_make_directory(directory, err);
    if (code != FPL_OK || access(directory, W_OK | X_OK) == 0) return code;
    return fpl_fail(err, FPL_SYSTEM, "%s: cannot be written: %s", directory, strerror(errno));
}

static enum fpl_code run(const struct arguments *a, struct fpl_error *err) {
    struct fpl_config c;
    struct fpl_data *data = NULL;
    struct fpl_text checkpoint = {0};
    const char *path = NULL;
    struct fpl_train_options o = {
        .stop = &fpl_cli_signal, .progress = show_progress, .revision = fpl_cli_revision};
    enum fpl_code code = read_config(a, &c, err);
    if (code == FPL_OK) code = read_threads(a, &o.threads, err);
    if (code == FPL_OK) code = find_device(a, &o, err);
    if (code == FPL_OK) code = fpl_data_open(c.data, c.seq, c.data_seed, &data, err);
    if (code != FPL_OK) return code;
    if (a->out != NULL) {
        code = make_writable(a->out, err);
        fpl_text_add(&checkpoint, "%s/checkpoint.bin", a->out);
        if (checkpoint.failed) code = fpl_fail(err, FPL_SYSTEM, "train: no memory for a path");
        path = checkpoint.text;
        o.checkpoint = &path;
    }
    fpl_cli_catch_signals();
    if (code == FPL_OK) code = train(a, &c, data, &o, err);
    fpl_text_free(&checkpoint);
    fpl_data_close(data);
    return code;
}

int fpl_cmd_train(int argc, char **argv) {
    static const struct argp argp = {options,
                                     parse,
                                     "[FILE.yaml] [KEY=VALUE...]",
                                     "Train one model and report its held-out loss.\v",
                                     NULL,
                                     help_filter,
                                     NULL};
    struct arguments a = {0};
    struct fpl_error err = {FPL_OK, ""};
    const int status = fpl_cli_parse(&argp, argc, argv, &a);
    if (status != 0) return status;
    return run(&a, &err) == FPL_OK ? 0 : fpl_cli_fail(&err);
}
