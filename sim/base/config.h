/* config.h - one run's configuration: every option, in one table.
 *
 * The table fpl_options drives parsing (command line, YAML, studies), --help, defaults,
 * the stored configuration and the run's identity.  Unknown keys are errors that suggest
 * the nearest known key.
 *
 * Identity: fpl_config_canonical() writes "key=value" lines of every option whose row says
 * `identity`, in table order, doubles as the shortest text that reads back (number.h),
 * recipes in canonical form, data by kind and content fingerprint instead of paths, preceded
 * by "backend=..." and "numerics=...".  Values that the program chooses (ffn, init_std,
 * micro_tokens at 0) are written as chosen and the amount as steps, so two texts of one and
 * the same training are one run.  The run's id is the first 16 hex digits of the XXH128 of
 * that text.
 */
#ifndef FPL_CONFIG_H
#define FPL_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#include "../../formats/error.h"

/* Raised whenever any bit of any result changes. */
#define FPL_NUMERICS 1

struct fpl_config {
    /* model: LLaMA shape */
    int64_t layers, width, heads, ffn; /* ffn 0: the multiple of 32 nearest to 8/3 width */
    int64_t seq;                       /* T */
    double init_std;                   /* 0: 0.5/sqrt(width) */
    /* data */
    char data[1024];    /* lexicon[:words=..,exponent=..] | bytes:FILE... | tokens:FILE... (colon-separated
                           files) */
    uint64_t data_seed; /* lexicon construction and the evaluation sample; not the run's seed */
    /* amount: exactly one of the three is set (> 0); setting one clears the others */
    double tokens;           /* D */
    double tokens_per_param; /* D = this * N */
    int64_t steps;
    int64_t batch_tokens; /* tokens of one step, a multiple of seq */
    int64_t micro_tokens; /* tokens of a micro-batch, divides batch_tokens, multiple of seq; 0: the
                             largest such number that is at most 2048, or one sequence */
    /* precision */
    char recipe[768];
    /* optimizer and schedule */
    double lr;          /* peak */
    double lr_final;    /* fixed final rate, default 1e-5 */
    char schedule[16];  /* cosine | wsd | constant */
    double warmup;      /* share of the steps, [0, 1) */
    double decay_share; /* wsd: share of the steps in the final decay */
    double weight_decay, beta1, beta2, eps, clip;
    /* evaluation */
    int64_t eval_tokens; /* held-out tokens of the final evaluation */
    int64_t eval_every;  /* steps between evaluations on the way; 0: only at the end */
    uint64_t seed;
    /* not part of the identity */
    int64_t checkpoint_every; /* steps; 0: only when stopped */
    int64_t diagnose_every;   /* steps between diagnoses of quantized operands; 0: none */
};

enum fpl_option_type { FPL_OPT_INT, FPL_OPT_UINT, FPL_OPT_REAL, FPL_OPT_TEXT };

struct fpl_option {
    const char *key;
    enum fpl_option_type type;
    size_t offset, size;  /* in struct fpl_config */
    double min, max;      /* accepted range of numbers, inclusive */
    const char *fallback; /* default, as text */
    int identity;
    const char *help;
};
extern const struct fpl_option fpl_options[]; /* last row has key NULL */
const struct fpl_option *fpl_option_find(const char *key);

void fpl_config_defaults(struct fpl_config *c);

/* Set one option from text ("1e6", "2^20", "512k" and "4M" (decimal) are accepted for numbers). */
enum fpl_code fpl_config_set(struct fpl_config *c, const char *key, const char *value, struct fpl_error *err);

/* Cross-option checks (shapes divide, one amount, recipe parses, ...). Data is not opened. */
enum fpl_code fpl_config_check(const struct fpl_config *c, struct fpl_error *err);

/* Current value as canonical text; returns the length as snprintf does, -1 for an unknown key. */
int fpl_config_get(const struct fpl_config *c, const char *key, char *buf, size_t size);

/* N = L (4 C^2 + 3 C F) non-vocabulary parameters. */
double fpl_config_params(const struct fpl_config *c);
int64_t fpl_config_ffn(const struct fpl_config *c);
/* What 0 stands for in micro_tokens and init_std. */
int64_t fpl_config_micro(const struct fpl_config *c);
double fpl_config_init_std(const struct fpl_config *c);
/* Steps and D as trained: D = steps * batch_tokens, steps >= 1 rounded to nearest. */
int64_t fpl_config_steps(const struct fpl_config *c);
/* FLOP per trained token = 6 N + 12 L T C + 6 V C. */
double fpl_config_flop_per_token(const struct fpl_config *c, int64_t vocab);

/* fingerprint: content identity of the data (data.h). Malloced. NULL: out of memory. */
char *fpl_config_canonical(const struct fpl_config *c, const char *backend, const char *fingerprint);
/* A configuration from its canonical text; data becomes the fingerprint, so the result describes a
 * run but cannot be trained.  backend[16] and numerics may be NULL. */
enum fpl_code fpl_config_from_canonical(const char *canonical, struct fpl_config *c, char *backend,
                                        int *numerics, struct fpl_error *err);
/* 16 hex digits and a terminator. */
void fpl_config_id(const char *canonical, char id[17]);

#endif
