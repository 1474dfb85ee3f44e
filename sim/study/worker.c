/* worker.c - the child process: one request, one pack of runs, their records, until told to end.
 *
 * Requests and answers are lines (study.h).  The worker never touches the database.  It asks
 * the kernel to be killed when its parent dies, so no orphan writes a checkpoint that the
 * next call is about to resume.  The data source stays open from one run to the next.
 *
 * A checkpoint that cannot be used (damaged, or of another configuration) costs only time: it
 * is set aside as PATH.damaged, which is reported, and the run starts from the beginning.  Of a pack
 * it is not known whose file is at fault: the pack fails, and the parent tries smaller ones.
 */
#include "study.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <jansson.h>

#include "../base/codebooks.h"
#include "internal.h"

struct server {
    const struct fpl_worker_options *options;
    FILE *out;
    struct fpl_data *data;
    struct fpl_config opened; /* configuration for which data was opened */
    double last;              /* when progress was last told */
};

struct request {
    int count, measures, device, threads;
    struct fpl_config *config; /* [count] */
    char **checkpoint;         /* [count] */
};

static void free_request(struct request *q) {
    for (int i = 0; q->checkpoint != NULL && i < q->count; i++) free(q->checkpoint[i]);
    free(q->checkpoint);
    free(q->config);
}

static enum fpl_code read_run(const json_t *run, struct fpl_config *c, char **checkpoint,
                              struct fpl_error *err) {
    const char *key, *path = json_string_value(json_object_get(run, "checkpoint"));
    json_t *value;
    enum fpl_code code = FPL_OK;
    fpl_config_defaults(c);
    json_object_foreach(json_object_get(run, "options"), key, value) {
        const char *text = json_string_value(value);
        if (code == FPL_OK) code = fpl_config_set(c, key, text != NULL ? text : "", err);
    }
    *checkpoint = strdup(path != NULL ? path : "");
    if (*checkpoint == NULL) code = fpl_fail(err, FPL_SYSTEM, "worker: out of memory");
    return code == FPL_OK ? fpl_config_check(c, err) : code;
}

static enum fpl_code read_request(const char *line, struct request *q, struct fpl_error *err) {
    json_error_t where;
    json_t *root = json_loads(line, JSON_REJECT_DUPLICATES, &where);
    memset(q, 0, sizeof *q);
    if (root == NULL) return fpl_fail(err, FPL_INVALID, "worker: request: %s", where.text);
    const json_t *runs = json_object_get(root, "runs"), *codebooks = json_object_get(root, "codebooks");
    enum fpl_code code = codebooks != NULL ? fpl_codebooks_from_json(codebooks, err) : FPL_OK;
    q->count = (int)json_array_size(runs);
    q->measures = json_is_true(json_object_get(root, "measure"));
    q->threads = (int)json_integer_value(json_object_get(root, "threads"));
    q->device = (int)json_integer_value(json_object_get(root, "device"));
    q->config = calloc((size_t)q->count + 1, sizeof *q->config);
    q->checkpoint = calloc((size_t)q->count + 1, sizeof *q->checkpoint);
    if (q->config == NULL || q->checkpoint == NULL) code = fpl_fail(err, FPL_SYSTEM, "worker: out of memory");
    if (code == FPL_OK && q->count < 1) code = fpl_fail(err, FPL_INVALID, "worker: a request without runs");
    for (int i = 0; code == FPL_OK && i < q->count; i++)
        code = read_run(json_array_get(runs, (size_t)i), &q->config[i], &q->checkpoint[i], err);
    json_decref(root);
    return code;
}

static enum fpl_code open_data(struct server *v, const struct fpl_config *c, struct fpl_error *err) {
    if (v->data != NULL && strcmp(v->opened.data, c->data) == 0 && v->opened.seq == c->seq &&
        v->opened.data_seed == c->data_seed)
        return FPL_OK;
    fpl_data_close(v->data);
    v->data = NULL;
    v->opened = *c;
    return fpl_data_open(c->data, c->seq, c->data_seed, &v->data, err);
}

static void tell_progress(void *context, int64_t step, int64_t steps, double loss) {
    struct server *v = context;
    double now = study_clock();
    (void)loss;
    if (now - v->last < 0.5 || steps < 1) return;
    v->last = now;
    fprintf(v->out, "progress %.4f\n", (double)step / (double)steps);
    fflush(v->out);
}

