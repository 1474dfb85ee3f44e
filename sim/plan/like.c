/* like.c - the recipe of a proposed run: that of the fit's own runs in another format.
 *
 * A law says nothing of rounding modes, scale rules or which operands are quantized, so a run that is to
 * tell it something must compute as the runs that it was fitted to (law/manner.h).  Their recipe is
 * taken, each quantizer gets the format and, where the law takes blocks, the block; laws of one scale
 * per channel or tensor keep that granularity.  A fit that does not know its recipe gets "full:", all six
 * operands, with the law's own granularity.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../../formats/recipe.h"
#include "internal.h"

#define LEAST_BLOCK 2.0
#define MOST_BLOCK 4096.0

static int is_whole_block(double block) {
    return block == floor(block) && block >= LEAST_BLOCK && block <= MOST_BLOCK;
}

static void append(char *out, size_t size, const char *text) {
    const size_t used = strlen(out);
    snprintf(out + used, size - used, "%s", text);
}

static int all_equal(const struct fpl_recipe *r) {
    char first[FPL_QUANTIZER_TEXT], other[FPL_QUANTIZER_TEXT];
    fpl_quantizer_print(&r->slot[0], first, sizeof first);
    for (int s = 1; s < FPL_SLOTS; s++) {
        fpl_quantizer_print(&r->slot[s], other, sizeof other);
        if (strcmp(first, other) != 0) return 0;
    }
    return 1;
}

/* The recipe's own preset name, where it has one that takes a quantizer; else operand by operand. */
static void print_recipe(const struct fpl_recipe *r, const struct fpl_plan_format *f, char *out,
                         size_t size) {
    char text[FPL_QUANTIZER_TEXT];
    out[0] = '\0';
    if (strncmp(r->text, "capybara:", 9) == 0) {
        const struct fpl_quantizer *q = &r->slot[FPL_FWD_W];
        snprintf(out, size, "capybara:%s", f->name);
        if (q->granularity == FPL_BLOCK) snprintf(text, sizeof text, "/%d", (int)q->block_cols);
        if (q->granularity == FPL_TENSOR) snprintf(text, sizeof text, "/tensor");
        if (q->granularity != FPL_ROW) append(out, size, text);
    } else if (all_equal(r) && !r->has_post) {
        fpl_quantizer_print(&r->slot[0], text, sizeof text);
        snprintf(out, size, "full:%s", text);
    } else if (strncmp(r->text, "qat:", 4) == 0) {
        fpl_quantizer_print(&r->slot[FPL_FWD_X], text, sizeof text);
        snprintf(out, size, "qat:%s", text);
    } else {
        append(out, size, "ops:");
        for (int s = 0, first = 1; s < FPL_SLOTS; s++) {
            if (r->slot[s].identity) continue;
            fpl_quantizer_print(&r->slot[s], text, sizeof text);
            if (!first) append(out, size, ";");
            append(out, size, fpl_slot_names[s]);
            append(out, size, "=");
            append(out, size, text);
            first = 0;
        }
        if (!r->has_post) return;
        fpl_format_print(&r->post, text, sizeof text);
        append(out, size, ";post=");
        append(out, size, text);
    }
}

int fpl_recipe_like(const struct fpl_fit *fit, const struct fpl_plan_format *f, char *out, size_t size) {
    const struct fpl_law *law = fpl_fit_law(fit);
    const int blocks = fpl_law_takes(law, FPL_VAR_BLOCK);
    const char *known = fpl_fit_recipe(fit);
    struct fpl_recipe r;
    struct fpl_format format;
    char first[FPL_RECIPE_TEXT];
    if (isnan(f->E)) {
        snprintf(out, size, "fp32");
        return 1;
    }
    if (blocks && !is_whole_block(f->block)) return 0;
    snprintf(first, sizeof first, "full:e2m1/%s", fpl_law_scaling(law)[0] ? fpl_law_scaling(law) : "1x32");
    if (fpl_recipe_parse(known[0] != '\0' ? known : first, &r, NULL) != FPL_OK) return 0;
    if (fpl_format_parse(f->name, &format, NULL) != FPL_OK) return 0;
    for (int s = 0; s < FPL_SLOTS; s++) {
        if (r.slot[s].identity) continue;
        r.slot[s].format = format;
        if (blocks) r.slot[s].block_cols = (int32_t)f->block;
    }
    print_recipe(&r, f, out, size);
    return fpl_recipe_parse(out, &r, NULL) == FPL_OK;
}
