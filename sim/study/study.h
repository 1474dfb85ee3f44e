/* study.h - from a study file to the records of all its runs.
 *
 * A study file is YAML (base/yaml.h gives the limits).  Grammar, keys in any order:
 *
 *   study   = map of
 *               name:    text                       default: the file's name
 *               budget:  seconds | "1h30m" | { seconds: number }
 *               options: { option: value, ... }     hold for every run
 *               law: law   order: order   seeds: seeds       for stages without their own
 *             and either   stages: [ stage, ... ]
 *             or the keys of one block: a single stage called "main"
 *   stage   = map of
 *               name:    letters, digits, "-", "_"
 *               after:   stage name | [ stage name, ... ]    of earlier stages
 *               options: { option: value, ... }     override the study's
 *               law: law   order: order
 *             and the keys of one block
 *   block   = seeds: seeds
 *             grid:  { option: [ value, ... ], ... }          every combination
 *             zip:   { option: [ value, ... ], ... }          lists of one length, side by side;
 *                    or a list of such maps (their combinations)
 *             list:  [ item, ... ]
 *   item    = map of option: value, and the keys of a block of its own
 *   seeds   = [ integer, ... ] | count                        count means 1, 2, ..., count
 *   order   = balanced | file | cost
 *   law     = { lr: { c: x, N: x, D: x }, batch: { c: x, N: x, D: x } }   c N^x D^x; N, D default 0
 *           | { fit: source, law: name, where: expression }
 *   source  = name of an earlier stage | FIT.json | LAW:PRESET
 *
 * `option` is any option of base/config.h (formats and recipes are options), or
 *   lr_octaves, batch_octaves    lr and batch_tokens are multiplied by 2 to this power
 * and lr and batch_tokens also take the value `law`.
 *
 * Runs of a block: the product of its grid, zips, items and seeds, each item multiplied by
 * its own block.  Nesting, outermost first: list, grid in file order, zip, seeds.  Later
 * layers replace earlier ones in the order defaults, study options, stage options; what a
 * grid, zip, seeds or item sets may be set once only.  tokens, tokens_per_param and steps
 * are one setting: giving one replaces the others.  Runs that are the same are merged.
 *
 * Values from a law.  batch = B*(N, D) 2^batch_octaves in sequences, rounded to the nearest (in
 * the logarithm) number with at most five significant bits, at least one: within 3 % of the
 * law, and divisible into micro-batches.  lr = LR*(N, D) 2^lr_octaves with D as it is trained
 * with that batch, rounded to six significant digits, so that the last bit of a fit or of a
 * logarithm cannot change a run's identity.  A fit is asked at the run's own format and batch.
 * A batch given as a number and octaves is rounded in the same way.
 *
 * A stage starts when every stage in its `after` is complete.  With `fit: STAGE` the law (default
 * steplaw) is fitted to the runs of STAGE and of the stages that it comes after; the fit is
 * written to DIR/fit-STAGE.json and kept, so that going on uses the very same numbers.  A fit
 * that did not converge, or that its runs do not identify, stops the study with a message.
 *
 * Order inside a stage.  balanced (default): first every item's first seed, taking items of
 * the stage's list in turn, then the second seeds, and so on, so that a study which runs out
 * of time has covered formats, sizes and seeds evenly.  file: as expanded.  cost: cheapest
 * first.
 *
 * Packs.  Missing runs of one shape (model, batch, sequence, steps, data; fpl_train_shape) whose
 * checkpoints are at one step train side by side, up to a size: what the call asks for or, where
 * the backend gains from packs, what was measured for the shape (fpl_train_measure) within it; the
 * measurement is kept in the database as the text "pack SHAPE" and told by a note.  A pack takes
 * the next runs of its shape in the order of their start; the number of packs follows from the
 * number of missing runs, the size and the workers, and runs are spread over them evenly.
 * A pack that fails (no memory, a dead worker, a bad run) is tried again in halves, so that it
 * costs only the run that is to blame.  No result depends on packs.
 *
 * Budget: wall-clock seconds over all calls.  No run starts whose estimated time exceeds what
 * is left; what did not run is reported, and a call with a larger budget goes on.
 *
 * Example:
 *   name: formats
 *   budget: 1h
 *   options: { width: 32, data: "bytes:dict.txt" }
 *   stages:
 *     - name: bowl
 *       seeds: 2
 *       grid: { tokens: [250k, 1M], lr: [2e-3, 5e-3, 1.2e-2], batch_tokens: [128, 256, 512] }
 *     - name: formats
 *       after: bowl
 *       law: { fit: bowl }
 *       options: { lr: law, batch_tokens: law }
 *       seeds: [1, 2, 3]
 *       grid: { tokens: [250k, 1M], lr_octaves: [-1, 0, 1] }
 *       list:
 *         - recipe: fp32
 *         - grid: { recipe: ["full:e4m3/1x32", "full:e2m1/1x32"] }
 */
