/* recipe_options.c - the options of a recipe: accumulators, Hadamard transform, clip mask,
 * exempt blocks, formats of optimizer state and of the attention products.
 *
 * One row of fpl_recipe_options is one option: how its value is read into the struct and how
 * the struct prints.  Canonical text follows from the rows alone: an option is printed where
 * its printed value differs from that of the base recipe, in the order of the rows.  Of an
 * option with roles, one word for all three is printed where they agree and more than one
 * differs from the base; otherwise each role that differs.
 *
 * Reading takes the forms without a role first, so that a role's own value wins wherever it
 * stands in the text.
 */
#include "recipe_options.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const fpl_role_names[FPL_RECIPE_ROLES + 1] = {"fwd", "dgrad", "wgrad", NULL};

/* ---- values ------------------------------------------------------------------------------- */

static enum fpl_code read_accumulator(struct fpl_recipe *r, int role, const char *value,
                                      struct fpl_error *err) {
    return fpl_accumulator_parse(value, &r->accumulator[role], err);
}

static void print_accumulator(const struct fpl_recipe *r, int role, char *buf, size_t size) {
    fpl_accumulator_print(&r->accumulator[role], buf, size);
}

static enum fpl_code read_hadamard(struct fpl_recipe *r, int role, const char *value, struct fpl_error *err) {
    static const int32_t sizes[] = {0, 16, 32};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", (int)sizes[i]);
        if (strcmp(value, text) != 0) continue;
        r->hadamard[role] = sizes[i];
        return FPL_OK;
    }
    return fpl_fail(err, FPL_INVALID, "found \"%.40s\"; accepted: 0 (no transform), 16 or 32", value);
}

static void print_hadamard(const struct fpl_recipe *r, int role, char *buf, size_t size) {
    snprintf(buf, size, "%d", (int)r->hadamard[role]);
}

static enum fpl_code read_ste(struct fpl_recipe *r, int index, const char *value, struct fpl_error *err) {
    (void)index;
    r->ste_clip = strcmp(value, "clip") == 0;
    if (r->ste_clip || strcmp(value, "pass") == 0) return FPL_OK;
    return fpl_fail(err, FPL_INVALID, "found \"%.40s\"; accepted: pass or clip", value);
}

static void print_ste(const struct fpl_recipe *r, int index, char *buf, size_t size) {
    (void)index;
    snprintf(buf, size, "%s", r->ste_clip ? "clip" : "pass");
}

enum { FIRST, LAST };

static enum fpl_code read_exempt(struct fpl_recipe *r, int index, const char *value, struct fpl_error *err) {
    const size_t digits = strspn(value, "0123456789");
    const int percent = value[digits] == '%';
    const long number = digits > 0 && digits < 6 ? strtol(value, NULL, 10) : -1;
    struct fpl_exempt *e = index == FIRST ? &r->first : &r->last;
    if (value[digits + (size_t)percent] != '\0' || number < 0 || number > (percent ? 100 : 1024))
        return fpl_fail(err, FPL_INVALID,
                        "found \"%.40s\"; accepted: a number of blocks, 0 to 1024, or a share, 0%% to 100%%",
                        value);
    e->count = (int32_t)number;
    e->is_percent = percent && number > 0;
    return FPL_OK;
}

static void print_exempt(const struct fpl_recipe *r, int index, char *buf, size_t size) {
    const struct fpl_exempt *e = index == FIRST ? &r->first : &r->last;
    snprintf(buf, size, "%d%s", (int)e->count, e->is_percent ? "%" : "");
}

static enum fpl_code read_state(struct fpl_recipe *r, int index, const char *value, struct fpl_error *err) {
    return fpl_quantizer_parse(value, &r->state[index], err);
}

static void print_state(const struct fpl_recipe *r, int index, char *buf, size_t size) {
    fpl_quantizer_print(&r->state[index], buf, size);
}

static enum fpl_code read_attention(struct fpl_recipe *r, int index, const char *value,
                                    struct fpl_error *err) {
    return fpl_quantizer_parse(value, &r->attention[index], err);
}

static void print_attention(const struct fpl_recipe *r, int index, char *buf, size_t size) {
    fpl_quantizer_print(&r->attention[index], buf, size);
}