/* 1 if there was a checkpoint, which is now out of the way. */
static int set_aside(struct server *v, const char *checkpoint, const char *why) {
    size_t room = strlen(checkpoint) + sizeof ".damaged";
    char *aside = malloc(room);
    if (aside == NULL) return 0;
    snprintf(aside, room, "%s.damaged", checkpoint);
    int moved = rename(checkpoint, aside) == 0;
    if (moved) fprintf(v->out, "note %s; kept as %s, the run starts again\n", why, aside);
    free(aside);
    return moved;
}

static void tell_record(void *context, int run, const struct fpl_record *record) {
    struct server *v = context;
    char *json = fpl_record_to_json(record);
    (void)run;
    if (json != NULL) fprintf(v->out, "record %s\n", json); /* without it the parent asks again */
    fflush(v->out);
    free(json);
}

static enum fpl_code train(struct server *v, const struct request *q, const struct fpl_train_options *options,
                           struct fpl_error *err) {
    struct fpl_record *records = calloc((size_t)q->count, sizeof *records);
    if (records == NULL) return fpl_fail(err, FPL_SYSTEM, "worker: out of memory");
    enum fpl_code code = v->options->train(q->config, q->count, v->data, options, records, err);
    if (code == FPL_INVALID && q->count == 1 && set_aside(v, q->checkpoint[0], err->text)) {
        fpl_record_free(&records[0]);
        memset(records, 0, sizeof *records);
        code = v->options->train(q->config, 1, v->data, options, records, err);
    }
    for (int i = 0; i < q->count; i++) fpl_record_free(&records[i]);
    free(records);
    return code;
}

static void tell_speed(struct server *v, const struct fpl_pack_speed *s) {
    fprintf(v->out, "pack %d", s->best);
    for (int i = 0; i < s->tried; i++) fprintf(v->out, " %d:%.6g", s->replicas[i], s->seconds[i]);
    fprintf(v->out, "\n");
}

static enum fpl_code answer(struct server *v, const char *line, struct fpl_error *err) {
    struct request q;
    struct fpl_pack_speed speed;
    v->last = study_clock();
    enum fpl_code code = read_request(line, &q, err);
    if (code == FPL_OK) code = open_data(v, &q.config[0], err);
    const struct fpl_train_options options = {.kernels = v->options->kernels,
                                              .threads = q.threads > 0 ? q.threads : 1,
                                              .device = q.device,
                                              .revision = v->options->revision,
                                              .checkpoint = (const char *const *)q.checkpoint,
                                              .stop = v->options->stop,
                                              .progress = tell_progress,
                                              .ended = tell_record,
                                              .context = v};
    if (code == FPL_OK)
        code = q.measures ? v->options->measure(q.config, q.count, v->data, &options, &speed, err)
                          : train(v, &q, &options, err);
    if (code == FPL_OK && q.measures)
        tell_speed(v, &speed);
    else if (code == FPL_OK || code == FPL_STOPPED)
        fprintf(v->out, code == FPL_OK ? "done\n" : "stopped\n");
    else
        fprintf(v->out, "error %d %s\n", (int)code, err->text);
    free_request(&q);
    return fflush(v->out) == 0 ? FPL_OK : fpl_fail(err, FPL_SYSTEM, "worker: %s", strerror(errno));
}

static int stopped(const struct fpl_worker_options *o) { return o->stop != NULL && *o->stop != 0; }

enum fpl_code fpl_study_serve(FILE *in, FILE *out, const struct fpl_worker_options *options,
                              struct fpl_error *err) {
    struct server v = {.options = options, .out = out};
    char *line = NULL;
    size_t room = 0;
    enum fpl_code code = FPL_OK;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (options->parent > 0 && getppid() != options->parent)
        return fpl_fail(err, FPL_SYSTEM, "worker: its parent is gone");
    while (code == FPL_OK && !stopped(options) && getline(&line, &room, in) > 0) code = answer(&v, line, err);
    free(line);
    fpl_data_close(v.data);
    if (code == FPL_OK && stopped(options)) return fpl_fail(err, FPL_STOPPED, "worker: stopped");
    return code;
}
