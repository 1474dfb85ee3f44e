/* config.c - see config.h: the option table and everything that walks it.
 *
 * A row gives an option's key, where it lies in struct fpl_config, its accepted range and its
 * default; parsing, printing, defaults and the canonical text are loops over the rows.  Rows
 * are in the order of the canonical text: reordering them changes every run's identity.
 *
 * Counts and amounts of the training are limited so that products cannot overflow: N is at
 * most 1e10, a run has at most 2^32 - 1 steps (the step is one word of the random counter,
 * formats/random.h), D at most 1e15.
 */
#include "config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/codebook.h"
#include "../../formats/recipe.h"
#include "file.h"
#include "number.h"

#define AT(member) offsetof(struct fpl_config, member), sizeof(((struct fpl_config *)0)->member)
#define BELOW_ONE 0.9999999

const struct fpl_option fpl_options[] = {
    {"layers", FPL_OPT_INT, AT(layers), 1, 1024, "2", 1, "blocks of the model, L"},
    {"width", FPL_OPT_INT, AT(width), 2, 65536, "32", 1, "width of the residual stream, C"},
    {"heads", FPL_OPT_INT, AT(heads), 1, 1024, "2", 1, "attention heads, H; C/H must be even"},
    {"ffn", FPL_OPT_INT, AT(ffn), 0, 262144, "0", 1,
     "feed-forward width, F; 0: the multiple of 32 nearest to 8/3 C"},
    {"seq", FPL_OPT_INT, AT(seq), 1, 65536, "64", 1, "sequence length, T"},
    {"init_std", FPL_OPT_REAL, AT(init_std), 0, 100, "0", 1,
     "standard deviation of initial weights; 0: 0.5/sqrt(C)"},
    {"data", FPL_OPT_TEXT, AT(data), 0, 0, "lexicon", 1,
     "lexicon[:words=..,exponent=..] | bytes:FILE... | tokens:FILE..."},
    {"data_seed", FPL_OPT_UINT, AT(data_seed), 0, 0x1p64, "0", 1,
     "seed of generated data and of the evaluation sample"},
    {"tokens", FPL_OPT_REAL, AT(tokens), 0, 1e15, "500000", 0,
     "training tokens, D (replaces tokens_per_param, steps)"},
    {"tokens_per_param", FPL_OPT_REAL, AT(tokens_per_param), 0, 1e9, "0", 0,
     "D as a multiple of N (replaces tokens, steps)"},
    {"steps", FPL_OPT_INT, AT(steps), 0, 4294967295.0, "0", 1,
     "optimizer steps (replaces tokens, tokens_per_param)"},
    {"batch_tokens", FPL_OPT_INT, AT(batch_tokens), 1, 1e12, "256", 1,
     "tokens of one step, a multiple of seq"},
    {"micro_tokens", FPL_OPT_INT, AT(micro_tokens), 0, 1e9, "0", 1,
     "tokens of a micro-batch; 0: at most 2048"},
    {"recipe", FPL_OPT_TEXT, AT(recipe), 0, 0, "fp32", 1,
     "precision: fp32, bf16, full:e4m3/1x32, ... (fplaw formats)"},
    {"lr", FPL_OPT_REAL, AT(lr), 1e-12, 1e3, "5e-3", 1, "peak learning rate"},
    {"lr_final", FPL_OPT_REAL, AT(lr_final), 0, 1e3, "1e-5", 1, "learning rate of the last step"},
    {"schedule", FPL_OPT_TEXT, AT(schedule), 0, 0, "cosine", 1, "cosine | wsd | constant"},
    {"warmup", FPL_OPT_REAL, AT(warmup), 0, BELOW_ONE, "0.05", 1, "share of the steps in the linear warm-up"},
    {"decay_share", FPL_OPT_REAL, AT(decay_share), 0, 1, "0.2", 1,
     "wsd: share of the steps in the final decay"},
    {"weight_decay", FPL_OPT_REAL, AT(weight_decay), 0, 1e3, "0.1", 1, "decoupled weight decay of matrices"},
    {"beta1", FPL_OPT_REAL, AT(beta1), 0, BELOW_ONE, "0.9", 1, "AdamW: decay of the first moment"},
    {"beta2", FPL_OPT_REAL, AT(beta2), 0, BELOW_ONE, "0.95", 1, "AdamW: decay of the second moment"},
    {"eps", FPL_OPT_REAL, AT(eps), 1e-30, 1, "1e-8", 1, "AdamW: added to the root of the second moment"},
    {"clip", FPL_OPT_REAL, AT(clip), 0, 1e30, "1", 1, "largest global gradient norm; 0: no clipping"},
    {"eval_tokens", FPL_OPT_INT, AT(eval_tokens), 1, 1e12, "65536", 1, "held-out tokens of an evaluation"},
    {"eval_every", FPL_OPT_INT, AT(eval_every), 0, 1e12, "0", 1,
     "steps between evaluations on the way; 0: only at the end"},
    {"seed", FPL_OPT_UINT, AT(seed), 0, 0x1p64, "1", 1,
     "seed of weights, data order and stochastic rounding"},
    {"checkpoint_every", FPL_OPT_INT, AT(checkpoint_every), 0, 1e12, "0", 0,
     "steps between checkpoints; 0: only when stopped"},
    {"diagnose_every", FPL_OPT_INT, AT(diagnose_every), 0, 1e12, "0", 0,
     "record SQNR, underflow, clipping, exponents of every quantized operand at the first step, each so many "
     "steps later, and the last; 0: never"},
    {NULL, FPL_OPT_INT, 0, 0, 0, 0, NULL, 0, NULL}};

