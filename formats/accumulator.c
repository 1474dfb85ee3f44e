/* accumulator.c - text form of accumulators, the units of known devices, and lowering.
 *
 * The text is cut at "block:", then at the kind's word, then at "/"; F itself is a quantizer
 * without granularity and is read by that parser, so formats, roundings and overflows mean the
 * same everywhere.  A unit's name is replaced by the sum that it stands for.
 *
 * Units.  Two groups measured matrix units independently, arXiv 2512.07004 (Khattak, Mikaitis;
 * models in github.com/north-numerical-computing/MATLAB-tensor-core) and arXiv 2511.10909 (Xie et
 * al.; github.com/microsoft/MMA-Sim), and agree on n and w: a group of n products and the
 * accumulator, w = 23 plus the extra alignment bits, results truncated to float32.  A name is
 * given only to what both report for float32 output, so for operands in the unit's own formats.
 * Not modelled: hardware takes the exponent of a subnormal operand of 8 or 16 bits as its
 * format's smallest; here it is normalized, which matters only where such an operand makes the
 * largest product of a group.
 */
#include "accumulator.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

const struct fpl_accumulator_word fpl_accumulator_words[] = {
    {"fp32", "fp32", "exact products, float32 sums (default)"},
    {"F", "fp16", "every product: round_F(acc + a b), one rounding"},
    {"F/k", "bf16:rtz/32", "the same in chunks of k, each then added to a float32 sum"},
    {"chunk:F/k", "chunk:e5m10/128", "float32 chain over k products, rounded to F, float32 add"},
    {"align:n,w", "align:16,25", "n products and acc aligned to the largest exponent, truncated to w bits"},
    {"align:n,w/k", "align:32,13/128", "the same in chunks of k, each then added to a float32 sum"},
    {"block:S", "block:align:32,13", "S sums elements between scale boundaries; scales multiply the sums"},
    {NULL, NULL, NULL},
};

#define MEASURED "arXiv 2512.07004; arXiv 2511.10909"

const struct fpl_accumulator_unit fpl_accumulator_units[] = {
    {"v100", "align:4,23", "V100 (Volta): fp16", MEASURED},
    {"a100", "align:8,24", "A100 (Ampere): fp16, bf16", MEASURED},
    {"a100_tf32", "align:4,24", "A100: tf32", MEASURED},
    {"l40s", "align:8,24", "L40S (Ada): fp16, bf16", MEASURED},
    {"l40s_tf32", "align:4,24", "L40S: tf32", MEASURED},
    {"l40s_fp8", "align:16,13", "L40S: e4m3fn, e5m2ieee", MEASURED},
    {"h100", "align:16,25", "H100, H200 (Hopper): fp16, bf16", MEASURED},
    {"h100_tf32", "align:8,25", "H100, H200: tf32", MEASURED},
    {"h100_fp8", "align:32,13", "H100, H200: e4m3fn, e5m2ieee by wgmma", MEASURED},
    {"b200", "align:16,25", "B200 (Blackwell): fp16, bf16", MEASURED},
    {"b200_tf32", "align:8,25", "B200: tf32", MEASURED},
    {"b200_fp8", "align:32,25", "B200: e4m3fn, e5m2ieee", MEASURED},
    {NULL, NULL, NULL, NULL},
};

/* ---- parsing -------------------------------------------------------------------------------- */

struct reading {
    const char *whole; /* for messages */
    char lower[FPL_ACCUMULATOR_TEXT];
};

static enum fpl_code refuse(const struct reading *r, const char *found, const char *expected,
                            struct fpl_error *err) {
    return fpl_fail(err, FPL_INVALID, "accumulator \"%s\", character %zu: found \"%s\", expected %s",
                    r->whole, (size_t)(found - r->lower) + 1, found, expected);
}

static int take(const char **at, const char *word) {
    const size_t n = strlen(word);
    if (strncmp(*at, word, n) != 0) return 0;
    *at += n;
    return 1;
}

