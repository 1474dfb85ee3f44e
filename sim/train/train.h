/* train.h - one configuration (or a pack of them) in, records out.
 *
 * A step: the batch in micro-batches, forward and backward; the gradients' global norm;
 * AdamW (matrices decay), unless the step shows that the run diverged or collapsed
 * (watch.h), which ends it there.  The final evaluation runs on the first eval_tokens held-out
 * tokens under the run's own recipe, 2048 tokens at a time whatever the batch is, so that
 * scales that span a call cover the same tokens in every run; its error is that of the mean
 * over sequences.
 *
 * A pack's time and energy are dealt out in equal shares to the runs that train at the moment,
 * so that sums over records are what was spent.  A record's `seconds` are its share of the wall
 * time, evaluation included, over all sessions that a resumed run took; tokens_per_second counts
 * the run's training tokens over its share of the training steps' time, so it is the speed of
 * the whole pack; joules are those of the last session, of the device that trains: a GPU's board by
 * NVML, else the CPU packages by RAPL; NaN where neither tells.  So is peak_bytes: a GPU's memory that the
 * pack held, or the process's resident size.
 *
 * A run that ends early drops out: it is neither updated nor watched any more, and when half of a
 * pack has ended, the others go on as a smaller pack.
 */
#ifndef FPL_TRAIN_H
#define FPL_TRAIN_H

#include <signal.h>

#include "../../kernels/kernels.h"
#include "../base/config.h"
#include "../base/record.h"
#include "../data/data.h"

struct fpl_train_options {
    const struct fpl_kernels *kernels;
    int threads;                       /* inside operations, and over the replicas' data */
    int device;                        /* number of the backend's device */
    const char *revision;              /* of the source, for records; NULL: unknown */
    const char *const *checkpoint;     /* [R] a file for each run; NULL: none are written or read. The
                                          last one, with the final weights, stays when the run is done */
    const volatile sig_atomic_t *stop; /* becomes a signal number: finish the step, write the
                                          checkpoint, return FPL_STOPPED; may be NULL */
    void (*progress)(void *context, int64_t step, int64_t steps, double loss);
    /* A run's record is complete: some runs of a pack end before the others.  May be NULL. */
    void (*ended)(void *context, int run, const struct fpl_record *record);
    void *context;
    double (*clock)(void); /* seconds, for what is measured to choose a pack's size and for the shares of what
                              a pack spends; NULL: the wall's */
};

/* Train R configurations of one shape side by side: equal model, data, steps, batch, betas,
 * eps, clip, evaluation; recipe, seed, rates, schedule and decay may differ.
 * data was opened for the configurations' seq and data_seed.  records[R] are always filled or
 * empty (free each; an empty one has no id), whether or not a run diverged; after FPL_STOPPED
 * they say how far it got.  They are also filled when all went well but the last checkpoint,
 * which is then the error.
 * A checkpoint of the same configuration is resumed; one of another, or a damaged one, is an error
 * and stays as it is.  Checkpoints do not know of packs, so runs may be packed otherwise when they
 * go on; those of one pack must be at the same step (no file is step 0).
 * D beyond the source's training tokens is refused: repeated data is not modelled.
 * Results do not depend on R, threads, resumption or micro-batch caching. */
enum fpl_code fpl_train(const struct fpl_config *configs, int R, const struct fpl_data *data,
                        const struct fpl_train_options *options, struct fpl_record *records,
                        struct fpl_error *err);

/* Runs of the same shape can train side by side: 16 hex digits over all that they must agree in. */
void fpl_train_shape(const struct fpl_config *c, char shape[17]);

/* Steps done by a checkpoint; 0: there is no file, -1: it cannot be read. */
int64_t fpl_checkpoint_step(const char *path);

/* How fast packs of 1, 2, 4, ... of the runs train.  Each is trained for a few steps from the
 * start, which are thrown away; the first that is not at least 3 % faster for each run than the one
 * before ends the search, as does one that would not fit.  Runs too short to be worth it are not
 * tried out: what the backend says is taken. */
struct fpl_pack_speed {
    int best;  /* replicas */
    int tried; /* entries of the two arrays, ascending in replicas; 0: not tried out */
    int replicas[16];
    double seconds[16]; /* of one step of the whole pack, the least of a few */
};
/* configs[count]: of one shape, as for fpl_train.  Options as there; checkpoints are not used. */
enum fpl_code fpl_train_measure(const struct fpl_config *configs, int count, const struct fpl_data *data,
                                const struct fpl_train_options *options, struct fpl_pack_speed *out,
                                struct fpl_error *err);

/* The least seconds of a training step of R configurations side by side, over a few steps from the
 * start after as few untimed ones. */
enum fpl_code fpl_train_step_seconds(const struct fpl_config *configs, int R, const struct fpl_data *data,
                                     const struct fpl_train_options *options, double *seconds,
                                     struct fpl_error *err);

#endif
