/* bench_pack.c - training on a device: packs of small models, and one large one.
 *
 *   pack N=... RECIPE   8192 tokens a step; tokens per second of all runs of a pack together, in packs of
 *                       the size that measures fastest (train.h, fpl_train_measure), against one run
 *                       alone on the same device
 *   large N=... RECIPE  one model of 100 million parameters, six operands quantized, against itself in
 *                       fp32
 *
 * Steps are whole ones: data, forward, backward, norm, AdamW.  tests/peers/gpu_torch.py trains the same
 * shapes in PyTorch.  `bits` hashes the losses of a short run of the shape, alone.
 */
#include <stdlib.h>
#include <string.h>

#include "../base/file.h"
#include "../train/train.h"
#include "bench.h"

enum { MOST = 512 };

struct shape {
    const char *name, *layers, *width, *heads, *ffn, *seq, *batch;
};
static const struct shape small[] = {{"pack", "3", "96", "3", "256", "128", "8192"},
                                     {"pack", "5", "128", "4", "352", "128", "8192"},
                                     {"pack", "4", "320", "5", "864", "128", "8192"}};
static const struct shape large = {"large", "14", "768", "12", "2048", "1024", "8192"};
static const struct shape tiny = {"pack", "1", "8", "1", "16", "8", "32"}; /* --quick */
static const char *const recipes[] = {"fp32", "full:e4m3/1x32"};

static enum fpl_code configure(const struct shape *s, const char *recipe, const char *steps,
                               struct fpl_config *c, struct fpl_error *err) {
    const char *const settings[][2] = {{"layers", s->layers},
                                       {"width", s->width},
                                       {"heads", s->heads},
                                       {"ffn", s->ffn},
                                       {"seq", s->seq},
                                       {"batch_tokens", s->batch},
                                       {"micro_tokens", s->batch},
                                       {"steps", steps},
                                       {"recipe", recipe},
                                       {"lr", "1e-3"},
                                       {"eval_tokens", s->seq}};
    enum fpl_code code = FPL_OK;
    fpl_config_defaults(c);
    for (size_t i = 0; code == FPL_OK && i < sizeof settings / sizeof settings[0]; i++)
        code = fpl_config_set(c, settings[i][0], settings[i][1], err);
    return code;
}

static enum fpl_code hash_run(const struct fpl_config *c, const struct fpl_data *data,
                              const struct fpl_train_options *o, char bits[33], struct fpl_error *err) {
    struct fpl_config few = *c;
    struct fpl_record r;
    struct fpl_text t = {0};
    fpl_config_set(&few, "steps", "8", NULL);
    const enum fpl_code code = fpl_train(&few, 1, data, o, &r, err);
    for (int64_t i = 0; code == FPL_OK && i < r.curve_count; i++)
        fpl_text_add(&t, "%a %a\n", r.curve[i].loss, r.curve[i].grad_norm);
    if (code == FPL_OK && !t.failed) fpl_hash_text(t.text, strlen(t.text), bits);
    fpl_text_free(&t);
    fpl_record_free(&r);
    return code;
}

static void add_row(struct fpl_bench *b, const struct shape *s, const struct fpl_config *c, int R,
                    double seconds, double peer, const char *peer_name, const char *bits) {
    double one[1] = {seconds};
    const struct fpl_times t = {one, 1};
    struct fpl_bench_row *row =
        fpl_bench_add(b, &t, "tokens/s", peer_name, "%s N=%.3g %s", s->name, fpl_config_params(c), c->recipe);
    if (row == NULL) return;
    row->value = R * (double)c->batch_tokens / seconds;
    row->ratio = row->value / ((double)c->batch_tokens / peer);
    row->replicas = R;
    memcpy(row->bits, bits, sizeof row->bits);
}

/* The fastest pack of up to MOST runs that differ in seed. */
static enum fpl_code measure_pack(struct fpl_bench *b, const struct shape *s, const char *recipe,
                                  const struct fpl_train_options *o, struct fpl_error *err) {
    const int count = b->quick ? 3 : MOST;
    struct fpl_config *c = calloc((size_t)count, sizeof *c);
    struct fpl_data *data = NULL;
    struct fpl_pack_speed speed = {.best = 1};
    char bits[33] = "";
    double alone = 0, best = 0;
    enum fpl_code code = c != NULL ? FPL_OK : fpl_fail(err, FPL_SYSTEM, "bench: out of memory");
    for (int r = 0; code == FPL_OK && r < count; r++) {
        code = configure(s, recipe, b->quick ? "100" : "1000", &c[r], err);
        c[r].seed = (uint64_t)r + 1;
    }
    if (code == FPL_OK) code = fpl_data_open(c[0].data, c[0].seq, c[0].data_seed, &data, err);
    if (code == FPL_OK) code = fpl_train_measure(c, count, data, o, &speed, err);
    if (code == FPL_OK) code = fpl_train_step_seconds(c, 1, data, o, &alone, err);
    if (code == FPL_OK) code = fpl_train_step_seconds(c, speed.best, data, o, &best, err);
    if (code == FPL_OK) code = hash_run(&c[0], data, o, bits, err);
    if (code == FPL_OK) add_row(b, s, &c[0], speed.best, best, alone, "one alone", bits);
    fpl_data_close(data);
    free(c);
    return code;
}

static enum fpl_code measure_large(struct fpl_bench *b, const struct fpl_train_options *o,
                                   struct fpl_error *err) {
    const struct shape *s = b->quick ? &tiny : &large;
    struct fpl_config c;
    struct fpl_data *data = NULL;
    double seconds[2];
    char bits[2][33] = {"", ""};
    enum fpl_code code = configure(s, recipes[0], "1000", &c, err);
    if (code == FPL_OK) code = fpl_data_open(c.data, c.seq, c.data_seed, &data, err);
    for (int i = 0; code == FPL_OK && i < 2; i++) {
        code = fpl_config_set(&c, "recipe", recipes[i], err);
        if (code == FPL_OK) code = fpl_train_step_seconds(&c, 1, data, o, &seconds[i], err);
        if (code == FPL_OK) code = hash_run(&c, data, o, bits[i], err);
    }
    for (int i = 0; code == FPL_OK && i < 2; i++) {
        fpl_config_set(&c, "recipe", recipes[i], NULL);
        add_row(b, &large, &c, 1, seconds[i], seconds[0], "fp32 step", bits[i]);
    }
    fpl_data_close(data);
    return code;
}

enum fpl_code fpl_bench_device_packs(struct fpl_bench *b, struct fpl_error *err) {
    const struct fpl_train_options o = {.kernels = b->kernels, .threads = b->threads, .device = b->number};
    const size_t shapes = b->quick ? 1 : sizeof small / sizeof small[0];
    enum fpl_code code = FPL_OK;
    for (size_t i = 0; code == FPL_OK && i < shapes; i++)
        for (size_t r = 0; code == FPL_OK && r < sizeof recipes / sizeof recipes[0]; r++)
            code = measure_pack(b, b->quick ? &tiny : &small[i], recipes[r], &o, err);
    return code == FPL_OK ? measure_large(b, &o, err) : code;
}
