/* proposal.c - the runs that --next chooses from, and the study file of those it chose.
 *
 *   width          16 to 4096 in steps of about a half, that give N within the fitted range and `extend`
 *                  octaves around it (layers and all else from the settings)
 *   tokens         the fitted range of D in octaves, and as far around it
 *   format         those given, in recipes that compute as the fit's own (like.c), and the unquantized run
 *   lr, batch      where the law has optima: there, and 1.5 octaves to each side of both
 *
 * A run costs (6 N + 12 L T C + 6 V C) FLOP per token, the shape being known here.  Batches are
 * whole sequences with at most five significant bits and rates six digits, as a study rounds
 * them (study/study.h), so that the point a gain was computed at is the point that is trained.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/config.h"
#include "../base/number.h"
#include "internal.h"
#include "proposal.h"

#define LEXICON_VOCABULARY 32
#define BYTES_VOCABULARY 256
#define MOST_CANDIDATES 20000

static const int64_t widths[] = {16,  32,  48,  64,   96,   128,  192,  256,
                                 384, 512, 768, 1024, 1536, 2048, 3072, 4096};
static const double offsets[] = {0.0, -1.5, 1.5};

struct list {
    const struct fpl_fit *fit;
    const struct fpl_next_options *options;
    struct fpl_fit_vector own;
    struct fpl_fit_summary summary;
    struct fpl_config config;
    int64_t vocabulary;
    struct fpl_proposal *item;
    size_t count, room;
};

static enum fpl_code settle_config(struct list *l, struct fpl_error *err) {
    const struct fpl_next_options *o = l->options;
    fpl_config_defaults(&l->config);
    for (size_t i = 0; i < o->settings; i++) {
        char key[64];
        const char *equal = strchr(o->setting[i], '=');
        if (equal == NULL || equal - o->setting[i] > 60)
            return fpl_fail(err, FPL_INVALID, "--set '%.60s': KEY=VALUE is expected", o->setting[i]);
        snprintf(key, sizeof key, "%.*s", (int)(equal - o->setting[i]), o->setting[i]);
        static const char *const own[] = {"tokens",       "tokens_per_param", "steps", "lr",
                                          "batch_tokens", "recipe",           "seed"};
        for (size_t k = 0; k < sizeof own / sizeof own[0]; k++)
            if (strcmp(key, own[k]) == 0)
                return fpl_fail(err, FPL_INVALID, "--set %s: that is what --next chooses", key);
        if (fpl_config_set(&l->config, key, equal + 1, err) != FPL_OK) return fpl_fail_at(err, "--set");
    }
    l->vocabulary = strncmp(l->config.data, "lexicon", 7) == 0 ? LEXICON_VOCABULARY : BYTES_VOCABULARY;
    return FPL_OK;
}

static int sets(const struct fpl_next_options *o, const char *key) {
    for (size_t i = 0; i < o->settings; i++)
        if (strncmp(o->setting[i], key, strlen(key)) == 0 && o->setting[i][strlen(key)] == '=') return 1;
    return 0;
}

/* Sequences nearest to x in the logarithm with at most five significant bits. */
static int64_t whole_batch(double x, int64_t seq) {
    double count = fmax(1.0, x / (double)seq), unit = 1.0;
    while (count / unit >= 32.0) unit *= 2.0;
    return (int64_t)fmax(1.0, floor(count / unit + 0.5) * unit) * seq;
}

static double six_digits(double x) {
    char text[32];
    double out = x;
    snprintf(text, sizeof text, "%.6g", x);
    return fpl_number_parse(text, &out, NULL) == FPL_OK ? out : x;
}

