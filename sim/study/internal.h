/* internal.h - what the files of sim/study share and nobody else sees. */
#ifndef FPL_STUDY_INTERNAL_H
#define FPL_STUDY_INTERNAL_H

#include "../base/yaml.h"
#include "../law/law.h"
#include "../store/store.h"
#include "study.h"

/* ---- parsed study file (parse.c); texts belong to the YAML tree ---------------------------- */

struct fpl_assign {
    const char *key, *text;
    int line;
};

/* A dimension of a product: `count` positions, each of which makes `width` assignments. */
struct axis {
    size_t width, count;
    struct fpl_assign *cell; /* [count][width] */
    int seeds;               /* its position is the run's replicate */
    int owned;               /* texts were made here (seeds given as a count) */
};

struct block {
    int line;
    size_t fixed_count, axis_count, item_count;
    struct fpl_assign *fixed; /* of an item */
    struct axis *axis;
    struct block *item; /* of its list */
};

enum stage_order { ORDER_BALANCED, ORDER_FILE, ORDER_COST };

struct power { /* c N^n D^d; c 0: not given */
    double c, n, d;
};

struct law_source {
    int line; /* 0: no law */
    struct power lr, batch;
    const char *fit; /* NULL: constants */
    const char *law, *where;
    int stage; /* fit of this stage, -1: of a file or preset */
};

struct fpl_stage_plan {
    int line;
    struct block block;
    enum stage_order order;
    struct law_source law;
    unsigned char *after; /* [stages]: must be complete before; transitive */
    struct fpl_assign *options;
    size_t option_count;
    struct fpl_study_run *planned; /* [planned_count], as expanded */
    size_t planned_count, planned_room;
};

struct fpl_study_source { /* a data source: what identities and costs need of it */
    struct fpl_study_source *next;
    char spec[1024];
    int64_t seq;
    uint64_t data_seed;
    struct fpl_data_info info;
};

struct parser {
    struct fpl_study *study;
    struct fpl_config scratch; /* values are tried on it */
    struct fpl_error *err;
};

enum fpl_code study_fail(const struct fpl_study *s, int line, struct fpl_error *err, const char *fmt, ...)
    FPL_PRINTF(4, 5);
#define BAD(p, line, ...) study_fail((p)->study, line, (p)->err, __VA_ARGS__)

/* block.c; lists of words end with NULL. */
extern const char *const study_block_keys[];
enum fpl_code study_no_memory(struct parser *p);
const char *study_kind_of(const struct fpl_yaml *y); /* "a list", "nothing", ... */
int study_one_of(const char *word, const char *const *words);
enum fpl_code study_unknown(struct parser *p, const struct fpl_yaml *y, const char *what,
                            const char *const *words);
enum fpl_code study_parse_options(struct parser *p, const struct fpl_yaml *y, struct fpl_assign **out,
                                  size_t *count);
/* default_seeds: of the study, for a stage without its own; may be NULL. */
enum fpl_code study_parse_block(struct parser *p, const struct fpl_yaml *y, struct block *b,
                                const struct fpl_yaml *default_seeds);

/* Fills stages (without runs) and study-wide fields from s->tree. */
enum fpl_code study_parse_file(struct fpl_study *s, struct fpl_error *err);
void study_free_block(struct block *b);

/* ---- expansion (expand.c) ------------------------------------------------------------------- */

enum fpl_code study_expand(struct fpl_study *s, struct fpl_error *err);
/* Identity and FLOP of a complete configuration. */
enum fpl_code study_identify(struct fpl_study *s, struct fpl_study_run *r, struct fpl_error *err);
/* Merge the stage's planned runs, which are complete, into s->run and order them. */
enum fpl_code study_merge(struct fpl_study *s, size_t stage, struct fpl_error *err);

/* ---- laws (lawopt.c) ------------------------------------------------------------------------ */

/* fit: NULL for constants. Resolves and merges the stage. */
enum fpl_code study_resolve(struct fpl_study *s, size_t stage, const struct fpl_fit *fit,
                            struct fpl_error *err);
/* Law sources that need no runs: constants, files, presets. */
enum fpl_code study_resolve_given(struct fpl_study *s, size_t stage, struct fpl_error *err);
/* Is the stage's law fitted to runs of this study? */
int study_waits_for_fit(const struct fpl_study *s, size_t stage);
/* Fit it (or take the fit kept from an earlier call), write DIR/fit-STAGE.json, resolve. */
enum fpl_code study_resolve_fitted(struct fpl_study *s, size_t stage, struct fpl_store *store,
                                   const struct fpl_study_options *options, struct fpl_error *err);
/* Number of sequences nearest to k in the logarithm, at most five significant bits, at least 1. */
int64_t study_round_sequences(double k);

/* ---- cost (cost.c) -------------------------------------------------------------------------- */

