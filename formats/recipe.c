/* recipe.c - which quantizer each of the six operands of a linear layer gets.
 *
 * A preset is a row of the registry: a name, the words that help shows, and a function that
 * fills the slots from the text after the colon.  Fixed presets (mxfp8, fp8) give instead one
 * quantizer for forward operands and weights and one for the output gradient.
 *
 * Canonical text: a preset keeps its preset form with canonical arguments, because that is
 * how a person names the experiment; `ops:` names only slots that are not "-", in the order
 * of enum fpl_slot.  Parsing a canonical text gives the same struct.
 */
#include "recipe.h"
#include "recipe_options.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

const char *const fpl_slot_names[FPL_SLOTS + 1] = {"fwd.x",    "fwd.w",   "dgrad.dy", "dgrad.w",
                                                   "wgrad.dy", "wgrad.x", NULL};

/* ---- filling slots ------------------------------------------------------------------------ */

/* n characters of text, which fit. */
static void lower_case(const char *text, size_t n, char *out) {
    for (size_t i = 0; i < n; i++) out[i] = (char)tolower((unsigned char)text[i]);
    out[n] = '\0';
}

static enum fpl_code too_long(struct fpl_error *err) {
    return fpl_fail(err, FPL_INVALID, "the canonical text is too long; accepted: at most %d characters",
                    FPL_RECIPE_TEXT - 1);
}

static void fill_all(struct fpl_recipe *r, const struct fpl_quantizer *q) {
    for (int s = 0; s < FPL_SLOTS; s++) r->slot[s] = *q;
}

/* Quantizer texts of this file are correct by the tests, which walk every preset. */
static enum fpl_code fill_fixed(struct fpl_recipe *r, const struct fpl_recipe_preset *f,
                                struct fpl_error *err) {
    struct fpl_quantizer x, w, dy;
    enum fpl_code code = fpl_quantizer_parse(f->values, &x, err);
    if (code == FPL_OK) code = fpl_quantizer_parse(f->weights != NULL ? f->weights : f->values, &w, err);
    if (code == FPL_OK) code = fpl_quantizer_parse(f->gradients, &dy, err);
    if (code != FPL_OK) return code;
    r->slot[FPL_FWD_X] = r->slot[FPL_WGRAD_X] = x;
    r->slot[FPL_FWD_W] = r->slot[FPL_DGRAD_W] = w;
    r->slot[FPL_DGRAD_DY] = r->slot[FPL_WGRAD_DY] = dy;
    snprintf(r->text, sizeof r->text, "%s", f->name);
    return FPL_OK;
}

/* A canonical text: a preset's name, ':', its quantizer. */
static enum fpl_code name_quantized(struct fpl_recipe *r, const char *name, const struct fpl_quantizer *q,
                                    struct fpl_error *err) {
    char canonical[FPL_QUANTIZER_TEXT];
    fpl_quantizer_print(q, canonical, sizeof canonical);
    const int n = snprintf(r->text, sizeof r->text, "%s:%s", name, canonical);
    return n >= 0 && (size_t)n < sizeof r->text ? FPL_OK : too_long(err);
}

static enum fpl_code fill_full(struct fpl_recipe *r, const char *text, struct fpl_error *err) {
    struct fpl_quantizer q;
    const enum fpl_code code = fpl_quantizer_parse(text, &q, err);
    if (code != FPL_OK) return code;
    fill_all(r, &q);
    return name_quantized(r, "full", &q, err);
}

static enum fpl_code fill_qat(struct fpl_recipe *r, const char *text, struct fpl_error *err) {
    struct fpl_quantizer q;
    const enum fpl_code code = fpl_quantizer_parse(text, &q, err);
    if (code != FPL_OK) return code;
    r->slot[FPL_FWD_X] = r->slot[FPL_FWD_W] = q;
    return name_quantized(r, "qat", &q, err);
}