static enum fpl_code append(struct list *l, const struct fpl_proposal *p, struct fpl_error *err) {
    if (l->count == l->room) {
        const size_t room = l->room > 0 ? 2 * l->room : 256;
        struct fpl_proposal *grown = realloc(l->item, room * sizeof *grown);
        if (grown == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory");
        l->item = grown;
        l->room = room;
    }
    l->item[l->count++] = *p;
    return FPL_OK;
}

static double clamp_batch(const struct fpl_plan_limits *limits, double x) {
    if (limits->batch_min > 0.0) x = fmax(x, limits->batch_min);
    return limits->batch_max > 0.0 ? fmin(x, limits->batch_max) : x;
}

/* One candidate; what the configuration or the limits refuse is left out. */
static enum fpl_code consider(struct list *l, struct fpl_proposal p, double lr_octaves, double batch_octaves,
                              struct fpl_error *err) {
    const struct fpl_plan_limits *limits = &l->options->limits;
    const double lr = fpl_vector_lr(&l->own, &p.at), batch = fpl_vector_batch(&l->own, &p.at);
    struct fpl_config c = l->config;
    if (!isnan(batch)) {
        p.batch_tokens = whole_batch(clamp_batch(limits, batch * exp2(batch_octaves)), c.seq);
        p.at.batch_tokens = (double)p.batch_tokens;
    } else {
        p.batch_tokens = c.batch_tokens;
    }
    p.lr = isnan(lr) ? (double)NAN : six_digits(lr * exp2(lr_octaves));
    p.at.lr = p.lr;
    c.width = p.width;
    c.batch_tokens = p.batch_tokens;
    c.tokens = p.tokens, c.steps = 0, c.tokens_per_param = 0.0;
    if (!isnan(p.lr)) c.lr = p.lr;
    snprintf(c.recipe, sizeof c.recipe, "%s", p.recipe);
    if (fpl_config_check(&c, NULL) != FPL_OK) return FPL_OK;
    const double D = (double)fpl_config_steps(&c) * (double)c.batch_tokens;
    p.at.D = D;
    p.flop = fpl_config_flop_per_token(&c, l->vocabulary) * D;
    if (l->options->max_flop > 0.0 && p.flop > l->options->max_flop) return FPL_OK;
    if (limits->max_D > 0.0 && D > limits->max_D) return FPL_OK;
    if (fpl_plan_memory(&p.format, limits, p.at.N) > limits->memory && limits->memory > 0.0) return FPL_OK;
    if (l->count >= MOST_CANDIDATES) return FPL_OK;
    return append(l, &p, err);
}

static enum fpl_code around_optimum(struct list *l, const struct fpl_proposal *p, struct fpl_error *err) {
    const int lr = !isnan(fpl_vector_lr(&l->own, &p->at)), batch = !isnan(fpl_vector_batch(&l->own, &p->at));
    enum fpl_code code = FPL_OK;
    for (int i = 0; i < (lr ? 3 : 1); i++)
        for (int j = 0; code == FPL_OK && j < (batch ? 3 : 1); j++)
            code = consider(l, *p, offsets[i], offsets[j], err);
    return code;
}

static enum fpl_code of_width(struct list *l, int64_t width, struct fpl_error *err) {
    const struct fpl_next_options *o = l->options;
    struct fpl_config c = l->config;
    enum fpl_code code = FPL_OK;
    const double stretch = exp2(o->extend);
    c.width = width;
    const double N = fpl_config_params(&c);
    const double *n = l->summary.N, *d = l->summary.D;
    if (!(N >= n[0] / stretch && N <= n[1] * stretch)) return FPL_OK;
    for (double D = d[0] / stretch; D <= d[1] * stretch * 1.0001; D *= 2.0)
        for (size_t f = 0; code == FPL_OK && f < o->format_count; f++) {
            struct fpl_proposal p = {.width = width, .layers = c.layers, .format = o->formats[f]};
            p.tokens = floor(D + 0.5);
            p.at = (struct fpl_point_at){N,          p.tokens,   (double)NAN,   (double)NAN,
                                         p.format.E, p.format.M, p.format.block};
            if (fpl_recipe_like(l->fit, &p.format, p.recipe, sizeof p.recipe))
                code = around_optimum(l, &p, err);
        }
    return code;
}

enum fpl_code fpl_proposals_make(const struct fpl_fit *fit, const struct fpl_next_options *options,
                                 struct fpl_proposal **out, size_t *count, struct fpl_error *err) {
    struct list l = {.fit = fit, .options = options};
    enum fpl_code code = settle_config(&l, err);
    fpl_fit_vector_at(fit, -1, &l.own);
    fpl_fit_summarize(fit, &l.summary);
    if (code == FPL_OK && sets(options, "width")) {
        code = of_width(&l, l.config.width, err);
    } else {
        for (size_t i = 0; code == FPL_OK && i < sizeof widths / sizeof widths[0]; i++)
            code = of_width(&l, widths[i], err);
    }
    if (code == FPL_OK && l.count == 0)
        code = fpl_fail(err, FPL_INVALID,
                        "no run is left to propose: sizes N %.3g to %.3g and D %.3g to %.3g, stretched by %g "
                        "octaves, of widths 16 to 4096 with %lld layers, under --max-flops and the limits",
                        l.summary.N[0], l.summary.N[1], l.summary.D[0], l.summary.D[1], options->extend,
                        (long long)l.config.layers);
    if (code != FPL_OK) {
        free(l.item);
        l.item = NULL;
        l.count = 0;
    }
    *out = l.item;
    *count = l.count;
    return code;
}

/* ---- the study file ------------------------------------------------------------------------------ */

static void write_run(FILE *f, const struct fpl_proposal *p, uint64_t seed) {
    char tokens[FPL_NUMBER_TEXT], lr[FPL_NUMBER_TEXT];
    fpl_number_print(p->tokens, tokens);
    fprintf(f, "  - {width: %lld, tokens: %s, batch_tokens: %lld, recipe: \"%s\", ", (long long)p->width,
            tokens, (long long)p->batch_tokens, p->recipe);
    if (!isnan(p->lr)) {
        fpl_number_print(p->lr, lr);
        fprintf(f, "lr: %s, ", lr);
    }
    fprintf(f, "seeds: [%llu]}  # %.3g FLOP, sd falls by %.1f %%\n", (unsigned long long)seed, p->flop,
            100.0 * p->gain);
}

char *fpl_next_yaml(const struct fpl_next *next, const struct fpl_next_options *options, const char *decision,
                    const char *source) {
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (f == NULL) return NULL;
    fprintf(f,
            "# Written by `fplaw plan --next %zu --decide %s` from %s.\n"
            "# The decision's standard error should fall from %.3g to %.3g (of its logarithm),\n"
            "# at %.3g of ln loss noise a run, by the fit's own linear account.\n",
            next->runs, decision, source, next->sd_before, next->sd_after, next->noise);
    if (next->runs > 0 && isnan(next->run[0].lr))
        fprintf(f, "# The law tells no learning rate: runs take that of the options.\n");
    fprintf(f, "name: next\n");
    int written = 0;
    for (size_t i = 0; i < options->settings; i++) {
        const char *text_of = options->setting[i], *equal = strchr(text_of, '=');
        if (strncmp(text_of, "width=", 6) == 0) continue; /* each run has its own */
        fprintf(f, "%s%.*s: \"%s\"", written++ == 0 ? "options: {" : ", ", (int)(equal - text_of), text_of,
                equal + 1);
    }
    if (written > 0) fprintf(f, "}\n");
    fprintf(f, "order: file\nlist:\n");
    for (size_t i = 0; i < next->runs; i++)
        write_run(f, &next->run[i], options->seed + (uint64_t)next->run[i].repeats);
    if (fclose(f) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
