/* codes.c - sizes, names and bits of packed tensors (codes.h). */
#include "codes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int power_of_two_rule(int rule) {
    return rule == FPL_SCALE_FLOOR || rule == FPL_SCALE_RCEIL || rule == FPL_SCALE_CEIL ||
           rule == FPL_SCALE_EVEN || rule == FPL_SCALE_P3109;
}

/* How a scale is kept: a code of up to 16 bits, or float32. */
static void scale_layout(const struct fpl_quantizer *q, struct fpl_code_layout *out) {
    struct fpl_format e8m0 = {.is_scale = 1, .ebits = 8, .bias = 127, .policy = FPL_FN};
    if (power_of_two_rule(q->scale_rule)) {
        (void)fpl_format_parse("ue8m0", &e8m0, NULL); /* an alias of the registry */
        fpl_coder_lower(&e8m0, &out->scale_coder);
    } else if (q->scale_rule == FPL_SCALE_FORMAT) {
        fpl_coder_lower(&q->scale_format, &out->scale_coder);
    }
    out->scale_is_float = out->scale_coder.bits == 0 || out->scale_coder.bits > 16;
    out->scale_bytes = out->scale_is_float ? 4 : out->scale_coder.bits <= 8 ? 1 : 2;
}

enum fpl_code fpl_codes_layout(const struct fpl_quantizer *q, int64_t rows, int64_t cols,
                               struct fpl_code_layout *out, struct fpl_error *err) {
    struct fpl_quantizer_plan plan;
    struct fpl_format_limits limits = {.bits = 32};
    *out = (struct fpl_code_layout){.rows = rows, .cols = cols};
    if (!q->identity) fpl_format_limits(&q->format, &limits);
    if (limits.bits > 16)
        return fpl_fail(err, FPL_INVALID,
                        "codes of %d bits are not packed; accepted: quantizers to formats of up to 16 bits",
                        limits.bits);
    fpl_coder_lower(&q->format, &out->coder);
    if (rows > 0 && cols > (INT64_MAX / 16 - 7) / rows)
        return fpl_fail(err, FPL_INVALID, "%lld x %lld codes are more than a file holds", (long long)rows,
                        (long long)cols);
    out->row_bytes = (cols * limits.bits + 7) / 8;
    if (q->granularity == FPL_UNSCALED || rows == 0 || cols == 0) return FPL_OK;
    fpl_quantizer_lower(q, NULL, &plan);
    int64_t group_rows, group_cols;
    fpl_quantizer_group_shape(&plan, rows, cols, &group_rows, &group_cols);
    out->scale_rows = (rows - 1) / group_rows + 1;
    out->scale_cols = (cols - 1) / group_cols + 1;
    out->two_level = q->two_level;
    if (q->zero_point) out->zero_bytes = limits.bits <= 8 ? 1 : 2;
    scale_layout(q, out);
    return FPL_OK;
}

static struct fpl_tensor part(const struct fpl_tensor *t, const char *ending, const char *dtype, int axes,
                              int64_t a, int64_t b, int64_t bytes) {
    const char *name = *t->name != '\0' ? t->name : "tensor";
    struct fpl_tensor p = {.dtype = FPL_DTYPE_OTHER, .axes = axes, .shape = {a, b}, .bytes = (uint64_t)bytes};
    const size_t room = strlen(name) + strlen(ending) + 1;
    p.name = malloc(room);
    if (p.name != NULL) snprintf(p.name, room, "%s%s", name, ending);
    strcpy(p.dtype_name, dtype);
    return p;
}

int fpl_codes_tensors(const struct fpl_code_layout *l, const struct fpl_tensor *t,
                      struct fpl_tensor parts[4]) {
    const int64_t groups = l->scale_rows * l->scale_cols;
    int n = 0;
    parts[n] = part(t, ".codes", "U8", 2, l->rows, l->row_bytes, l->rows * l->row_bytes);
    if (t->axes > 0 && t->rows == l->rows && t->cols == l->cols && t->elements > 0) {
        parts[n].axes = t->axes; /* the tensor's own leading axes */
        memcpy(parts[n].shape, t->shape, sizeof t->shape);
        parts[n].shape[t->axes - 1] = l->row_bytes;
    }
    n++;
    if (l->scale_bytes > 0)
        parts[n++] = part(t, ".scales",
                          l->scale_is_float     ? "F32"
                          : l->scale_bytes == 1 ? "U8"
                                                : "U16",
                          2, l->scale_rows, l->scale_cols, groups * l->scale_bytes);
    if (l->zero_bytes > 0)
        parts[n++] = part(t, ".zeros", l->zero_bytes == 1 ? "U8" : "U16", 2, l->scale_rows, l->scale_cols,
                          groups * l->zero_bytes);
    if (l->two_level && groups > 0) parts[n++] = part(t, ".scale_2", "F32", 0, 0, 0, 4);
    return n;
}

void fpl_codes_pack(int bits, int64_t n, const uint32_t *codes, uint8_t *out) {
    uint64_t held = 0; /* fewer than 8 bits between elements */
    int count = 0;
    if (bits == 8) {
        for (int64_t i = 0; i < n; i++) out[i] = (uint8_t)codes[i];
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        held |= (uint64_t)codes[i] << count;
        for (count += bits; count >= 8; count -= 8, held >>= 8) *out++ = (uint8_t)held;
    }
    if (count > 0) *out = (uint8_t)held;
}

void fpl_codes_scale(const struct fpl_code_layout *l, const struct fpl_group_scale *g, uint8_t *out) {
    if (l->scale_is_float) {
        memcpy(out, &g->dequant, 4);
        return;
    }
    /* A group of zeros has scale 1, which a scale format need not have: any scale will do. */
    uint32_t code = fpl_encode(&l->scale_coder, g->dequant);
    if (code == UINT32_MAX) code = 0;
    for (int i = 0; i < l->scale_bytes; i++) out[i] = (uint8_t)(code >> 8 * i);
}
