/* trainer.h - the state of a pack in training; shared by the files of sim/train only. */
#ifndef FPL_TRAINER_H
#define FPL_TRAINER_H

#include "../model/model.h"
#include "train.h"
#include "watch.h"

/* Held-out loss of one replica: mean over sequences, its standard error, the source's own. */
struct fpl_evaluation {
    double loss, se, oracle;
};

struct fpl_replica {
    const struct fpl_config *config;
    char *canonical;
    enum fpl_status status; /* FPL_RUN_OK: still trains */
    char why[160];
    int64_t steps;     /* done */
    int64_t nonfinite; /* up to the last step done */
    int64_t counted;   /* of the device's counter, already in nonfinite */
    struct fpl_watch watch;
    struct fpl_point *eval;
    int64_t eval_count, eval_room;
    struct fpl_diagnosis_point *diagnosis;
    int64_t diagnosis_count, diagnosis_room;
    struct fpl_evaluation last;
};

struct fpl_trainer {
    int R;
    const struct fpl_data *data;
    struct fpl_data_info info;
    const struct fpl_train_options *options;
    const struct fpl_kernels *k;
    struct fpl_device *dev;
    struct fpl_model *model;
    struct fpl_replica *replica; /* [R] */
    int64_t seq, steps, batch_sequences, micro_sequences, chunk_sequences;
    int64_t step;                  /* done */
    int finished;                  /* trained and evaluated to the end */
    double seconds, train_seconds; /* over all sessions */
    double resumed;                /* clock value when `seconds` was last true */

    /* host buffers, allocated once */
    int32_t *inputs, *targets; /* [R, most sequences of a call, T] */
    double *losses;            /* [R, the same rows] */
    double *oracle;            /* [chunk_sequences] */
    double *sum, *sqnorm;      /* [R] */
    int64_t *nonfinite;        /* [R] */
    float *lr, *decay;         /* [R] */
    int32_t *active;           /* [R] */
};

int fpl_trainer_active(const struct fpl_trainer *t);  /* replicas that still train */
int fpl_trainer_stopped(const struct fpl_trainer *t); /* the signal, or 0 */

/* evaluate.c: the held-out loss of every replica that still trains, into replica.last.
 * *done 0: stopped on the way, nothing changed. */
enum fpl_code fpl_evaluate(struct fpl_trainer *t, int *done, struct fpl_error *err);

/* checkpoint.c. read: *found 0 if there is no file; else everything that training changes is
 * as it was when the file was written. */
enum fpl_code fpl_checkpoint_write(struct fpl_trainer *t, const char *path, struct fpl_error *err);
enum fpl_code fpl_checkpoint_read(struct fpl_trainer *t, const char *path, int *found, struct fpl_error *err);

/* Room for one more evaluation on the way. */
enum fpl_code fpl_replica_reserve(struct fpl_replica *p, int64_t count, struct fpl_error *err);

/* diagnose.c: whether the step at hand is diagnosed for a replica; its points, after the batch. */
int fpl_diagnosis_is_due(const struct fpl_trainer *t, int replica);
enum fpl_code fpl_diagnosis_keep(struct fpl_trainer *t, struct fpl_error *err);
enum fpl_code fpl_diagnosis_reserve(struct fpl_replica *p, int64_t count, struct fpl_error *err);

#endif