/* 1 .. most without a leading zero; 0 where there is none. */
static int32_t take_count(const char **at, int32_t most) {
    const char *p = *at;
    int64_t value = 0;
    if (*p == '0') return 0;
    while (isdigit((unsigned char)*p) && value <= most) value = 10 * value + (*p++ - '0');
    if (value < 1 || value > most) return 0;
    *at = p;
    return (int32_t)value;
}

/* "/" digits up to the end of the text. */
static enum fpl_code read_chunk(const struct reading *r, const char *at, struct fpl_accumulator *a,
                                struct fpl_error *err) {
    const char *p = at;
    if (take(&p, "/")) a->chunk = take_count(&p, INT32_MAX);
    if (a->chunk == 0 || *p != '\0')
        return refuse(r, at, "a chunk length as in /128, from 1 to 2147483647, and the end", err);
    return FPL_OK;
}

/* F: everything up to "/" or the end. */
static enum fpl_code read_element(const struct reading *r, const char **at, struct fpl_accumulator *a,
                                  struct fpl_error *err) {
    char text[FPL_ACCUMULATOR_TEXT];
    struct fpl_quantizer q;
    const size_t n = strcspn(*at, "/");
    memcpy(text, *at, n);
    text[n] = '\0';
    if (strcmp(text, "-") == 0 || n == 0) return refuse(r, *at, "a format, as in fp16", err);
    memset(&q, 0, sizeof q);
    if (fpl_quantizer_parse(text, &q, err) != FPL_OK)
        return fpl_fail_at(err,
                           "accumulator \"%s\" (forms: F, F/k, chunk:F/k, align:n,w, align:n,w/k, block:S or "
                           "a unit as h100_fp8)",
                           r->whole);
    if (!q.format.is_signed || q.format.is_scale || q.format.codebook != 0)
        return refuse(r, *at, "a signed floating-point or integer format, as fp16, e5m10 or int8", err);
    if (fpl_is_stochastic(q.rounding) && q.format.mbits + q.sr_bits > 49)
        return refuse(r, *at, "stochastic rounding with M plus random bits of at most 49", err);
    a->rounding = q.rounding;
    a->overflow = q.overflow;
    a->sr_bits = fpl_is_stochastic(q.rounding) ? q.sr_bits : 0;
    a->format = q.format;
    *at += n;
    return FPL_OK;
}

static enum fpl_code read_align(const struct reading *r, const char *at, struct fpl_accumulator *a,
                                struct fpl_error *err) {
    const char *p = at;
    a->kind = FPL_ACC_ALIGN;
    a->terms = take_count(&p, FPL_ALIGN_MOST_TERMS);
    if (a->terms > 0 && take(&p, ",")) a->fraction = take_count(&p, FPL_ALIGN_MOST_FRACTION);
    if (a->fraction == 0)
        return refuse(r, at, "products per group, 1 to 1024, and fraction bits, 1 to 38, as in 32,13", err);
    if (*p == '\0') return FPL_OK;
    const enum fpl_code code = read_chunk(r, p, a, err);
    if (code == FPL_OK && a->chunk % a->terms != 0)
        return refuse(r, p, "a chunk length that is a multiple of the products per group", err);
    return code;
}

static int is_fp32(const struct fpl_accumulator *a) {
    const struct fpl_format *f = &a->format;
    return f->ebits == 8 && f->mbits == 23 && f->policy == FPL_IEEE && f->subnormals && f->bias == 127 &&
           a->rounding == FPL_RNE && a->overflow == FPL_OVF;
}