#define OPTION_ROOM 64 /* rows of the table, with room to grow */

static const char *const schedules[] = {"cosine", "wsd", "constant", NULL};

const struct fpl_option *fpl_option_find(const char *key) {
    for (const struct fpl_option *o = fpl_options; o->key != NULL; o++)
        if (strcmp(o->key, key) == 0) return o;
    return NULL;
}

static enum fpl_code unknown_key(const char *key, struct fpl_error *err) {
    const char *words[OPTION_ROOM];
    size_t n = 0;
    for (const struct fpl_option *o = fpl_options; o->key != NULL && n + 1 < OPTION_ROOM; o++)
        words[n++] = o->key;
    words[n] = NULL;
    const char *near = fpl_nearest_word(key, words);
    if (near != NULL)
        return fpl_fail(err, FPL_INVALID, "unknown option '%.60s'; did you mean '%s'?", key, near);
    return fpl_fail(err, FPL_INVALID, "unknown option '%.60s'; 'fplaw train --help' lists them", key);
}

/* ---- setting one option --------------------------------------------------------------------- */

static enum fpl_code check_range(const struct fpl_option *o, double x, const char *value,
                                 struct fpl_error *err) {
    if (x >= o->min && x <= o->max) return FPL_OK;
    char low[FPL_NUMBER_TEXT], high[FPL_NUMBER_TEXT];
    fpl_number_print(o->min, low);
    fpl_number_print(o->max, high);
    return fpl_fail(err, FPL_INVALID, "%s: %.60s is outside the accepted range %s to %s", o->key, value, low,
                    high);
}

/* `why` comes from a parser that does not know the option's name. */
static enum fpl_code name_option(const struct fpl_option *o, struct fpl_error *err) {
    fpl_fail_at(err, "%s", o->key);
    return FPL_INVALID;
}

static enum fpl_code set_text(const struct fpl_option *o, char *field, const char *value,
                              struct fpl_error *err) {
    if (*value == '\0') return fpl_fail(err, FPL_INVALID, "%s: is empty", o->key);
    if (strlen(value) >= o->size)
        return fpl_fail(err, FPL_INVALID, "%s: longer than the %zu characters accepted", o->key, o->size - 1);
    if (strpbrk(value, "\n\r") != NULL)
        return fpl_fail(err, FPL_INVALID, "%s: contains a line break", o->key);
    if (o->offset == offsetof(struct fpl_config, schedule)) {
        for (const char *const *s = schedules; *s != NULL; s++)
            if (strcmp(*s, value) == 0) return memcpy(field, value, strlen(value) + 1), FPL_OK;
        return fpl_fail(err, FPL_INVALID, "schedule: '%.40s' is none of cosine, wsd, constant", value);
    }
    if (o->offset == offsetof(struct fpl_config, recipe)) {
        struct fpl_recipe r;
        if (fpl_recipe_parse(value, &r, err) != FPL_OK) return name_option(o, err);
        value = r.text;
        return memcpy(field, value, strlen(value) + 1), FPL_OK;
    }
    return memcpy(field, value, strlen(value) + 1), FPL_OK;
}