/* format [ "/" ( digits | "row" | "tensor" ) ], default row: one scale per channel. */
static enum fpl_code fill_capybara(struct fpl_recipe *r, const char *text, struct fpl_error *err) {
    struct fpl_format format;
    char lower[FPL_RECIPE_TEXT], name[FPL_QUANTIZER_TEXT], quantizer[2 * FPL_QUANTIZER_TEXT];
    const size_t n = strcspn(text, "/");
    lower_case(text, strlen(text), lower);
    text = lower;
    const char *granularity = text[n] == '/' ? text + n + 1 : "row";
    if (n >= sizeof name)
        return fpl_fail(err, FPL_INVALID, "format of %zu characters; accepted: a finite format, as e4m3", n);
    memcpy(name, text, n);
    name[n] = '\0';
    const enum fpl_code code = fpl_format_parse(name, &format, err);
    if (code != FPL_OK) return code;
    if (format.policy != FPL_FINITE || !format.is_signed)
        return fpl_fail(
            err, FPL_INVALID,
            "format \"%s\" reserves codes or has no sign; accepted: a signed finite format, as e4m3 "
            "(largest 480), e2m1, int8",
            name);
    const int digits = isdigit((unsigned char)granularity[0]);
    if ((!digits && strcmp(granularity, "row") != 0 && strcmp(granularity, "tensor") != 0) ||
        granularity[strspn(granularity, "0123456789")] != (digits ? '\0' : granularity[0]) ||
        strlen(granularity) > 16)
        return fpl_fail(err, FPL_INVALID,
                        "found granularity \"%.40s\", expected a block length as in e4m3/32, row or tensor",
                        granularity);
    fpl_format_print(&format, name, sizeof name);
    snprintf(quantizer, sizeof quantizer, "%s:rna/%s%s:mul", name, digits ? "1x" : "", granularity);
    struct fpl_quantizer q;
    if (fpl_quantizer_parse(quantizer, &q, err) != FPL_OK)
        return fpl_fail(err, FPL_INVALID, "found block length \"%s\", expected 1 to 2147483647", granularity);

    r->slot[FPL_FWD_W] = r->slot[FPL_DGRAD_W] = r->slot[FPL_WGRAD_X] = q;
    r->has_post = 1;
    (void)fpl_format_parse("bf16", &r->post, NULL);
    snprintf(r->text, sizeof r->text, "capybara:%s%s%s", name, strcmp(granularity, "row") == 0 ? "" : "/",
             strcmp(granularity, "row") == 0 ? "" : granularity);
    return FPL_OK;
}

static int find_slot(const char *name, size_t n) {
    for (int s = 0; s < FPL_SLOTS; s++)
        if (strlen(fpl_slot_names[s]) == n && memcmp(fpl_slot_names[s], name, n) == 0) return s;
    return -1;
}

/* Text of `ops:` from the slots; ";post=" applies to all six, named or not. */
static enum fpl_code print_ops(struct fpl_recipe *r, struct fpl_error *err) {
    size_t used = (size_t)snprintf(r->text, sizeof r->text, "ops:");
    for (int s = 0, named = 0; s < FPL_SLOTS; s++) {
        char q[FPL_QUANTIZER_TEXT];
        /* A recipe of nothing but "-" still names one slot, as the grammar wants. */
        if (r->slot[s].identity && (named || s + 1 < FPL_SLOTS)) continue;
        fpl_quantizer_print(&r->slot[s], q, sizeof q);
        used += (size_t)snprintf(r->text + used, sizeof r->text - used, "%s%s=%s", named ? ";" : "",
                                 fpl_slot_names[s], q);
        named = 1;
        if (used >= sizeof r->text) return too_long(err);
    }
    if (!r->has_post) return FPL_OK;
    char post[48];
    fpl_format_print(&r->post, post, sizeof post);
    used += (size_t)snprintf(r->text + used, sizeof r->text - used, ";post=%s", post);
    return used < sizeof r->text ? FPL_OK : too_long(err);
}

/* One "slot=quantizer" or, last, "post=format"; seen has a bit per slot, then one for post. */
static enum fpl_code fill_operand(struct fpl_recipe *r, const char *item, unsigned *seen,
                                  struct fpl_error *err) {
    const size_t n = strcspn(item, "=");
    if (item[n] != '=')
        return fpl_fail(err, FPL_INVALID, "found \"%.60s\", expected slot=quantizer, as in fwd.w=e2m1/row",
                        item);
    const int is_post = n == 4 && memcmp(item, "post", 4) == 0;
    const int slot = is_post ? FPL_SLOTS : find_slot(item, n);
    if (slot < 0)
        return fpl_fail(
            err, FPL_INVALID,
            "unknown operand \"%.*s\"; accepted: fwd.x, fwd.w, dgrad.dy, dgrad.w, wgrad.dy, wgrad.x, "
            "and post after them",
            (int)(n > 60 ? 60 : n), item);
    if (*seen >> slot & 1u)
        return fpl_fail(err, FPL_INVALID, "operand \"%.*s\" is named twice; accepted: once", (int)n, item);
    if (*seen >> FPL_SLOTS & 1u)
        return fpl_fail(err, FPL_INVALID, "operand \"%.*s\" after post; accepted: post last", (int)n, item);
    if (is_post && *seen == 0)
        return fpl_fail(err, FPL_INVALID,
                        "post before any operand; accepted: at least one operand, then post");
    *seen |= 1u << slot;
    if (!is_post) return fpl_quantizer_parse(item + n + 1, &r->slot[slot], err);
    r->has_post = 1;
    return fpl_format_parse(item + n + 1, &r->post, err);
}