#ifndef FPL_STUDY_H
#define FPL_STUDY_H

#include <signal.h>
#include <stdio.h>

#include "../base/config.h"
#include "../base/record.h"
#include "../base/runs.h"
#include "../train/train.h"

#define FPL_STUDY_RUNS 20000 /* a larger study is refused */

enum fpl_run_state { FPL_RUN_MISSING, FPL_RUN_RUNNING, FPL_RUN_DONE, FPL_RUN_FAILED };

/* One run of the expansion.  Runs that wait for a law have an id "" and placeholders for what
 * the law will give. */
struct fpl_study_run {
    struct fpl_config config;
    char id[17];
    int line;              /* of the study file: the block it comes from */
    int lr_law, batch_law; /* takes this from the stage's law */
    double lr_octaves, batch_octaves;
    size_t item, replicate; /* item of the stage's list, index in its seeds: for `balanced` */
    double flop;            /* of training and the final evaluation */
    enum fpl_run_state state;
    char shape[17];  /* of runs that can train side by side */
    size_t pack;     /* number of the pack that it will train in; 0: not formed yet */
    size_t most;     /* runs side by side, after a pack with it failed; 0: no limit */
    int64_t step;    /* of its checkpoint; 0: none, -1: not readable */
    int deaths;      /* workers that died on it alone */
    double fraction; /* done, while running */
};

struct fpl_study_stage {
    char name[48];
    int resolved;                /* every run has its id */
    size_t runs;                 /* before resolution: planned; after: distinct runs of this stage */
    size_t *run;                 /* [runs] indices into fpl_study.run, in the order they start */
    struct fpl_stage_plan *plan; /* what is not needed from outside */
};

struct fpl_study {
    char name[64];
    char *file; /* name in messages */
    char *text; /* the study file's bytes, copied to DIR/study.yaml */
    size_t text_size;
    double budget; /* seconds, 0: none */
    char backend[16];
    size_t stages, runs, room, packs; /* packs: formed so far */
    struct fpl_study_stage *stage;
    struct fpl_study_run *run;        /* [runs] distinct resolved runs, then planned ones that wait */
    struct fpl_study_source *sources; /* data sources met */
    struct fpl_yaml *tree;            /* of the file; settings point into it */
    struct fpl_assign *options;       /* that hold for every run */
    size_t option_count;
};

/* Read and expand; every run is checked.  Errors: "FILE:LINE: ...".  Nothing is written.
 * Runs of stages whose law is a constant, a file or a preset are resolved. */
enum fpl_code fpl_study_read(const char *path, const char *backend, struct fpl_study **out,
                             struct fpl_error *err);
enum fpl_code fpl_study_parse(const char *name, const char *text, size_t size, const char *backend,
                              struct fpl_study **out, struct fpl_error *err);
void fpl_study_free(struct fpl_study *s);

/* "1h30m", "90m", "45s" or seconds, above 0; 0 if text is none of these. */
int fpl_study_duration(const char *text, double *seconds);