static enum fpl_code read_sum(const struct reading *r, const char *at, struct fpl_accumulator *a,
                              struct fpl_error *err) {
    if (take(&at, "align:")) return read_align(r, at, a, err);
    a->kind = take(&at, "chunk:") ? FPL_ACC_CHUNK : FPL_ACC_EACH;
    const enum fpl_code code = read_element(r, &at, a, err);
    if (code != FPL_OK) return code;
    if (a->kind == FPL_ACC_CHUNK || *at != '\0') return read_chunk(r, at, a, err);
    if (is_fp32(a)) { /* the default: nothing more to say */
        const uint8_t block = a->block;
        memset(a, 0, sizeof *a);
        a->block = block;
    }
    return FPL_OK;
}

enum fpl_code fpl_accumulator_parse(const char *text, struct fpl_accumulator *out, struct fpl_error *err) {
    struct reading r = {text, ""};
    struct fpl_accumulator a;
    const size_t n = strlen(text);
    if (n >= sizeof r.lower)
        return fpl_fail(err, FPL_INVALID,
                        "accumulator \"%.40s...\" has %zu characters; accepted: at most %zu", text, n,
                        sizeof r.lower - 1);
    for (size_t i = 0; i <= n; i++) r.lower[i] = (char)tolower((unsigned char)text[i]);
    memset(&a, 0, sizeof a);
    const char *at = r.lower;
    a.block = (uint8_t)take(&at, "block");
    const int alone = a.block && *at == '\0';
    if (a.block && !alone && !take(&at, ":")) return refuse(&r, at, "\":\" and a sum, or the end", err);
    for (const struct fpl_accumulator_unit *u = fpl_accumulator_units; u->name != NULL; u++) {
        if (strcmp(at, u->name) != 0) continue;
        memmove(r.lower, u->text, strlen(u->text) + 1);
        at = r.lower;
        break;
    }
    enum fpl_code code = FPL_OK;
    if (!alone) code = read_sum(&r, at, &a, err);
    if (code == FPL_OK) *out = a;
    return code;
}

/* ---- printing and lowering -------------------------------------------------------------------- */

static void print_element(const struct fpl_accumulator *a, char *buf, size_t size) {
    struct fpl_quantizer q;
    memset(&q, 0, sizeof q);
    q.format = a->format;
    q.rounding = a->rounding;
    q.overflow = a->overflow;
    q.sr_bits = a->sr_bits;
    fpl_quantizer_print(&q, buf, size);
}

int fpl_accumulator_print(const struct fpl_accumulator *a, char *buf, size_t size) {
    char element[FPL_QUANTIZER_TEXT] = "", chunk[16] = "";
    const char *block = a->block ? "block:" : "";
    if (a->kind == FPL_ACC_FP32) return snprintf(buf, size, "%s", a->block ? "block" : "fp32");
    if (a->chunk > 0) snprintf(chunk, sizeof chunk, "/%d", (int)a->chunk);
    if (a->kind == FPL_ACC_ALIGN)
        return snprintf(buf, size, "%salign:%d,%d%s", block, (int)a->terms, (int)a->fraction, chunk);
    print_element(a, element, sizeof element);
    return snprintf(buf, size, "%s%s%s%s", block, a->kind == FPL_ACC_CHUNK ? "chunk:" : "", element, chunk);
}

void fpl_accumulator_lower(const struct fpl_accumulator *a, struct fpl_accumulator_plan *plan) {
    const struct fpl_format fp32 = {
        .is_signed = 1, .ebits = 8, .mbits = 23, .subnormals = 1, .policy = FPL_IEEE, .bias = 127};
    const int has_element = a->kind == FPL_ACC_EACH || a->kind == FPL_ACC_CHUNK;
    memset(plan, 0, sizeof *plan);
    plan->kind = a->kind;
    plan->block = a->block;
    plan->chunk = a->chunk;
    plan->terms = a->terms;
    plan->fraction = a->fraction;
    if (has_element)
        fpl_round_lower(&a->format, a->rounding, a->sr_bits, a->overflow, &plan->round);
    else
        fpl_round_lower(&fp32, FPL_RNE, 16, FPL_OVF, &plan->round);
    plan->round.identity = 0;
}