static enum fpl_code fill_ops(struct fpl_recipe *r, const char *text, struct fpl_error *err) {
    unsigned seen = 0;
    for (const char *p = text;;) {
        char item[FPL_QUANTIZER_TEXT + 32], word[sizeof item];
        const size_t n = strcspn(p, ";");
        if (n >= sizeof item)
            return fpl_fail(err, FPL_INVALID, "operand of %zu characters; accepted: at most %zu", n,
                            sizeof item - 1);
        memcpy(item, p, n);
        item[n] = '\0';
        lower_case(item, strcspn(item, "="), word);
        memcpy(item, word, strlen(word));
        const enum fpl_code code = fill_operand(r, item, &seen, err);
        if (code != FPL_OK) return code;
        if (p[n] == '\0') break;
        p += n + 1;
    }
    return print_ops(r, err);
}

/* ---- presets ------------------------------------------------------------------------------------ */

#define MX8 "e4m3fn/1x32:rceil"
#define NV4 "e2m1/1x16:e4m3fn+t"

const struct fpl_recipe_preset fpl_recipe_presets[] = {
    {"fp32", "fp32", "nothing is quantized", "IEEE 754-2019", NULL, "-", NULL, "-", NULL},
    {"bf16", "bf16", "every operand of every linear layer is rounded to bf16", "Google Brain", NULL, "bf16",
     NULL, "bf16", NULL},
    {"capybara", "capybara:e2m1/32",
     "w forward, w dgrad and x wgrad in a finite format, absmax, ties away; 1xB, row or tensor; then bf16",
     "arXiv 2501.02423", fill_capybara, NULL, NULL, NULL, NULL},
    {"full", "full:e2m1/1x32:e8m0", "all six operands", "", fill_full, NULL, NULL, NULL, NULL},
    {"qat", "qat:e2m1/1x32:e8m0", "forward x and w only", "arXiv 2505.14302", fill_qat, NULL, NULL, NULL,
     NULL},
    {"fp8", "fp8", "e4m3fn (largest 448) forward and for w, e5m2ieee for dy, one absmax scale per tensor",
     "OCP OFP8 1.0", NULL, "e4m3fn/tensor", NULL, "e5m2ieee/tensor", NULL},
    {"mxfp8", "mxfp8", "all six operands e4m3fn (largest 448), blocks of 32, e8m0 scales rounded up",
     "OCP MX 1.0, arXiv 2506.08027", NULL, MX8, NULL, MX8, NULL},
    {"mxfp6_e3m2", "mxfp6_e3m2", "all six operands e3m2, blocks of 32, e8m0 scales", "OCP MX 1.0", NULL,
     "e3m2/1x32:e8m0", NULL, "e3m2/1x32:e8m0", NULL},
    {"mxfp6_e2m3", "mxfp6_e2m3", "all six operands e2m3, blocks of 32, e8m0 scales", "OCP MX 1.0", NULL,
     "e2m3/1x32:e8m0", NULL, "e2m3/1x32:e8m0", NULL},
    {"mxfp4", "mxfp4", "all six operands e2m1, blocks of 32, e8m0 scales", "OCP MX 1.0", NULL,
     "e2m1/1x32:e8m0", NULL, "e2m1/1x32:e8m0", NULL},
    {"nvfp4", "nvfp4",
     "e2m1 in blocks of 16 (w 16x16), two-level scales, sr on dy, Hadamard of 16 in wgrad, last 15% bf16",
     "arXiv 2509.25149", NULL, NV4, "e2m1/16x16:e4m3fn+t", "e2m1:sr/1x16:e4m3fn+t", "wgrad.had=16;last=15%"},
    {"deepseek_v3", "deepseek_v3",
     "e4m3fn (largest 448) in blocks of 128 (w 128x128), fp32 scales, 13-bit aligned accumulator",
     "arXiv 2412.19437", NULL, "e4m3fn/1x128", "e4m3fn/128x128", "e4m3fn/1x128", "acc=align:32,13/128"},
    {"ops", "ops:fwd.w=e2m1/row;wgrad.dy=e5m2ieee:sr/tensor", "each operand by name, others high precision",
     "", fill_ops, NULL, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL},
};