/* What a call will do, known before it starts. */
struct fpl_study_plan {
    size_t runs, done, missing; /* runs of waiting stages count as missing */
    size_t waiting;             /* of them: LR or batch comes from a fit that is still to be made */
    double flop, seconds;       /* of the missing runs: seconds of one core */
    double rate;                /* FLOP per second behind `seconds`: measured in this study, or assumed */
    int measured;
    double spent; /* budget used by earlier calls, seconds */
};

struct fpl_study_result {
    size_t runs, done, ran, failed, left; /* left: missing, for lack of budget or of an earlier stage */
    size_t status[FPL_RUN_STATUSES];      /* of the runs done in this call */
    int out_of_budget;
    double seconds; /* of this call */
};

struct fpl_study_options {
    const char *directory;
    int workers;                       /* processes */
    int pack;                          /* most runs side by side; 0: no limit of the caller's */
    int measure;                       /* the backend gains from packs; 0: they are of `pack` runs (0: 1) */
    int threads;                       /* inside a worker; 0: 1 */
    int device, devices;               /* worker k takes device + k mod devices, of the backend's */
    int dry_run;                       /* stop after `planned`; directory may be NULL */
    double budget;                     /* replaces the file's if > 0 */
    const char *const *worker;         /* command of a worker, NULL-terminated; the parent's process id is
                                          appended as the last argument */
    const volatile sig_atomic_t *stop; /* a signal number ends the call in good order; may be NULL */
    const char *version, *revision;    /* for FIT.json */
    /* Any of these may be NULL. */
    void (*planned)(void *context, const struct fpl_study *s, const struct fpl_study_plan *plan);
    void (*progress)(void *context, double done, const char *text);
    void (*note)(void *context, const char *text); /* one line that a person should see */
    void *context;
};

/* Run what is missing.  FPL_STOPPED after a signal; FPL_INVALID or FPL_SYSTEM when runs failed or
 * the database cannot be written: what was stored stays.  Running out of budget is FPL_OK. */
enum fpl_code fpl_study_run(struct fpl_study *s, const struct fpl_study_options *options,
                            struct fpl_study_result *result, struct fpl_error *err);

/* ---- the child process ------------------------------------------------------------------- */

typedef enum fpl_code (*fpl_train_function)(const struct fpl_config *configs, int R,
                                            const struct fpl_data *data,
                                            const struct fpl_train_options *options,
                                            struct fpl_record *records, struct fpl_error *err);

typedef enum fpl_code (*fpl_measure_function)(const struct fpl_config *configs, int count,
                                              const struct fpl_data *data,
                                              const struct fpl_train_options *options,
                                              struct fpl_pack_speed *out, struct fpl_error *err);

struct fpl_worker_options {
    int parent; /* process id; the worker dies with it */
    const struct fpl_kernels *kernels;
    fpl_train_function train;
    fpl_measure_function measure;
    const char *revision; /* for records */
    const volatile sig_atomic_t *stop;
};

/* Serve requests from standard input until it ends or a signal comes, one at a time:
 *   in    {"runs": [{"options": {key: value text, ...}, "checkpoint": path}, ...],
 *          "codebooks": {hash: values}, "device": number, "threads": number,
 *          "measure": true if only that is asked for}
 *   out   progress 0.25 | note TEXT | record JSON, for each run as it ends;
 *         at last   done | error CODE one line | stopped | pack BEST R:SECONDS R:SECONDS ...
 * Returns FPL_STOPPED after a signal. */
enum fpl_code fpl_study_serve(FILE *in, FILE *out, const struct fpl_worker_options *options,
                              struct fpl_error *err);

struct fpl_store;
/* The loss curves of a study's runs as a table for laws of whole trajectories (curves.c). */
enum fpl_code fpl_study_curves(struct fpl_store *store, struct fpl_runs *out, struct fpl_error *err);

#endif
