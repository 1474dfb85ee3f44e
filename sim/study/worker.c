/* worker.c - the child process: one request, one training run, one answer, until told to end.
 *
 * Requests and answers are lines (study.h).  The worker never touches the database.  It asks
 * the kernel to be killed when its parent dies, so no orphan writes a checkpoint that the
 * next call is about to resume.  The data source stays open from one run to the next.
 *
 * A checkpoint that cannot be used (damaged, or of another configuration) costs only time: it
 * is set aside as PATH.damaged, which is reported, and the run starts from the beginning.
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
    struct fpl_config config;
    char *checkpoint;
};

static enum fpl_code read_request(const char *line, struct request *r, struct fpl_error *err) {
    json_error_t where;
    json_t *root = json_loads(line, JSON_REJECT_DUPLICATES, &where), *value;
    const char *key;
    memset(r, 0, sizeof *r);
    if (root == NULL) return fpl_fail(err, FPL_INVALID, "worker: request: %s", where.text);
    enum fpl_code code = FPL_OK;
    fpl_config_defaults(&r->config);
    const json_t *codebooks = json_object_get(root, "codebooks");
    if (codebooks != NULL) code = fpl_codebooks_from_json(codebooks, err);
    json_object_foreach(json_object_get(root, "options"), key, value) {
        const char *text = json_string_value(value);
        if (code == FPL_OK) code = fpl_config_set(&r->config, key, text != NULL ? text : "", err);
    }
    const char *checkpoint = json_string_value(json_object_get(root, "checkpoint"));
    if (checkpoint != NULL) {
        r->checkpoint = strdup(checkpoint);
        if (r->checkpoint == NULL) code = fpl_fail(err, FPL_SYSTEM, "worker: out of memory");
    }
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

static enum fpl_code train(struct server *v, const struct request *q, struct fpl_record *record,
                           struct fpl_error *err) {
    struct fpl_train_options options = {.kernels = v->options->kernels,
                                        .threads = 1,
                                        .device = v->options->device,
                                        .revision = v->options->revision,
                                        .checkpoint = (const char *const *)&q->checkpoint,
                                        .stop = v->options->stop,
                                        .progress = tell_progress,
                                        .context = v};
    enum fpl_code code = fpl_config_check(&q->config, err);
    if (code == FPL_OK) code = open_data(v, &q->config, err);
    if (code != FPL_OK) return code;
    code = v->options->train(&q->config, 1, v->data, &options, record, err);
    if (code != FPL_INVALID || q->checkpoint == NULL || !set_aside(v, q->checkpoint, err->text)) return code;
    fpl_record_free(record);
    memset(record, 0, sizeof *record);
    return v->options->train(&q->config, 1, v->data, &options, record, err);
}

static enum fpl_code answer(struct server *v, const char *line, struct fpl_error *err) {
    struct request q;
    struct fpl_record record;
    memset(&record, 0, sizeof record);
    v->last = study_clock();
    enum fpl_code code = read_request(line, &q, err);
    if (code == FPL_OK) code = train(v, &q, &record, err);
    char *json = code == FPL_OK ? fpl_record_to_json(&record) : NULL;
    if (json != NULL)
        fprintf(v->out, "record %s\n", json);
    else if (code == FPL_STOPPED)
        fprintf(v->out, "stopped\n");
    else if (code == FPL_OK)
        fprintf(v->out, "error %d out of memory\n", (int)FPL_SYSTEM);
    else
        fprintf(v->out, "error %d %s\n", (int)code, err->text);
    free(json);
    free(q.checkpoint);
    fpl_record_free(&record);
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
