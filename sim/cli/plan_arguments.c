/* plan_arguments.c - budgets, limits and formats of `fplaw plan` from their texts (plan.h).
 *
 *   --flops X[,X...]    or   --hours H[,H...] --hardware-flops F      X = 3600 H F
 *   --speed FORMAT[/BLOCK]=S,...     a format without a block takes every one of --block
 *   --block 32,128,channel           default: 128, or what is nearest to it in the fitted range
 *
 * The unquantized reference is always a candidate; without --speed and --format so are e4m3 and e2m1,
 * at speed 1, if the fit knows formats.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/number.h"
#include "plan.h"

#define CHANNEL_LOG2_BLOCK 13.1567 /* arXiv 2501.02423 */
#define DEFAULT_BLOCK 128.0
#define BLOCKS 16

/* The i-th piece of a comma-separated list; 0 past the last. */
static int piece(const char *list, size_t i, char *out, size_t size) {
    const char *at = list;
    for (; i > 0; i--) {
        at = strchr(at, ',');
        if (at == NULL) return 0;
        at++;
    }
    snprintf(out, size, "%.*s", (int)strcspn(at, ","), at);
    return 1;
}

static enum fpl_code number(const char *option, const char *text, double least, double *out,
                            struct fpl_error *err) {
    if (fpl_number_parse(text, out, err) != FPL_OK) return fpl_fail_at(err, "plan: --%s", option);
    if (*out >= least && *out > 0.0) return FPL_OK;
    return fpl_fail(err, FPL_INVALID, "plan: --%s: found %.40s, accepted is a number %s %g", option, text,
                    least > 0.0 ? "from" : "above", least);
}

/* ---- budgets ------------------------------------------------------------------------------------- */

static enum fpl_code take_budgets(struct plan_asked *a, struct fpl_error *err) {
    const char *list = a->flops != NULL ? a->flops : a->hours;
    const char *option = a->flops != NULL ? "flops" : "hours";
    double scale = 1.0;
    char text[48];
    enum fpl_code code = FPL_OK;
    if (a->flops == NULL && a->hours == NULL && a->next != NULL) return FPL_OK;
    if ((a->flops != NULL) == (a->hours != NULL))
        return fpl_fail(err, FPL_INVALID,
                        "plan: a budget is expected, as --flops X or as --hours H --hardware-flops F (per "
                        "second at speed 1); %s",
                        a->flops != NULL ? "both are given" : "none is given");
    if ((a->hours != NULL) != (a->hardware != NULL))
        return fpl_fail(err, FPL_INVALID, "plan: --hours and --hardware-flops belong together");
    if (a->hours != NULL) code = number("hardware-flops", a->hardware, 0.0, &scale, err);
    if (a->hours != NULL) scale *= 3600.0;
    for (size_t i = 0; code == FPL_OK && piece(list, i, text, sizeof text); i++) {
        if (a->budgets == PLAN_BUDGETS)
            return fpl_fail(err, FPL_INVALID, "plan: at most %d budgets are expected", PLAN_BUDGETS);
        code = number(option, text, 0.0, &a->budget[a->budgets], err);
        a->budget[a->budgets++] *= scale;
    }
    if (code != FPL_OK || !a->table || a->budgets > 1) return code;
    const double middle = a->budget[0];
    for (int i = -4; i <= 4; i++) a->budget[i + 4] = middle * pow(10.0, 0.5 * i);
    a->budgets = 9;
    return FPL_OK;
}

