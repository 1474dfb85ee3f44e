/* measure.c - how many runs of a shape should train side by side, by trying it out.
 *
 * A pack of R is worth it when a step of it takes less than R times a step of one.  Small models
 * leave most of a large device idle, so a step's time hardly grows with R at first, then in
 * proportion; doubling R until nothing is gained finds the knee in a few steps.  Memory is asked
 * for beforehand (fpl_model_bytes, the backend's replicas()), and what does not fit all the same
 * (scratch, other processes) ends the search like what is not faster.
 */
#include <stdlib.h>
#include <string.h>

#include "trainer.h"

#define WARM 2    /* steps before the clock is read: caches, chosen algorithms, recorded graphs */
#define TIMED 3   /* steps of which the fastest counts */
#define WORTH 100 /* steps of a run below which the search would cost more than it gains */
#define GAIN 0.97 /* time for each run, relative to the pack before, that is still a gain */

static int any_quantizes_attention(const struct fpl_config *configs, int count) {
    int any = 0;
    for (int i = 0; i < count; i++) {
        struct fpl_recipe recipe;
        any |= fpl_recipe_parse(configs[i].recipe, &recipe, NULL) == FPL_OK &&
               fpl_recipe_quantizes_attention(&recipe);
    }
    return any;
}

/* The most replicas by memory; 1 where the backend has no opinion. */
static enum fpl_code most_replicas(const struct fpl_config *configs, int count, const struct fpl_data *data,
                                   const struct fpl_train_options *o, int *most, struct fpl_error *err) {
    const struct fpl_device_options device = {.threads = 1, .number = o->device};
    struct fpl_device *dev = NULL;
    struct fpl_data_info info;
    *most = 1;
    if (o->kernels->replicas == NULL) return FPL_OK;
    fpl_data_info(data, &info);
    const int quantizes = any_quantizes_attention(configs, count);
    const struct fpl_model_shape one = fpl_trainer_shape(configs, 1, info.vocab),
                                 two = fpl_trainer_shape(configs, 2, info.vocab);
    const enum fpl_code code = o->kernels->open(&dev, &device, err);
    if (code != FPL_OK) return code;
    *most = o->kernels->replicas(dev, fpl_model_bytes(&two, o->kernels, quantizes) -
                                          fpl_model_bytes(&one, o->kernels, quantizes));
    o->kernels->close(dev);
    return FPL_OK;
}

enum fpl_code fpl_train_step_seconds(const struct fpl_config *configs, int R, const struct fpl_data *data,
                                     const struct fpl_train_options *o, double *seconds,
                                     struct fpl_error *err) {
    struct fpl_trainer t = {.R = R, .data = data, .options = o, .k = o->kernels};
    const struct fpl_config **list = calloc((size_t)R, sizeof *list);
    if (list == NULL) return fpl_fail(err, FPL_SYSTEM, "no memory for a pack of %d runs", R);
    for (int r = 0; r < R; r++) list[r] = &configs[r];
    enum fpl_code code = fpl_trainer_open(&t, list, err);
    double (*const clock)(void) = o->clock != NULL ? o->clock : fpl_clock;
    *seconds = 1e300;
    for (int i = 0; code == FPL_OK && i < WARM + TIMED; i++) {
        double loss;
        const double begun = clock();
        if (fpl_trainer_stopped(&t))
            code = fpl_fail(err, FPL_STOPPED, "stopped by signal %d", fpl_trainer_stopped(&t));
        else
            code = fpl_trainer_step(&t, &loss, err);
        const double used = clock() - begun;
        if (i >= WARM && used < *seconds) *seconds = used;
    }
    fpl_trainer_close(&t);
    free(list);
    return code;
}

static int is_gain(const struct fpl_pack_speed *s) {
    const int last = s->tried - 1;
    return last == 0 ||
           s->seconds[last] / s->replicas[last] <= GAIN * s->seconds[last - 1] / s->replicas[last - 1];
}

enum fpl_code fpl_train_measure(const struct fpl_config *configs, int count, const struct fpl_data *data,
                                const struct fpl_train_options *options, struct fpl_pack_speed *out,
                                struct fpl_error *err) {
    const int room = (int)(sizeof out->replicas / sizeof out->replicas[0]);
    int most;
    *out = (struct fpl_pack_speed){.best = 1};
    enum fpl_code code = count < 1 ? fpl_fail(err, FPL_INVALID, "no runs to measure") : FPL_OK;
    if (code == FPL_OK) code = fpl_trainer_check(configs, count, err);
    if (code == FPL_OK) code = most_replicas(configs, count, data, options, &most, err);
    if (code != FPL_OK) return code;
    if (most > count) most = count;
    if (fpl_config_steps(&configs[0]) < WORTH) out->best = most;
    if (most == out->best) return FPL_OK;
    for (int R = 1; out->tried < room; R = 2 * R < most ? 2 * R : most) {
        code = fpl_train_step_seconds(configs, R, data, options, &out->seconds[out->tried], err);
        if (code == FPL_MEMORY && R > 1) return FPL_OK;
        if (code != FPL_OK) return code;
        out->replicas[out->tried++] = R;
        if (!is_gain(out)) return FPL_OK;
        out->best = R;
        if (R == most) return FPL_OK;
    }
    return FPL_OK;
}