struct cost_row {
    double N, flop, seconds;
    int quantized;
};
struct cost_model {
    struct cost_row *row; /* one per (N, quantized) */
    size_t count;
    double assumed; /* FLOP per second of a worker, until a run has been measured */
};
#define STUDY_RATE_ALONE 2e10  /* of one core */
#define STUDY_RATE_PACKED 1e13 /* of a device that gains from packs */
enum fpl_code cost_load(struct cost_model *m, struct fpl_store *store, struct fpl_error *err);
int cost_add(struct cost_model *m, double N, int quantized, double flop, double seconds);
/* FLOP per second expected of a model of N parameters. */
double cost_rate(const struct cost_model *m, double N, int quantized);
int study_quantizes(const char *recipe);
double cost_seconds(const struct cost_model *m, const struct fpl_study_run *r);
void cost_free(struct cost_model *m);

/* ---- workers (pool.c) ----------------------------------------------------------------------- */

struct pool_worker {
    int pid, fd;
    int busy;
    char *text; /* bytes received, not yet a line */
    size_t size, room;
    double started;
};

struct pool {
    struct pool_worker *worker;
    int count;
    const char *const *command;
    int lock; /* inherited by workers, so that the lock outlives the parent while one of them lives */
};

enum pool_event_kind { POOL_NOTHING, POOL_LINE, POOL_DEATH };
struct pool_event {
    enum pool_event_kind kind;
    int worker;
    int was_busy; /* it had work */
    char *line;   /* POOL_LINE: malloced */
    char why[64]; /* POOL_DEATH */
};

enum fpl_code pool_open(struct pool *p, int workers, const char *const *command, int lock,
                        struct fpl_error *err);
/* An idle worker, started if need be; -1 when all are busy. */
int pool_idle(const struct pool *p);
int pool_busy(const struct pool *p);
enum fpl_code pool_send(struct pool *p, int worker, const char *line, struct fpl_error *err);
/* Wait up to `milliseconds` for one event. */
enum fpl_code pool_wait(struct pool *p, int milliseconds, struct pool_event *event, struct fpl_error *err);
/* Ask all workers to end: with a signal they write checkpoints, without one idle ones go home. */
void pool_signal(struct pool *p, int signal);
void pool_close(struct pool *p); /* kills what is left */

double study_clock(void); /* monotonic seconds */

/* ---- packs (packs.c) ------------------------------------------------------------------------ */

struct job {              /* of a worker */
    size_t *run, count;   /* indices into fpl_study.run; count 0: idle */
    int measures;         /* only the size of a pack is asked for */
    struct fpl_error why; /* what was wrong with an answer */
};

struct pack_size { /* of a shape */
    char shape[17];
    struct fpl_pack_speed speed;
    int known, limit; /* limit: runs that the measurement could take */
    int measuring, deaths;
};

struct session;
/* The next job of an idle worker, its runs marked as running; 0: none for now. */
int packs_pick(struct session *x, struct job *job, struct fpl_error *err);
/* The line that asks a worker for it; NULL: out of memory, or a name is not UTF-8. */
char *packs_request(const struct session *x, int worker, const struct job *job);
/* What a measurement answered, "BEST R:SECONDS ..."; 0: not understood. */
int packs_measured(struct session *x, const struct job *job, const char *text);
/* The measurement failed: its worker died, or `final`: it never will succeed. */
void packs_unmeasured(struct session *x, const struct job *job, int final);
/* This many runs of the shape do not fit side by side. */
void packs_too_large(struct session *x, const char *shape, size_t count);
void packs_free(struct session *x);

/* ---- what workers say (answers.c) ------------------------------------------------------------ */

/* One event, waited for at most so long. */
enum fpl_code answers_handle(struct session *x, int milliseconds, int stopping, struct fpl_error *err);

/* ---- one call (run.c), and the directory that it works in (directory.c) --------------------- */

struct session {
    struct fpl_study *s;
    const struct fpl_study_options *o;
    struct fpl_study_result *result;
    struct fpl_store *store;
    struct cost_model cost;
    struct pool pool;
    struct job *job; /* [workers] */
    struct pack_size *size;
    size_t sizes;
    int lock;
    double begun, spent, budget;       /* seconds; spent: by earlier calls */
    double saved;                      /* seconds of this call that the store knows of */
    double done_seconds, left_seconds; /* estimates of one core: ended in this call, still missing */
    int deaths;                        /* workers in a row that died without an answer */
    struct fpl_error first;            /* of the runs that failed */
};

int session_stop_signal(const struct session *x);
double session_elapsed(const struct session *x);
double session_budget_left(const struct session *x);
void session_note(const struct session *x, const char *text);
void session_estimate(struct session *x); /* left_seconds anew */
int session_stage_may_start(const struct fpl_study *s, size_t stage);
void session_look_at(const struct session *x, struct fpl_study_run *r); /* its checkpoint's step */

enum fpl_code directory_open(struct session *x, struct fpl_error *err);
/* A dry run looks at a store if there is one and writes nothing. */
enum fpl_code directory_look(struct session *x, struct fpl_error *err);
/* Budget used so far, over all calls. */
enum fpl_code directory_read_spent(struct session *x, struct fpl_error *err);
enum fpl_code directory_write_spent(struct session *x, struct fpl_error *err);
void directory_checkpoint(const struct session *x, const char *id, char *path, size_t size);

#endif