#define PRESETS (sizeof fpl_recipe_presets / sizeof fpl_recipe_presets[0] - 1)

static enum fpl_code unknown_preset(const char *name, struct fpl_error *err) {
    const char *names[PRESETS + 1];
    char list[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < PRESETS; i++) {
        names[i] = fpl_recipe_presets[i].name;
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s%s", i ? ", " : "",
                                 fpl_recipe_presets[i].name, fpl_recipe_presets[i].fill ? ":..." : "");
    }
    names[PRESETS] = NULL;
    const char *near = fpl_nearest_word(name, names);
    return fpl_fail(err, FPL_INVALID, "recipe \"%.80s\" is unknown%s%s%s; accepted: %s", name,
                    near ? " (did you mean " : "", near ? near : "", near ? "?)" : "", list);
}

/* Length of the base: up to the first ';', of `ops:` up to the first item that is an option. */
static size_t base_length(const char *text, int operands) {
    size_t n = strcspn(text, ";");
    while (operands && text[n] == ';') {
        const char *item = text + n + 1;
        if (fpl_recipe_is_option(item, strcspn(item, "=;"))) break;
        n += 1 + strcspn(item, ";");
    }
    return n;
}

/* Slots and own options of preset f; argument: what follows "name:", NULL if nothing does. */
static enum fpl_code fill_base(struct fpl_recipe *r, const struct fpl_recipe_preset *f, const char *argument,
                               struct fpl_error *err) {
    memset(r, 0, sizeof *r);
    for (int i = 0; i < FPL_SLOTS; i++) (void)fpl_quantizer_parse("-", &r->slot[i], NULL);
    for (int i = 0; i < FPL_STATE_SLOTS; i++) r->state[i] = r->slot[0];
    for (int i = 0; i < FPL_ATTENTION_SLOTS; i++) r->attention[i] = r->slot[0];
    for (int i = 0; i < FPL_RECIPE_ROLES; i++) (void)fpl_accumulator_parse("fp32", &r->accumulator[i], NULL);
    if (f->fill != NULL) return f->fill(r, argument, err);
    const enum fpl_code code = fill_fixed(r, f, err);
    char own[FPL_RECIPE_TEXT];
    snprintf(own, sizeof own, ";%s", f->options != NULL ? f->options : "");
    return code != FPL_OK || f->options == NULL ? code : fpl_recipe_read_options(r, own, err);
}

enum fpl_code fpl_recipe_parse(const char *text, struct fpl_recipe *out, struct fpl_error *err) {
    struct fpl_recipe base, r;
    char name[FPL_RECIPE_TEXT], argument[FPL_RECIPE_TEXT];
    const size_t length = strlen(text), n = strcspn(text, ":;");
    if (length >= sizeof name)
        return fpl_fail(err, FPL_INVALID, "recipe \"%.40s...\" has %zu characters; accepted: at most %zu",
                        text, length, sizeof name - 1);
    lower_case(text, n, name);

    const struct fpl_recipe_preset *f = NULL;
    for (size_t i = 0; i < PRESETS; i++)
        if (strcmp(name, fpl_recipe_presets[i].name) == 0) f = &fpl_recipe_presets[i];
    if (f == NULL) return unknown_preset(name, err);
    if (f->fill == NULL && text[n] == ':')
        return fpl_fail(err, FPL_INVALID, "recipe \"%s\": %s takes nothing after it; accepted: %s", text,
                        name, name);
    if (f->fill != NULL && text[n] != ':')
        return fpl_fail(err, FPL_INVALID, "recipe \"%s\": expected ':' and what to use, as in %s", text,
                        f->example);

    const size_t end = base_length(text, f->fill == fill_ops), begin = n + (text[n] == ':');
    memcpy(argument, text + begin, end - begin);
    argument[end - begin] = '\0';
    enum fpl_code code = fill_base(&base, f, argument, err);
    r = base;
    if (code == FPL_OK) code = fpl_recipe_read_options(&r, text + end, err);
    if (code == FPL_OK) code = fpl_recipe_print_options(&r, &base, err);
    if (code != FPL_OK) return fpl_fail_at(err, "recipe \"%.200s\"", text);
    *out = r;
    return FPL_OK;
}
