/* train.h - one configuration (or a pack of them) in, records out.
 *
 * A step: the batch in micro-batches, forward and backward; the gradients' global norm;
 * AdamW (matrices decay), unless the step shows that the run diverged or collapsed
 * (watch.h), which ends it there.  The final evaluation runs on the first eval_tokens held-out
 * tokens under the run's own recipe, 2048 tokens at a time whatever the batch is, so that
 * scales that span a call cover the same tokens in every run; its error is that of the mean
 * over sequences.
 *
 * A record's `seconds` are the wall time of the pack, evaluation included, over all sessions
 * that a resumed run took; tokens_per_second counts the replica's training tokens over the
 * training steps' time alone; joules are those of the last session.
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
    int threads;                       /* inside operations */
    int device;                        /* number of the backend's device */
    const char *revision;              /* of the source, for records; NULL: unknown */
    const char *checkpoint;            /* file; NULL: none are written or read. The last one,
                                          with the final weights, stays when the run is done */
    const volatile sig_atomic_t *stop; /* becomes a signal number: finish the step, write the
                                          checkpoint, return FPL_STOPPED; may be NULL */
    void (*progress)(void *context, int64_t step, int64_t steps, double loss);
    void *context;
};

/* Train R configurations of one shape side by side: equal model, data, steps, batch, betas,
 * eps, clip, evaluation; recipe, seed, rates, schedule and decay may differ.
 * data was opened for the configurations' seq and data_seed.  records[R] are always filled or
 * empty (free each; an empty one has no id), whether or not a run diverged; after FPL_STOPPED
 * they say how far it got.  They are also filled when all went well but the last checkpoint,
 * which is then the error.
 * A checkpoint of the same configurations is resumed; one of others, or a damaged one, is an
 * error and stays as it is.  D beyond the source's training tokens is refused: repeated data
 * is not modelled.
 * Results do not depend on R, threads, resumption or micro-batch caching. */
enum fpl_code fpl_train(const struct fpl_config *configs, int R, const struct fpl_data *data,
                        const struct fpl_train_options *options, struct fpl_record *records,
                        struct fpl_error *err);

#endif
