/* recipe.h - how a linear layer's three products are computed, and with what around them.
 *
 * Text form (EBNF):
 *   recipe  = base { ";" option } ;
 *   base    = "fp32" | "bf16" | "capybara:" format [ "/" ( digits | "row" | "tensor" ) ]
 *           | "full:" quantizer | "qat:" quantizer
 *           | "fp8" | "mxfp8" | "mxfp6_e3m2" | "mxfp6_e2m3" | "mxfp4" | "nvfp4" | "deepseek_v3"
 *           | "ops:" slot "=" quantizer { ";" slot "=" quantizer } [ ";post=" format ] ;
 *   slot    = "fwd.x" | "fwd.w" | "dgrad.dy" | "dgrad.w" | "wgrad.dy" | "wgrad.x" ;
 *   option  = [ role ] "acc=" accumulator | [ role ] "had=" ( "0" | "16" | "32" )
 *           | "ste=" ( "pass" | "clip" ) | ( "first=" | "last=" ) digits [ "%" ]
 *           | ( "opt.m=" | "opt.v=" | "opt.master=" | "opt.grad=" ) quantizer
 *           | ( "attn.qk=" | "attn.pv=" | "attn.dp=" | "attn.grad=" ) quantizer ;
 *   role    = "fwd." | "dgrad." | "wgrad." ;
 * A slot that `ops:` does not name stays in high precision.  Options come in any order, each
 * once; acc and had without a role mean all three products, and a role's own form wins.
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
 *   nvfp4         arXiv 2509.25149: e2m1, two-level scales; w in 16x16 blocks, so that its two
 *                 forms agree; x and dy 1x16; sr on dy only; wgrad.had=16; last=15%
 *   deepseek_v3   arXiv 2412.19437: e4m3fn, float32 scales; w in 128x128 blocks, x and dy
 *                 1x128; acc=align:32,13/128
 *
 *   acc     how products are summed (accumulator.h); default fp32
 *   had     random Hadamard transform along the reduction axis of both operands, before they
 *           are quantized (hadamard.h); 0: none.  The product is unchanged up to rounding.
 *   ste     gradients pass straight through a quantizer (pass), or are zero where the forward
 *           quantizer's unclamped rounding exceeded the largest value (clip; quantizer.h):
 *           dx under the mask of fwd.x, dw under the mask of fwd.w
 *   first,  blocks at either end that run under the recipe bf16 instead, attention products
 *   last    in high precision.  N% is ceil(N L / 100) of L blocks, at most L - 1: 2509.25149
 *           keeps about 15 % of the linear layers, most at the end (10 of 62 blocks there)
 *   opt.*   formats in which AdamW's moments m and v, the master weights and the gradients of
 *           weights are kept; "-" (default) is float32
 *   attn.*  both operands of Q K^T (and of the products of its backward pass), of P V, of
 *           dP = dO V^T; grad: instead of those, for the gradient operands dS and dO
 *
 * Embedding, head, norms and softmax stay in high precision.
 */
#ifndef FPL_RECIPE_H
#define FPL_RECIPE_H

#include "accumulator.h"
#include "quantizer.h"

