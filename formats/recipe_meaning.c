/* recipe_meaning.c - what a parsed recipe says: plans of its operands, which blocks it leaves
 * out, and its covariates in the laws (recipe.h).
 *
 * Covariates must never make two recipes look alike whose arithmetic differs: a law that took
 * mxfp4 with an fp16 accumulator for mxfp4 would fit noise.  So any option that changes the
 * arithmetic blanks E, M and block, and the laws leave such runs out with a reason; reports
 * still pair them by the recipe's text.
 */
#include <stdio.h>
#include <string.h>

#include "recipe.h"

void fpl_recipe_lower(const struct fpl_recipe *r, struct fpl_quantizer_plan *plans) {
    for (int s = 0; s < FPL_SLOTS; s++)
        fpl_quantizer_lower(&r->slot[s], r->has_post ? &r->post : NULL, &plans[s]);
}

/* ---- exempt blocks ------------------------------------------------------------------------ */

static int64_t exempt_blocks(const struct fpl_exempt *e, int64_t layers) {
    if (!e->is_percent) return e->count;
    const int64_t share = (e->count * layers + 99) / 100;
    return share < layers ? share : layers - 1;
}

int fpl_recipe_exempt(const struct fpl_recipe *r, int64_t layer, int64_t layers) {
    return layer < exempt_blocks(&r->first, layers) || layer >= layers - exempt_blocks(&r->last, layers);
}

int64_t fpl_recipe_exempt_count(const struct fpl_recipe *r, int64_t layers) {
    const int64_t n = exempt_blocks(&r->first, layers) + exempt_blocks(&r->last, layers);
    return n < layers ? n : layers;
}

int fpl_recipe_quantizes_attention(const struct fpl_recipe *r) {
    int any = 0;
    for (int i = 0; i < FPL_ATTENTION_SLOTS; i++) any |= !r->attention[i].identity;
    return any;
}

/* ---- covariates --------------------------------------------------------------------------- */

/* Identity, or plain rounding to fp32 or bf16: what the laws call not quantized. */
static int is_high_precision(const struct fpl_quantizer *q) {
    char format[48];
    if (q->identity) return 1;
    if (q->granularity != FPL_UNSCALED) return 0;
    fpl_format_print(&q->format, format, sizeof format);
    return strcmp(format, "fp32") == 0 || strcmp(format, "bf16") == 0;
}

static void describe_granularity(const struct fpl_quantizer *q, char buf[32]) {
    if (q->granularity == FPL_BLOCK)
        snprintf(buf, 32, "%dx%d", (int)q->block_rows, (int)q->block_cols);
    else
        snprintf(buf, 32, "%s", fpl_granularity_words[q->granularity].name);
}

/* The first `quantized` slot's value is kept while all others have it. */
static void keep_common(int *kept, int next, int quantized) {
    *kept = quantized == 0 || *kept == next ? next : -1;
}

static void keep_common_text(char *kept, size_t size, const char *next, int quantized) {
    if (quantized == 0)
        snprintf(kept, size, "%s", next);
    else if (strcmp(kept, next) != 0)
        snprintf(kept, size, "mixed");
}

/* Whether options change what the operands' quantizers alone would give; the first few only
 * matter where there is something quantized. */
static int is_altered(const struct fpl_recipe *r, int quantized) {
    const struct fpl_exempt *ends[] = {&r->first, &r->last};
    int altered = 0;
    if (quantized) {
        altered |= r->ste_clip;
        for (int i = 0; i < 2; i++) altered |= ends[i]->count > 0;
        for (int i = 0; i < FPL_RECIPE_ROLES; i++) altered |= r->hadamard[i] != 0;
    }
    for (int i = 0; i < FPL_RECIPE_ROLES; i++) {
        char text[FPL_ACCUMULATOR_TEXT];
        fpl_accumulator_print(&r->accumulator[i], text, sizeof text);
        altered |= strcmp(text, "fp32") != 0;
    }
    for (int i = 0; i < FPL_STATE_SLOTS; i++) altered |= !is_high_precision(&r->state[i]);
    for (int i = 0; i < FPL_ATTENTION_SLOTS; i++) altered |= !is_high_precision(&r->attention[i]);
    return altered;
}

void fpl_recipe_summarize(const struct fpl_recipe *r, struct fpl_recipe_summary *out) {
    memset(out, 0, sizeof *out);
    out->E = out->M = out->block = -1;
    int quantized = 0;
    for (int s = 0; s < FPL_SLOTS; s++) {
        const struct fpl_quantizer *q = &r->slot[s];
        if (is_high_precision(q)) continue;
        char format[48], granularity[32];
        fpl_format_print(&q->format, format, sizeof format);
        describe_granularity(q, granularity);
        keep_common_text(out->format, sizeof out->format, format, quantized);
        keep_common_text(out->granularity, sizeof out->granularity, granularity, quantized);
        const int codebook = q->format.codebook != 0; /* values of no one E and M */
        keep_common(&out->E, codebook ? -1 : q->format.ebits, quantized);
        keep_common(&out->M, codebook ? -1 : q->format.mbits, quantized);
        keep_common(&out->block, q->granularity == FPL_BLOCK && q->block_rows == 1 ? q->block_cols : -1,
                    quantized);
        quantized++;
    }
    if (!is_altered(r, quantized)) return;
    out->E = out->M = out->block = -1;
    if (quantized == 0) snprintf(out->format, sizeof out->format, "mixed");
}