/* In canonical order, which is part of every run's identity. */
const struct fpl_recipe_option fpl_recipe_options[] = {
    {"acc", "fp16/32", "accumulator of the products; also fwd.acc, dgrad.acc, wgrad.acc", 1, 0,
     read_accumulator, print_accumulator},
    {"had", "16",
     "random Hadamard transform of both operands along the reduction axis, 16 or 32; also fwd.had, "
     "dgrad.had, wgrad.had",
     1, 0, read_hadamard, print_hadamard},
    {"ste", "clip", "clip: gradients are zero where the forward quantizer clipped x or w; pass: they are not",
     0, 0, read_ste, print_ste},
    {"first", "1", "blocks at the input that run in bf16: a number, or a share as 10%", 0, FIRST, read_exempt,
     print_exempt},
    {"last", "15%", "blocks at the output that run in bf16: a number, or a share as 15%", 0, LAST,
     read_exempt, print_exempt},
    {"opt.m", "e4m3/1x128", "quantizer of AdamW's first moment", 0, FPL_STATE_M, read_state, print_state},
    {"opt.v", "e5m2/1x128", "quantizer of AdamW's second moment", 0, FPL_STATE_V, read_state, print_state},
    {"opt.master", "bf16:sr", "quantizer of the master weights", 0, FPL_STATE_MASTER, read_state,
     print_state},
    {"opt.grad", "bf16", "quantizer of the gradients of weights", 0, FPL_STATE_GRAD, read_state, print_state},
    {"attn.qk", "e4m3fn/row", "quantizer of both operands of the attention product Q K^T", 0,
     FPL_ATTENTION_QK, read_attention, print_attention},
    {"attn.pv", "e4m3fn/row", "quantizer of both operands of the attention product P V", 0, FPL_ATTENTION_PV,
     read_attention, print_attention},
    {"attn.dp", "e4m3fn/row", "quantizer of both operands of the attention product dO V^T", 0,
     FPL_ATTENTION_DP, read_attention, print_attention},
    {"attn.grad", "e5m2ieee/row", "quantizer of attention gradients (dS, dO) where it is another", 0,
     FPL_ATTENTION_GRAD, read_attention, print_attention},
    {NULL, NULL, NULL, 0, 0, NULL, NULL},
};

#define OPTIONS ((int)(sizeof fpl_recipe_options / sizeof fpl_recipe_options[0]) - 1)

/* ---- reading ------------------------------------------------------------------------------ */

static int same_word(const char *text, size_t n, const char *word) {
    if (strlen(word) != n) return 0;
    for (size_t i = 0; i < n; i++)
        if (tolower((unsigned char)text[i]) != word[i]) return 0;
    return 1;
}

/* Row of a key of n characters, or -1; *role is -1 where the key names none. */
static int find_option(const char *key, size_t n, int *role) {
    *role = -1;
    for (int i = 0; i < FPL_RECIPE_ROLES; i++) {
        const size_t prefix = strlen(fpl_role_names[i]);
        if (n <= prefix || key[prefix] != '.' || !same_word(key, prefix, fpl_role_names[i])) continue;
        *role = i;
        key += prefix + 1;
        n -= prefix + 1;
        break;
    }
    for (int i = 0; i < OPTIONS; i++)
        if (same_word(key, n, fpl_recipe_options[i].name) && (*role < 0 || fpl_recipe_options[i].per_role))
            return i;
    return -1;
}

int fpl_recipe_is_option(const char *key, size_t n) {
    int role;
    return find_option(key, n, &role) >= 0;
}

static enum fpl_code unknown_option(const char *key, size_t n, struct fpl_error *err) {
    const char *names[OPTIONS + 1];
    char list[160] = "", word[48];
    size_t used = 0;
    for (int i = 0; i < OPTIONS; i++) {
        names[i] = fpl_recipe_options[i].name;
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i > 0 ? ", " : "", names[i]);
    }
    names[OPTIONS] = NULL;
    snprintf(word, sizeof word, "%.*s", (int)(n > 40 ? 40 : n), key);
    const char *near = fpl_nearest_word(word, names);
    return fpl_fail(err, FPL_INVALID,
                    "unknown option \"%s\"%s%s%s; accepted: %s, and fwd., dgrad. or wgrad. before acc or had",
                    word, near != NULL ? " (did you mean " : "", near != NULL ? near : "",
                    near != NULL ? "?)" : "", list);
}