/* One amount given: the other two no longer count. */
static void keep_one_amount(struct fpl_config *c, const char *key) {
    double tokens = c->tokens, per_param = c->tokens_per_param;
    int64_t steps = c->steps;
    if (strcmp(key, "tokens") == 0 && tokens > 0) per_param = 0, steps = 0;
    if (strcmp(key, "tokens_per_param") == 0 && per_param > 0) tokens = 0, steps = 0;
    if (strcmp(key, "steps") == 0 && steps > 0) tokens = 0, per_param = 0;
    c->tokens = tokens;
    c->tokens_per_param = per_param;
    c->steps = steps;
}

enum fpl_code fpl_config_set(struct fpl_config *c, const char *key, const char *value,
                             struct fpl_error *err) {
    const struct fpl_option *o = fpl_option_find(key);
    if (o == NULL) return unknown_key(key, err);
    char *field = (char *)c + o->offset;
    int64_t i = 0;
    uint64_t u = 0;
    double x = 0;
    enum fpl_code code = FPL_OK;
    switch (o->type) {
    case FPL_OPT_TEXT:
        return set_text(o, field, value, err);
    case FPL_OPT_INT:
        code = fpl_integer_parse(value, &i, err);
        x = (double)i;
        break;
    case FPL_OPT_UINT:
        code = fpl_unsigned_parse(value, &u, err);
        x = (double)u;
        break;
    case FPL_OPT_REAL:
        code = fpl_number_parse(value, &x, err);
        break;
    }
    if (code != FPL_OK) return name_option(o, err);
    code = check_range(o, x, value, err);
    if (code != FPL_OK) return code;
    if (o->type == FPL_OPT_INT)
        memcpy(field, &i, sizeof i);
    else if (o->type == FPL_OPT_UINT)
        memcpy(field, &u, sizeof u);
    else {
        x += 0.0; /* no negative zero */
        memcpy(field, &x, sizeof x);
    }
    keep_one_amount(c, key);
    return FPL_OK;
}

void fpl_config_defaults(struct fpl_config *c) {
    memset(c, 0, sizeof *c);
    for (const struct fpl_option *o = fpl_options; o->key != NULL; o++)
        fpl_config_set(c, o->key, o->fallback, NULL);
}

int fpl_config_get(const struct fpl_config *c, const char *key, char *buf, size_t size) {
    const struct fpl_option *o = fpl_option_find(key);
    if (o == NULL) return -1;
    const char *field = (const char *)c + o->offset;
    if (o->type == FPL_OPT_TEXT) return snprintf(buf, size, "%s", field);
    if (o->type == FPL_OPT_INT) {
        int64_t i;
        memcpy(&i, field, sizeof i);
        return snprintf(buf, size, "%lld", (long long)i);
    }
    if (o->type == FPL_OPT_UINT) {
        uint64_t u;
        memcpy(&u, field, sizeof u);
        return snprintf(buf, size, "%llu", (unsigned long long)u);
    }
    double x;
    memcpy(&x, field, sizeof x);
    char text[FPL_NUMBER_TEXT];
    fpl_number_print(x, text);
    return snprintf(buf, size, "%s", text);
}

/* ---- what follows from a configuration ------------------------------------------------------ */

int64_t fpl_config_ffn(const struct fpl_config *c) {
    if (c->ffn > 0) return c->ffn;
    int64_t blocks = (c->width + 6) / 12; /* 8/3 C / 32, rounded to nearest */
    return blocks > 1 ? 32 * blocks : 32;
}

double fpl_config_init_std(const struct fpl_config *c) {
    return c->init_std > 0 ? c->init_std : 0.5 / sqrt((double)c->width);
}

int64_t fpl_config_micro(const struct fpl_config *c) {
    if (c->micro_tokens > 0) return c->micro_tokens;
    int64_t sequences = c->batch_tokens / c->seq, most = 2048 / c->seq;
    if (most > sequences) most = sequences;
    while (most > 1 && sequences % most != 0) most--;
    return (most < 1 ? 1 : most) * c->seq;
}

double fpl_config_params(const struct fpl_config *c) {
    double C = (double)c->width, F = (double)fpl_config_ffn(c);
    return (double)c->layers * (4 * C * C + 3 * C * F);
}

int64_t fpl_config_steps(const struct fpl_config *c) {
    if (c->steps > 0) return c->steps;
    double D = c->tokens > 0 ? c->tokens : c->tokens_per_param * fpl_config_params(c);
    double steps = floor(D / (double)c->batch_tokens + 0.5);
    return steps < 1 ? 1 : steps > 0x1p62 ? INT64_C(1) << 62 : (int64_t)steps;
}

