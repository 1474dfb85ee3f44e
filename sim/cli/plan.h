/* plan.h - `fplaw plan` inside: what was asked, and how it is written. */
#ifndef FPL_CLI_PLAN_H
#define FPL_CLI_PLAN_H

#include "../plan/plan.h"

#define PLAN_BUDGETS 64
#define PLAN_FORMATS 64
#define PLAN_SETTINGS 64
#define PLAN_ISOFLOPS 13
#define PLAN_BITS 17

/* Arguments as texts, then as numbers. */
struct plan_asked {
    const char *source, *law, *flops, *hours, *hardware, *speed, *block, *format, *decide, *out;
    const char *next, *max_flops, *noise, *least_gain, *seed;
    const char *optima, *n, *max_d, *batch_min, *batch_max, *memory, *state_bytes, *inference;
    const char *setting[PLAN_SETTINGS];
    int sources, settings, json, table, isoflop;

    double budget[PLAN_BUDGETS];
    size_t budgets;
    struct fpl_plan_format formats[PLAN_FORMATS];
    size_t format_count;
    int block_assumed;
    double block_first; /* of splits and bits */
    struct fpl_plan_limits limits;
};

/* Budgets, limits, formats; the fit says which blocks and formats it knows. */
enum fpl_code plan_numbers(struct plan_asked *a, struct fpl_error *err);
enum fpl_code plan_formats(struct plan_asked *a, const struct fpl_fit *fit, struct fpl_error *err);

/* What another law of the same file says of the first budget, in the best row's format. */
struct plan_other {
    const char *law;
    struct fpl_plan_point at;
};
#define PLAN_OTHERS 8

/* Everything that is printed. */
struct plan_answer {
    const struct fpl_fit *fit;
    struct fpl_plan plan[PLAN_BUDGETS];
    size_t plans;
    int has_allocation;
    struct fpl_allocation allocation; /* of the first budget's best format */
    struct fpl_isoflop isoflop[PLAN_ISOFLOPS];
    size_t isoflops;
    struct fpl_plan_bits bits[PLAN_BUDGETS];
    int has_bits;
    struct plan_other other[PLAN_OTHERS];
    size_t others;
};
/* Learning rates and batches of another fit at every row's N and D; schedules that differ are noted. */
void plan_take_optima(const struct plan_asked *a, const struct fpl_fit *fit, const struct fpl_fit *optima,
                      struct fpl_plan *plan);
void plan_print_text(const struct plan_asked *a, const struct plan_answer *p);
enum fpl_code plan_print_json(const struct plan_asked *a, const struct plan_answer *p, struct fpl_error *err);
/* What the law cannot say of a plan: the i-th sentence, NULL past the last. */
const char *plan_cannot(const struct plan_answer *p, size_t i);

/* --next: the study file, and a table on standard error. */
enum fpl_code plan_next(const struct plan_asked *a, const struct fpl_fit *fit, const struct fpl_plan *plan,
                        struct fpl_error *err);

#endif