/* The value of "key=value" (n characters in all) for one role, or for every role. */
static enum fpl_code read_option(struct fpl_recipe *r, const struct fpl_recipe_option *o, int role,
                                 const char *item, size_t n, struct fpl_error *err) {
    char value[FPL_RECIPE_TEXT];
    const size_t key = strcspn(item, "=");
    memcpy(value, item + key + 1, n - key - 1);
    value[n - key - 1] = '\0';
    for (int i = 0; i < FPL_RECIPE_ROLES; i++) {
        if (o->per_role && role >= 0 && i != role) continue;
        const enum fpl_code code = o->read(r, o->per_role ? i : o->index, value, err);
        if (code != FPL_OK) return fpl_fail_at(err, "%.*s", (int)key, item);
        if (!o->per_role) break;
    }
    return FPL_OK;
}

enum fpl_code fpl_recipe_read_options(struct fpl_recipe *r, const char *text, struct fpl_error *err) {
    uint64_t seen = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (const char *p = text; *p == ';';) {
            const char *item = ++p;
            const size_t n = strcspn(p, ";"), key = strcspn(p, "=");
            int role;
            p += n;
            if (key >= n)
                return fpl_fail(err, FPL_INVALID, "found \"%.*s\", expected option=value, as in last=2",
                                (int)(n > 60 ? 60 : n), item);
            const int row = find_option(item, key, &role);
            if (row < 0) return unknown_option(item, key, err);
            const uint64_t bit = UINT64_C(1) << (row * (FPL_RECIPE_ROLES + 1) + role + 1);
            if (pass == 0 && (seen & bit) != 0)
                return fpl_fail(err, FPL_INVALID, "option \"%.*s\" is given twice; accepted: once", (int)key,
                                item);
            seen |= bit;
            if ((role >= 0) != (pass == 1)) continue;
            const enum fpl_code code = read_option(r, &fpl_recipe_options[row], role, item, n, err);
            if (code != FPL_OK) return code;
        }
    }
    return FPL_OK;
}

/* ---- printing ------------------------------------------------------------------------------ */

static enum fpl_code append(struct fpl_recipe *r, const char *prefix, const char *name, const char *value,
                            struct fpl_error *err) {
    const size_t used = strlen(r->text), room = sizeof r->text - used;
    const int n =
        snprintf(r->text + used, room, ";%s%s%s=%s", prefix, *prefix != '\0' ? "." : "", name, value);
    if (n >= 0 && (size_t)n < room) return FPL_OK;
    return fpl_fail(err, FPL_INVALID, "the canonical text is too long; accepted: at most %d characters",
                    FPL_RECIPE_TEXT - 1);
}

static enum fpl_code print_roles(struct fpl_recipe *r, const struct fpl_recipe *base,
                                 const struct fpl_recipe_option *o, struct fpl_error *err) {
    char value[FPL_RECIPE_ROLES][FPL_QUANTIZER_TEXT], old[FPL_QUANTIZER_TEXT];
    int differs[FPL_RECIPE_ROLES], differ = 0, agree = 1;
    enum fpl_code code = FPL_OK;
    for (int i = 0; i < FPL_RECIPE_ROLES; i++) {
        o->print(r, i, value[i], sizeof value[i]);
        o->print(base, i, old, sizeof old);
        differs[i] = strcmp(value[i], old) != 0;
        differ += differs[i];
        agree &= strcmp(value[i], value[0]) == 0;
    }
    if (agree && differ > 1) return append(r, "", o->name, value[0], err);
    for (int i = 0; i < FPL_RECIPE_ROLES && code == FPL_OK; i++)
        if (differs[i]) code = append(r, fpl_role_names[i], o->name, value[i], err);
    return code;
}

enum fpl_code fpl_recipe_print_options(struct fpl_recipe *r, const struct fpl_recipe *base,
                                       struct fpl_error *err) {
    for (int i = 0; i < OPTIONS; i++) {
        const struct fpl_recipe_option *o = &fpl_recipe_options[i];
        char value[FPL_QUANTIZER_TEXT], old[FPL_QUANTIZER_TEXT];
        enum fpl_code code = FPL_OK;
        if (o->per_role) {
            code = print_roles(r, base, o, err);
        } else {
            o->print(r, o->index, value, sizeof value);
            o->print(base, o->index, old, sizeof old);
            if (strcmp(value, old) != 0) code = append(r, "", o->name, value, err);
        }
        if (code != FPL_OK) return code;
    }
    return FPL_OK;
}