double fpl_config_flop_per_token(const struct fpl_config *c, int64_t vocab) {
    double C = (double)c->width, T = (double)c->seq;
    return 6 * fpl_config_params(c) + 12 * (double)c->layers * T * C + 6 * (double)vocab * C;
}

/* ---- cross-option checks ---------------------------------------------------------------------- */

#define LL(x) ((long long)(x))

static enum fpl_code check_shape(const struct fpl_config *c, struct fpl_error *err) {
    if (c->width % c->heads != 0 || c->width / c->heads % 2 != 0)
        return fpl_fail(
            err, FPL_INVALID,
            "width %lld, heads %lld: width must be heads times an even head width (rotary positions)",
            LL(c->width), LL(c->heads));
    if (fpl_config_params(c) > 1e10)
        return fpl_fail(err, FPL_INVALID, "the model has %.3g parameters, at most 1e10 are accepted",
                        fpl_config_params(c));
    if (c->batch_tokens % c->seq != 0)
        return fpl_fail(err, FPL_INVALID, "batch_tokens %lld is not a multiple of seq %lld",
                        LL(c->batch_tokens), LL(c->seq));
    if (c->micro_tokens > 0 && (c->micro_tokens % c->seq != 0 || c->batch_tokens % c->micro_tokens != 0))
        return fpl_fail(err, FPL_INVALID,
                        "micro_tokens %lld must be a multiple of seq %lld and divide batch_tokens %lld",
                        LL(c->micro_tokens), LL(c->seq), LL(c->batch_tokens));
    return FPL_OK;
}

static enum fpl_code check_amount(const struct fpl_config *c, struct fpl_error *err) {
    int given = (c->tokens > 0) + (c->tokens_per_param > 0) + (c->steps > 0);
    if (given != 1)
        return fpl_fail(err, FPL_INVALID, "%s of tokens, tokens_per_param and steps must be above 0, %d are",
                        given == 0 ? "one" : "only one", given);
    int64_t steps = fpl_config_steps(c);
    if (steps > INT64_C(4294967295))
        return fpl_fail(err, FPL_INVALID, "the run has %lld steps, at most 4294967295 are accepted",
                        LL(steps));
    if ((double)steps * (double)c->batch_tokens > 2e15)
        return fpl_fail(err, FPL_INVALID, "the run has %.3g tokens, at most 1e15 are accepted",
                        (double)steps * (double)c->batch_tokens);
    return FPL_OK;
}

static enum fpl_code check_schedule(const struct fpl_config *c, struct fpl_error *err) {
    int constant = strcmp(c->schedule, "constant") == 0;
    if (!constant && c->lr_final > c->lr) {
        char lr[FPL_NUMBER_TEXT], final[FPL_NUMBER_TEXT];
        fpl_number_print(c->lr, lr);
        fpl_number_print(c->lr_final, final);
        return fpl_fail(err, FPL_INVALID, "lr_final %s is above the peak lr %s", final, lr);
    }
    if (strcmp(c->schedule, "wsd") == 0 && c->warmup + c->decay_share > 1)
        return fpl_fail(err, FPL_INVALID, "warmup and decay_share together are above 1");
    return FPL_OK;
}

/* A struct that was not filled by fpl_config_set may hold anything. */
static enum fpl_code check_ranges(const struct fpl_config *c, struct fpl_error *err) {
    for (const struct fpl_option *o = fpl_options; o->key != NULL; o++) {
        char text[FPL_RECIPE_TEXT + 512];
        if (o->type == FPL_OPT_TEXT) continue;
        fpl_config_get(c, o->key, text, sizeof text);
        double x;
        if (fpl_number_parse(text, &x, err) != FPL_OK) return name_option(o, err);
        enum fpl_code code = check_range(o, x, text, err);
        if (code != FPL_OK) return code;
    }
    return FPL_OK;
}

/* Groups of a Hadamard transform must fit the reduction axis of every product of their role. */
static enum fpl_code check_hadamard(const struct fpl_config *c, const struct fpl_recipe *r,
                                    struct fpl_error *err) {
    const struct {
        int role;
        const char *what;
        int64_t length;
    } axes[] = {{0, "width", c->width},
                {0, "ffn", fpl_config_ffn(c)},
                {1, "width", c->width},
                {1, "twice ffn", 2 * fpl_config_ffn(c)},
                {2, "tokens of a micro-batch", fpl_config_micro(c)}};
    for (size_t i = 0; i < sizeof axes / sizeof axes[0]; i++) {
        const int n = r->hadamard[axes[i].role];
        if (n != 0 && axes[i].length % n != 0)
            return fpl_fail(err, FPL_INVALID,
                            "%s.had=%d transforms groups of %d along %s, which is %lld; accepted: a multiple "
                            "of %d, or %s.had=0",
                            fpl_role_names[axes[i].role], n, n, axes[i].what, LL(axes[i].length), n,
                            fpl_role_names[axes[i].role]);
    }
    return FPL_OK;
}

