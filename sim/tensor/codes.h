/* codes.h - a quantized tensor as it is stored: packed element codes and scales.
 *
 * A tensor X of R rows and C columns becomes, in a .safetensors file,
 *   X.codes    U8 [.., ceil(C w / 8)]: each row a string of bits, element j at bits j w to
 *              j w + w - 1, lowest first, padded with zero bits.  So 4-bit codes lie two to a
 *              byte, low nibble first, 6-bit codes four to three bytes, wider ones little-endian
 *   X.scales   one per group, group rows outermost: U8 [G, H], the code of an E8M0 scale (its
 *              exponent plus 127) or of the scale format (e4m3fn for NVFP4), U16 where that has
 *              more than 8 bits, F32 for float32 scales; absent where there is no scaling
 *   X.scale_2  F32 []: the tensor's scale of two-level rules, 1 / s_enc
 *   X.zeros    U8 or U16 [G, H]: zero points
 * with the codes of formats/code.h.  The value is  code * scale  (fl), then  * scale_2  (fl);
 * with zero points (code - zero) * scale; a finite code's value beyond float32's largest clamps.
 *
 * That is the MX layout for 1x32 with E8M0 scales, and NVFP4's for 1x16 with e4m3fn+t.
 */
#ifndef FPL_CODES_H
#define FPL_CODES_H

#include "../../formats/code.h"
#include "../../formats/scale.h"
#include "tensor.h"

struct fpl_code_layout {
    struct fpl_writer *writer;                          /* the caller's */
    uint64_t codes_at, scales_at, scale_2_at, zeros_at; /* the caller's: where in the file */
    struct fpl_coder coder, scale_coder;
    int64_t rows, cols, scale_rows, scale_cols;
    int64_t row_bytes;
    int scale_bytes, zero_bytes, two_level; /* per scale: 0 where there is none */
    int scale_is_float;
};

/* Sizes of a tensor's codes.  FPL_INVALID for a quantizer whose values have no codes to pack:
 * none at all, or wider than 16 bits. */
enum fpl_code fpl_codes_layout(const struct fpl_quantizer *q, int64_t rows, int64_t cols,
                               struct fpl_code_layout *out, struct fpl_error *err);

/* What fpl_safetensors_header wants to know of the parts of tensor t: up to four tensors, named
 * t's name (or "tensor") with the endings above; names are allocated.  Returns how many. */
int fpl_codes_tensors(const struct fpl_code_layout *l, const struct fpl_tensor *t,
                      struct fpl_tensor parts[4]);

/* Pack n codes of `bits` bits from bit 0 of out on; out holds ceil(n bits / 8) bytes. */
void fpl_codes_pack(int bits, int64_t n, const uint32_t *codes, uint8_t *out);

/* One scale as its bytes, little-endian. */
void fpl_codes_scale(const struct fpl_code_layout *l, const struct fpl_group_scale *g, uint8_t *out);

#endif
