/* bench.h - `fplaw bench`: what is measured, against what, and how results are told.
 *
 * Every value is measured in one process, interleaved with its peer (a limit such as memcpy,
 * or another implementation such as OpenBLAS), and kept as the minimum of the repeats; what
 * counts is the ratio, the larger the better.  `bits` hashes what was computed, so that a
 * driver, compiler or kernel that changes numbers is found together with one that is slow.
 */
#ifndef FPL_BENCH_H
#define FPL_BENCH_H

#include <stddef.h>
#include <stdint.h>

#include "../../formats/error.h"
#include "../../kernels/kernels.h"

struct fpl_bench_row {
    char name[64], unit[16], peer[32];
    double value;  /* in unit */
    double ratio;  /* to the peer; larger is better */
    double spread; /* (median - minimum) / minimum of the row's times */
    char bits[33]; /* XXH128 of the output; "" where there is none */
    int repeats;
    int replicas; /* of a pack; 0: none */
};

struct fpl_bench {
    int quick;                         /* few repeats, small sizes: does it work at all */
    const struct fpl_kernels *kernels; /* of the device that is measured */
    int number, threads;               /* the device's number; threads of the host beside it */
    struct fpl_bench_row row[160];
    int count;
    double sgemm;       /* FLOP/s of single-threaded OpenBLAS at 1024^3 */
    char variants[224]; /* what the backend says of itself */
};

/* ---- against an earlier run (bench_compare.c) -------------------------------------------------- */

struct fpl_bench_comparison {
    const char *baseline, *junit; /* file names; junit NULL: none */
    const char *suite;            /* parts that were measured; NULL: all */
    double tolerance;
};
struct json_t;
enum fpl_code fpl_bench_load(const struct fpl_bench *b, const char *path, struct json_t **root,
                             struct fpl_error *err);
/* Messages and JUnit cases; FPL_REGRESSION if any row got worse. */
enum fpl_code fpl_bench_compare(const struct fpl_bench *b, const struct fpl_bench_comparison *c,
                                struct json_t *baseline, struct fpl_error *err);
/* Whether the part that a row belongs to was asked for. */
int fpl_bench_row_asked(const struct fpl_bench *b, const char *suite, const char *row);

/* ---- rows --------------------------------------------------------------------------------------- */

/* Times of one thing over the repeats. */
struct fpl_times {
    double *seconds;
    int count;
};
double fpl_times_least(const struct fpl_times *t);
double fpl_times_spread(const struct fpl_times *t);

/* A new row, filled in from the times; NULL where there is no room. */
struct fpl_bench_row *fpl_bench_add(struct fpl_bench *b, const struct fpl_times *t, const char *unit,
                                    const char *peer, const char *name, ...) FPL_PRINTF(5, 6);

/* The parts, each appending rows. */
enum fpl_code fpl_bench_products(struct fpl_bench *b, struct fpl_error *err);
enum fpl_code fpl_bench_quantizers(struct fpl_bench *b, struct fpl_error *err);
enum fpl_code fpl_bench_accumulators(struct fpl_bench *b, struct fpl_error *err);
enum fpl_code fpl_bench_steps(struct fpl_bench *b, struct fpl_error *err);
enum fpl_code fpl_bench_workers(struct fpl_bench *b, struct fpl_error *err);

/* The parts of a device that is not the CPU. */
enum fpl_code fpl_bench_device_quantizers(struct fpl_bench *b, struct fpl_error *err);
enum fpl_code fpl_bench_device_products(struct fpl_bench *b, struct fpl_error *err);
enum fpl_code fpl_bench_device_accumulators(struct fpl_bench *b, struct fpl_error *err);
enum fpl_code fpl_bench_device_packs(struct fpl_bench *b, struct fpl_error *err);

/* OpenBLAS, single-threaded: 1024^3 products. */
struct fpl_sgemm;
struct fpl_sgemm *fpl_sgemm_create(void);                 /* NULL: no memory */
double fpl_sgemm_seconds(struct fpl_sgemm *s, int times); /* of `times` products */
double fpl_sgemm_flop(void);                              /* of one */
const char *fpl_sgemm_core(void); /* the kernels that OpenBLAS chose for this processor */
void fpl_sgemm_free(struct fpl_sgemm *s);

/* One training configuration, ready to do steps. */
struct fpl_stepper;
struct fpl_step_size {
    int64_t width, layers, ffn;
};
extern const struct fpl_step_size fpl_step_sizes[5]; /* N = 5.1k .. 803k */
enum fpl_code fpl_stepper_create(const struct fpl_step_size *size, const char *recipe,
                                 struct fpl_stepper **out, struct fpl_error *err);
double fpl_stepper_seconds(struct fpl_stepper *s, double *quantizing); /* one step; seconds of it */
void fpl_stepper_bits(struct fpl_stepper *s, char bits[33]);           /* of the parameters */
double fpl_stepper_flop(const struct fpl_stepper *s);                  /* of one step */
double fpl_stepper_tokens(const struct fpl_stepper *s);
enum fpl_code fpl_stepper_check(struct fpl_stepper *s, struct fpl_error *err);
void fpl_stepper_free(struct fpl_stepper *s);

/* The child process of fpl_bench_workers: commands on standard input, seconds on output. */
int fpl_bench_serve(void);

#endif