static enum fpl_code check_recipe(const struct fpl_config *c, struct fpl_error *err) {
    struct fpl_recipe r;
    enum fpl_code code = fpl_recipe_parse(c->recipe, &r, err);
    if (code == FPL_OK) code = fpl_codebooks_known(c->recipe, err);
    if (code == FPL_OK) code = check_hadamard(c, &r, err);
    if (code == FPL_OK && fpl_recipe_exempt_count(&r, c->layers) >= c->layers)
        code = fpl_fail(err, FPL_INVALID,
                        "first and last exempt all of the %lld layers; accepted: fewer, or recipe=bf16",
                        LL(c->layers));
    return code == FPL_OK ? FPL_OK : fpl_fail_at(err, "recipe");
}

enum fpl_code fpl_config_check(const struct fpl_config *c, struct fpl_error *err) {
    enum fpl_code code = check_ranges(c, err);
    if (code == FPL_OK) code = check_shape(c, err);
    if (code == FPL_OK) code = check_amount(c, err);
    if (code == FPL_OK) code = check_schedule(c, err);
    return code == FPL_OK ? check_recipe(c, err) : code;
}

/* ---- identity --------------------------------------------------------------------------------- */

char *fpl_config_canonical(const struct fpl_config *c, const char *backend, const char *fingerprint) {
    struct fpl_config whole = *c;
    whole.ffn = fpl_config_ffn(c);
    whole.init_std = fpl_config_init_std(c);
    whole.micro_tokens = fpl_config_micro(c);
    whole.steps = fpl_config_steps(c);
    struct fpl_text t = {0};
    fpl_text_add(&t, "backend=%s\nnumerics=%d\n", backend, FPL_NUMERICS);
    for (const struct fpl_option *o = fpl_options; o->key != NULL; o++) {
        char value[sizeof whole.data > FPL_RECIPE_TEXT ? sizeof whole.data : FPL_RECIPE_TEXT];
        if (!o->identity) continue;
        fpl_config_get(&whole, o->key, value, sizeof value);
        fpl_text_add(&t, "%s=%s\n", o->key, strcmp(o->key, "data") == 0 ? fingerprint : value);
    }
    if (t.failed) fpl_text_free(&t);
    return t.text;
}

static enum fpl_code canonical_line(struct fpl_config *c, char *key, char *backend, int *numerics,
                                    struct fpl_error *err) {
    char *value = strchr(key, '=');
    if (value == NULL) return fpl_fail(err, FPL_INVALID, "'%.60s' is no key=value", key);
    *value++ = '\0';
    if (strcmp(key, "backend") == 0) {
        if (backend != NULL) snprintf(backend, 16, "%.15s", value);
        return FPL_OK;
    }
    if (strcmp(key, "numerics") == 0) {
        int64_t n;
        if (fpl_integer_parse(value, &n, err) != FPL_OK) return fpl_fail_at(err, "numerics");
        if (numerics != NULL) *numerics = (int)n;
        return FPL_OK;
    }
    return fpl_config_set(c, key, value, err);
}

enum fpl_code fpl_config_from_canonical(const char *canonical, struct fpl_config *c, char *backend,
                                        int *numerics, struct fpl_error *err) {
    char *copy = strdup(canonical), *rest = NULL;
    if (copy == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory");
    fpl_config_defaults(c);
    enum fpl_code code = FPL_OK;
    for (char *line = strtok_r(copy, "\n", &rest); line != NULL && code == FPL_OK;
         line = strtok_r(NULL, "\n", &rest))
        code = canonical_line(c, line, backend, numerics, err);
    free(copy);
    return code == FPL_OK ? FPL_OK : fpl_fail_at(err, "stored configuration");
}

void fpl_config_id(const char *canonical, char id[17]) {
    char hex[33];
    fpl_hash_text(canonical, strlen(canonical), hex);
    memcpy(id, hex, 16);
    id[16] = '\0';
}
