/* trainer.h - the state of a pack in training; shared by the files of sim/train only. */
#ifndef FPL_TRAINER_H
#define FPL_TRAINER_H

#include "../model/model.h"
#include "machine.h"
#include "train.h"
#include "watch.h"

/* Held-out loss of one replica: mean over sequences, its standard error, the source's own. */
struct fpl_evaluation {
    double loss, se, oracle;
};

struct fpl_replica {
    const struct fpl_config *config;
    int index;                             /* among the runs that fpl_train was given */
    int pack;                              /* runs that began side by side */
    int shares;                            /* pays for what the pack spends */
    double seconds, train_seconds, joules; /* its shares; joules of this session */
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
    int64_t step;             /* done */
    int finished;             /* trained and evaluated to the end */
    double accounted, joules; /* clock and energy up to which shares were dealt out */
    struct fpl_energy energy;
    double peak_bytes;        /* of the device's memory; 0 where the host is the device */
    struct fpl_error unsaved; /* the first last checkpoint that could not be written */

    /* host buffers, allocated once */
    int32_t *inputs, *targets; /* [R, most sequences of a call, T] */
    double *losses;            /* [R, rows of a chunk, or all of a step, one micro-batch after the other] */
    double *oracle;            /* [chunk_sequences] */
    double *sum, *sqnorm;      /* [R] */
    int64_t *nonfinite;        /* [R] */
    float *lr, *decay;         /* [R] */
    int32_t *active;           /* [R] */
};

int fpl_trainer_active(const struct fpl_trainer *t);  /* replicas that still train */
int fpl_trainer_stopped(const struct fpl_trainer *t); /* the signal, or 0 */

/* setup.c.  shape: of a pack of R; check: what a pack must agree in; open: everything but replica
 * indices and checkpoints (close after failures too). */
struct fpl_model_shape fpl_trainer_shape(const struct fpl_config *c, int R, int64_t vocab);
enum fpl_code fpl_trainer_check(const struct fpl_config *c, int R, struct fpl_error *err);
enum fpl_code fpl_trainer_open(struct fpl_trainer *t, const struct fpl_config *const *configs,
                               struct fpl_error *err);
void fpl_trainer_close(struct fpl_trainer *t);

/* train.c.  step: one step; *loss: mean over the batch of the first replica that still trains.  run:
 * until t->finished, a stop or an error; FPL_OK without t->finished: half of the pack has ended. */
enum fpl_code fpl_trainer_step(struct fpl_trainer *t, double *loss, struct fpl_error *err);
int fpl_trainer_is_sparse(const struct fpl_trainer *t);
enum fpl_code fpl_trainer_run(struct fpl_trainer *t, struct fpl_error *err);

/* results.c.  account: deals what was spent since the last call out to the replicas that trained
 * until now; record: of one replica, whose points move there. */
double fpl_trainer_clock(const struct fpl_trainer *t);
double fpl_trainer_joules(const struct fpl_trainer *t);
void fpl_trainer_account(struct fpl_trainer *t);
enum fpl_code fpl_trainer_record(struct fpl_trainer *t, struct fpl_replica *p, struct fpl_record *r,
                                 struct fpl_error *err);

/* evaluate.c: the held-out loss of every replica that still trains, into replica.last.
 * *done 0: stopped on the way, nothing changed. */
enum fpl_code fpl_evaluate(struct fpl_trainer *t, int *done, struct fpl_error *err);

/* checkpoint.c: one run's state as a file (read: no file is a run at step 0) or as its bytes in
 * memory (free data).  `path` names it in messages.  Replicas are restored from 0 on; the step of
 * the first one is the pack's, and the others' must be the same. */
struct fpl_image {
    unsigned char *data;
    size_t size;
};
enum fpl_code fpl_checkpoint_image(struct fpl_trainer *t, int r, struct fpl_image *out,
                                   struct fpl_error *err);
enum fpl_code fpl_checkpoint_restore(struct fpl_trainer *t, int r, const char *path, struct fpl_image *image,
                                     struct fpl_error *err);
enum fpl_code fpl_checkpoint_write(struct fpl_trainer *t, int r, const char *path, struct fpl_error *err);
enum fpl_code fpl_checkpoint_read(struct fpl_trainer *t, int r, const char *path, struct fpl_error *err);

/* Room for one more evaluation on the way. */
enum fpl_code fpl_replica_reserve(struct fpl_replica *p, int64_t count, struct fpl_error *err);

/* diagnose.c: whether the step at hand is diagnosed for a replica; its points, after the batch. */
int fpl_diagnosis_is_due(const struct fpl_trainer *t, int replica);
enum fpl_code fpl_diagnosis_keep(struct fpl_trainer *t, struct fpl_error *err);
enum fpl_code fpl_diagnosis_reserve(struct fpl_replica *p, int64_t count, struct fpl_error *err);

#endif
