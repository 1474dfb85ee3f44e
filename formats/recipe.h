/* recipe.h - which quantizer each operand of a linear layer's three products gets.
 *
 * Text form (EBNF):
 *   recipe  = "fp32" | "bf16" | "capybara:" format [ "/" ( digits | "row" | "tensor" ) ]
 *           | "full:" quantizer | "qat:" quantizer
 *           | "fp8" | "mxfp8" | "mxfp6_e3m2" | "mxfp6_e2m3" | "mxfp4"
 *           | "ops:" slot "=" quantizer { ";" slot "=" quantizer } [ ";post=" format ] ;
 *   slot    = "fwd.x" | "fwd.w" | "dgrad.dy" | "dgrad.w" | "wgrad.dy" | "wgrad.x" ;
 * A slot that `ops:` does not name stays in high precision.
 *
 *   fp32          nothing is quantized
 *   bf16          every operand of every linear layer is rounded to bf16
 *   capybara:F/B  arXiv 2501.02423: fwd.w, dgrad.w and wgrad.x only; finite format, absmax
 *                 scale by multiplication (`mul`), ties away; blocks 1xB, row or tensor;
 *                 every operand is then bf16.  Default granularity: row ("channel").
 *   full:Q        all six operands
 *   qat:Q         forward x and w only (arXiv 2505.14302)
 *   fp8           e4m3fn forward and for w, e5m2ieee for dy, one scale per tensor
 *   mxfp..        all six operands in blocks of 32 with power-of-two scales (OCP MX 1.0)
 *
 * Embedding, head, norms, softmax and the attention products stay in high precision.
 * Gradients pass straight through.
 */
#ifndef FPL_RECIPE_H
#define FPL_RECIPE_H

#include "quantizer.h"

#ifdef __cplusplus
extern "C" {
#endif

enum fpl_slot { FPL_FWD_X, FPL_FWD_W, FPL_DGRAD_DY, FPL_DGRAD_W, FPL_WGRAD_DY, FPL_WGRAD_X, FPL_SLOTS };

extern const char *const fpl_slot_names[FPL_SLOTS + 1];

#define FPL_RECIPE_TEXT 768

struct fpl_recipe {
    char text[FPL_RECIPE_TEXT]; /* canonical: presets keep their preset form */
    struct fpl_quantizer slot[FPL_SLOTS];
    int has_post; /* operands are rounded once more, unscaled, to `post` */
    struct fpl_format post;
};

enum fpl_code fpl_recipe_parse(const char *text, struct fpl_recipe *out, struct fpl_error *err);

/* plans[FPL_SLOTS] */
void fpl_recipe_lower(const struct fpl_recipe *r, struct fpl_quantizer_plan *plans);

/* The recipe as covariates of the laws.  `format`, `granularity` and the numbers describe
 * the quantized slots when they all agree; format is "" where nothing is quantized (fp32,
 * bf16) and "mixed" where slots differ.  E, M, block are -1 where they do not apply
 * (block is a number only for fixed 1xB blocks). */
struct fpl_recipe_summary {
    char format[48], granularity[32];
    int E, M, block;
};
void fpl_recipe_summarize(const struct fpl_recipe *r, struct fpl_recipe_summary *out);

/* Registry of presets for the parser, help, `fplaw formats` and tests; last row has name
 * NULL.  Either `fill` reads the text after "name:", or values and gradients are the
 * quantizers of the operands x, w and of dy. */
struct fpl_recipe_preset {
    const char *name, *example, *meaning, *source;
    enum fpl_code (*fill)(struct fpl_recipe *r, const char *argument, struct fpl_error *err);
    const char *values, *gradients;
};
extern const struct fpl_recipe_preset fpl_recipe_presets[];

#ifdef __cplusplus
}
#endif
#endif