#ifdef __cplusplus
extern "C" {
#endif

enum fpl_slot { FPL_FWD_X, FPL_FWD_W, FPL_DGRAD_DY, FPL_DGRAD_W, FPL_WGRAD_DY, FPL_WGRAD_X, FPL_SLOTS };
enum fpl_state_slot { FPL_STATE_M, FPL_STATE_V, FPL_STATE_MASTER, FPL_STATE_GRAD, FPL_STATE_SLOTS };
enum fpl_attention_part {
    FPL_ATTENTION_QK,
    FPL_ATTENTION_PV,
    FPL_ATTENTION_DP,
    FPL_ATTENTION_GRAD, /* identity: no other quantizer for gradients */
    FPL_ATTENTION_SLOTS
};

#define FPL_RECIPE_ROLES 3 /* forward, dgrad, wgrad, in this order everywhere */

extern const char *const fpl_slot_names[FPL_SLOTS + 1];
extern const char *const fpl_role_names[FPL_RECIPE_ROLES + 1]; /* "fwd", "dgrad", "wgrad" */

#define FPL_RECIPE_TEXT 768 /* a recipe whose canonical text is longer is refused */

/* Blocks left out at one end: a count, or a share of all blocks. */
struct fpl_exempt {
    int32_t count, is_percent;
};

struct fpl_recipe {
    char text[FPL_RECIPE_TEXT]; /* canonical: presets keep their preset form */
    struct fpl_quantizer slot[FPL_SLOTS];
    int has_post; /* operands are rounded once more, unscaled, to `post` */
    struct fpl_format post;
    struct fpl_accumulator accumulator[FPL_RECIPE_ROLES];
    int32_t hadamard[FPL_RECIPE_ROLES]; /* 0, 16, 32 */
    int32_t ste_clip;
    struct fpl_exempt first, last;
    struct fpl_quantizer state[FPL_STATE_SLOTS];         /* identity: float32 */
    struct fpl_quantizer attention[FPL_ATTENTION_SLOTS]; /* identity: high precision */
};

enum fpl_code fpl_recipe_parse(const char *text, struct fpl_recipe *out, struct fpl_error *err);

/* plans[FPL_SLOTS], of blocks that are not exempt */
void fpl_recipe_lower(const struct fpl_recipe *r, struct fpl_quantizer_plan *plans);

/* Whether block `layer` of `layers` is exempt; and how many are. */
int fpl_recipe_exempt(const struct fpl_recipe *r, int64_t layer, int64_t layers);
int64_t fpl_recipe_exempt_count(const struct fpl_recipe *r, int64_t layers);

/* Whether some product of attention has quantized operands. */
int fpl_recipe_quantizes_attention(const struct fpl_recipe *r);

/* The recipe as covariates of the laws.  `format`, `granularity` and the numbers describe
 * the quantized slots when they all agree; format is "" where nothing is quantized (fp32,
 * bf16) and "mixed" where slots differ.  E, M, block are -1 where they do not apply
 * (block is a number only for fixed 1xB blocks).  A recipe with an option that changes the
 * arithmetic of products has format "mixed" and no numbers: E, M and block do not describe
 * it, and a law must not take it for the recipe without that option. */
struct fpl_recipe_summary {
    char format[48], granularity[32];
    int E, M, block;
};
void fpl_recipe_summarize(const struct fpl_recipe *r, struct fpl_recipe_summary *out);

/* Registry of presets for the parser, help, `fplaw formats` and tests; last row has name
 * NULL.  Either `fill` reads the text after "name:", or values, weights (NULL: as values)
 * and gradients are the quantizers of the operands x, w and dy.  options (NULL: none) are
 * the preset's own, in the grammar's form; a text can override each. */
struct fpl_recipe_preset {
    const char *name, *example, *meaning, *source;
    enum fpl_code (*fill)(struct fpl_recipe *r, const char *argument, struct fpl_error *err);
    const char *values, *weights, *gradients, *options;
};
extern const struct fpl_recipe_preset fpl_recipe_presets[];

/* Registry of options in canonical order; last row has name NULL. */
struct fpl_recipe_option {
    const char *name, *example, *meaning;
    int per_role; /* takes "fwd.", "dgrad.", "wgrad." */
    int index;    /* of the field that read and print handle; per_role: the role instead */
    enum fpl_code (*read)(struct fpl_recipe *r, int index, const char *value, struct fpl_error *err);
    void (*print)(const struct fpl_recipe *r, int index, char *buf, size_t size);
};
extern const struct fpl_recipe_option fpl_recipe_options[];

#ifdef __cplusplus
}
#endif
#endif