enum fpl_code plan_numbers(struct plan_asked *a, struct fpl_error *err) {
    a->limits = FPL_PLAN_NO_LIMITS;
    struct fpl_plan_limits *l = &a->limits;
    const struct {
        const char *option, *text;
        double *out, least;
    } rows[] = {{"N", a->n, &l->N, 1.0},
                {"max-D", a->max_d, &l->max_D, 1.0},
                {"batch-min", a->batch_min, &l->batch_min, 0.0},
                {"batch-max", a->batch_max, &l->batch_max, 0.0},
                {"memory", a->memory, &l->memory, 0.0},
                {"inference-tokens", a->inference, &l->inference_tokens, 0.0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const enum fpl_code code = rows[i].text != NULL
                                       ? number(rows[i].option, rows[i].text, rows[i].least, rows[i].out, err)
                                       : FPL_OK;
        if (code != FPL_OK) return code;
    }
    if (a->state_bytes != NULL && (fpl_number_parse(a->state_bytes, &l->state_bytes, NULL) != FPL_OK ||
                                   !(l->state_bytes >= 0.0 && l->state_bytes <= 1e6)))
        return fpl_fail(err, FPL_INVALID, "plan: --state-bytes: found %.40s, accepted is 0 to 1e6",
                        a->state_bytes);
    if (l->batch_max > 0.0 && l->batch_min > l->batch_max)
        return fpl_fail(err, FPL_INVALID, "plan: --batch-min %g is above --batch-max %g", l->batch_min,
                        l->batch_max);
    return take_budgets(a, err);
}

/* ---- formats ------------------------------------------------------------------------------------- */

static enum fpl_code block_of(const char *text, double *out, struct fpl_error *err) {
    if (strcmp(text, "channel") == 0) {
        *out = exp2(CHANNEL_LOG2_BLOCK);
        return FPL_OK;
    }
    if (fpl_number_parse(text, out, NULL) == FPL_OK && *out >= 1.0 && *out <= 1e12) return FPL_OK;
    return fpl_fail(err, FPL_INVALID,
                    "plan: block: found '%.40s', accepted is a number of elements from 1 or channel", text);
}

static enum fpl_code take_blocks(struct plan_asked *a, const struct fpl_fit *fit, double *block,
                                 size_t *count, struct fpl_error *err) {
    struct fpl_fit_summary s;
    char text[48];
    *count = 0;
    fpl_fit_summarize(fit, &s);
    if (a->block == NULL) {
        const double *range = s.range[FPL_VAR_BLOCK];
        block[0] = range[0] > 0.0 ? fmin(fmax(DEFAULT_BLOCK, range[0]), range[1]) : DEFAULT_BLOCK;
        *count = 1;
        a->block_assumed = fpl_law_takes(fpl_fit_law(fit), FPL_VAR_BLOCK);
        return FPL_OK;
    }
    for (size_t i = 0; piece(a->block, i, text, sizeof text); i++) {
        if (*count == BLOCKS)
            return fpl_fail(err, FPL_INVALID, "plan: at most %d blocks are expected", BLOCKS);
        const enum fpl_code code = block_of(text, &block[*count], err);
        if (code != FPL_OK) return code;
        ++*count;
    }
    return FPL_OK;
}

static enum fpl_code add(struct plan_asked *a, const char *name, double block, double speed,
                         struct fpl_error *err) {
    struct fpl_plan_format f;
    if (fpl_plan_format_parse(name, block, speed, &f, err) != FPL_OK) return fpl_fail_at(err, "plan");
    for (size_t i = 0; i < a->format_count; i++) {
        const struct fpl_plan_format *other = &a->formats[i];
        const int same_block = other->block == f.block || isnan(f.block);
        if (strcmp(other->name, f.name) == 0 && same_block)
            return fpl_fail(err, FPL_INVALID, "plan: format %s is given twice", name);
    }
    if (a->format_count == PLAN_FORMATS)
        return fpl_fail(err, FPL_INVALID, "plan: at most %d formats and blocks are expected", PLAN_FORMATS);
    a->formats[a->format_count++] = f;
    return FPL_OK;
}

/* One entry of --speed or --format. */
static enum fpl_code add_entry(struct plan_asked *a, const char *text, const double *block, size_t blocks,
                               struct fpl_error *err) {
    char name[48];
    double speed = 1.0, own = 0.0;
    const char *equal = strchr(text, '=');
    snprintf(name, sizeof name, "%.*s", (int)strcspn(text, "="), text);
    if (equal != NULL && fpl_number_parse(equal + 1, &speed, err) != FPL_OK)
        return fpl_fail_at(err, "plan: --speed %s", text);
    char *slash = strchr(name, '/');
    if (slash != NULL) {
        *slash = '\0';
        const enum fpl_code code = block_of(slash + 1, &own, err);
        if (code != FPL_OK) return code;
        return add(a, name, own, speed, err);
    }
    const int plain = strcmp(name, "fp32") == 0 || strcmp(name, "bf16") == 0;
    for (size_t i = 0; i < (plain ? 1 : blocks); i++) {
        const enum fpl_code code = add(a, name, block[i], speed, err);
        if (code != FPL_OK) return code;
    }
    return FPL_OK;
}

static enum fpl_code add_list(struct plan_asked *a, const char *list, int speeds, const double *block,
                              size_t blocks, struct fpl_error *err) {
    char text[80];
    for (size_t i = 0; list != NULL && piece(list, i, text, sizeof text); i++) {
        if ((strchr(text, '=') != NULL) != speeds)
            return fpl_fail(err, FPL_INVALID, "plan: %s '%.60s': %s is expected",
                            speeds ? "--speed" : "--format", text,
                            speeds ? "FORMAT=SPEED, such as e4m3=2" : "a format without a speed");
        const enum fpl_code code = add_entry(a, text, block, blocks, err);
        if (code != FPL_OK) return code;
    }
    return FPL_OK;
}

enum fpl_code plan_formats(struct plan_asked *a, const struct fpl_fit *fit, struct fpl_error *err) {
    double block[BLOCKS];
    size_t blocks;
    enum fpl_code code = take_blocks(a, fit, block, &blocks, err);
    if (code != FPL_OK) return code;
    a->block_first = block[0];
    for (size_t i = 0; i < blocks && !fpl_law_takes(fpl_fit_law(fit), FPL_VAR_BLOCK); i++)
        block[i] = (double)NAN;
    if (isnan(block[0])) blocks = 1;
    code = add_list(a, a->speed, 1, block, blocks, err);
    if (code == FPL_OK) code = add_list(a, a->format, 0, block, blocks, err);
    if (code == FPL_OK && a->speed == NULL && a->format == NULL && fpl_fit_knows_formats(fit))
        code = add_list(a, "e4m3,e2m1", 0, block, blocks, err);
    int plain = 0;
    for (size_t i = 0; i < a->format_count; i++) plain |= isnan(a->formats[i].E);
    if (code == FPL_OK && !plain) code = add(a, "bf16", (double)NAN, 1.0, err);
    return code;
}
