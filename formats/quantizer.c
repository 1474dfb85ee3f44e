/* quantizer.c - text form of quantizers, and lowering to a plan.
 *
 * The text is cut at its separators (":" "/" "+") and each piece is looked up in a table of
 * words (fpl_rounding_words and so on), so one row adds a word to the grammar, the canonical
 * text and the help.  Canonical text leaves out what is the default: rounding rne, the
 * format's own overflow policy, 16 random bits, scale rule fp32.
 *
 * Checked here, so that every parsed quantizer has a meaning: a scale rule needs a
 * granularity; two levels need a scale format; a format without zero (ue8m0) cannot be
 * scaled, because a group of zeros must stay zero.
 */
#include "quantizer.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

const struct fpl_word fpl_rounding_words[FPL_ROUNDINGS + 1] = {
    {"rne", "to nearest, ties to the even code"},
    {"rna", "to nearest, ties away from zero"},
    {"rtz", "toward zero"},
    {"rup", "toward +Inf"},
    {"rdn", "toward -Inf"},
    {"rto", "to odd: inexact results get an odd code"},
    {"sr", "stochastic, sr<r> with r random bits, 1 to 32, default 16"},
    {NULL, NULL},
};

const struct fpl_word fpl_overflow_words[FPL_OVERFLOWS + 1] = {
    {"sat", "clamp to the largest value, infinities too"},
    {"satp", "clamp finite values, keep infinities"},
    {"ovf", "as IEEE 754: Inf, else NaN, else clamp"},
    {NULL, NULL},
};

const struct fpl_word fpl_granularity_words[FPL_GRANULARITIES + 1] = {
    {"none", "no scale: values are rounded as they are"},
    {"tensor", "one scale for all"},
    {"row", "one scale per row"},
    {"col", "one scale per column"},
    {"RxC", "blocks of R rows by C columns along the reduction axis"},
    {NULL, NULL},
};

const struct fpl_word fpl_scale_words[FPL_SCALE_RULES + 1] = {
    {"fp32", "s = amax/largest in float32"},
    {"mul", "multiply by largest/amax, back by amax/largest (arXiv 2501.02423)"},
    {"e8m0", "power of two, 2^(floor(log2 amax) - floor(log2 largest)) (OCP MX 1.0); also `floor`"},
    {"rceil", "smallest power of two with largest * s >= amax (NVIDIA MXFP8)"},
    {"ceil", "power of two, 2^(ceil(log2 amax) - floor(log2 largest))"},
    {"even", "power of two, amax rounded to M mantissa bits, then as e8m0"},
    {"p3109", "amax itself, rounded to the nearest power of two"},
    {"FORMAT", "amax/largest rounded into a format; with +t two levels (arXiv 2509.25149)"},
    {NULL, NULL},
};

/* ---- parsing ---------------------------------------------------------------------------- */

struct pieces {
    const char *whole; /* for messages */
    char rest[FPL_QUANTIZER_TEXT];
    size_t at;
};

/* Copy up to the next of `stops` (or the end) into word, advance there. */
static void take_piece(struct pieces *p, const char *stops, char word[FPL_QUANTIZER_TEXT]) {
    const size_t n = strcspn(p->rest + p->at, stops);
    memcpy(word, p->rest + p->at, n);
    word[n] = '\0';
    p->at += n;
}

static int take_char(struct pieces *p, char c) {
    if (p->rest[p->at] != c) return 0;
    p->at++;
    return 1;
}

/* end: position after the offending word. */
static enum fpl_code refuse(const struct pieces *p, const char *word, const char *expected,
                            struct fpl_error *err) {
    return fpl_fail(err, FPL_INVALID, "quantizer \"%s\", character %zu: found \"%s\", expected %s", p->whole,
                    p->at - strlen(word) + 1, word, expected);
}

static int find_word(const struct fpl_word *words, const char *word) {
    for (int i = 0; words[i].name != NULL; i++)
        if (strcmp(words[i].name, word) == 0) return i;
    return -1;
}

/* Decimal digits, 1 .. most; 0 if it is anything else. */
static int32_t read_count(const char *digits, size_t n, int32_t most) {
    int64_t value = 0;
    if (n == 0 || digits[0] == '0') return 0;
    for (size_t i = 0; i < n; i++) {
        if (!isdigit((unsigned char)digits[i])) return 0;
        value = 10 * value + (digits[i] - '0');
        if (value > most) return 0;
    }
    return (int32_t)value;
}

static int read_rounding(const char *word, struct fpl_quantizer *q) {
    const int mode = find_word(fpl_rounding_words, word);
    if (mode >= 0) {
        q->rounding = (uint8_t)mode;
        return 1;
    }
    if (strncmp(word, "sr", 2) != 0) return 0;
    const int32_t bits = read_count(word + 2, strlen(word + 2), 32);
    q->rounding = FPL_SR;
    q->sr_bits = (uint8_t)bits;
    return bits > 0;
}

static int read_granularity(const char *word, struct fpl_quantizer *q) {
    static const uint8_t named[] = {FPL_TENSOR, FPL_ROW, FPL_COL};
    for (size_t i = 0; i < sizeof named; i++) {
        if (strcmp(word, fpl_granularity_words[named[i]].name) == 0) {
            q->granularity = named[i];
            return 1;
        }
    }
    const char *x = strchr(word, 'x');
    if (x == NULL) return 0;
    q->granularity = FPL_BLOCK;
    q->block_rows = read_count(word, (size_t)(x - word), INT32_MAX);
    q->block_cols = read_count(x + 1, strlen(x + 1), INT32_MAX);
    return q->block_rows > 0 && q->block_cols > 0;
}

static enum fpl_code read_scale(const struct pieces *p, const char *word, struct fpl_quantizer *q,
                                struct fpl_error *err) {
    const int rule = strcmp(word, "floor") == 0 ? FPL_SCALE_FLOOR : find_word(fpl_scale_words, word);
    if (rule >= 0) {
        q->scale_rule = (uint8_t)rule;
        return FPL_OK;
    }
    q->scale_rule = FPL_SCALE_FORMAT;
    if (fpl_format_parse(word, &q->scale_format, NULL) == FPL_OK) return FPL_OK;
    return refuse(p, word, "a scale rule: fp32, mul, e8m0, floor, rceil, ceil, even, p3109 or a format", err);
}

/* ":" rounding, then ":" overflow; each may be missing. */
static enum fpl_code parse_modes(struct pieces *p, struct fpl_quantizer *q, struct fpl_error *err) {
    char word[FPL_QUANTIZER_TEXT];
    int more = take_char(p, ':');
    if (!more) return FPL_OK;
    take_piece(p, ":/+", word);
    if (read_rounding(word, q)) {
        if (!take_char(p, ':')) return FPL_OK;
        take_piece(p, ":/+", word);
    } else if (find_word(fpl_overflow_words, word) < 0) {
        return refuse(
            p, word,
            "a rounding (rne, rna, rtz, rup, rdn, rto, sr, sr1 to sr32) or an overflow (sat, satp, ovf)",
            err);
    }
    const int overflow = find_word(fpl_overflow_words, word);
    if (overflow < 0) return refuse(p, word, "an overflow: sat, satp or ovf", err);
    q->overflow = (uint8_t)overflow;
    return FPL_OK;
}

/* granularity [ ":" scale ] [ "+t" ], after the "/" */
static enum fpl_code parse_scaling(struct pieces *p, struct fpl_quantizer *q, struct fpl_error *err) {
    char word[FPL_QUANTIZER_TEXT];
    take_piece(p, ":+", word);
    if (!read_granularity(word, q))
        return refuse(p, word, "a granularity: tensor, row, col, or rows x columns as in 1x32", err);
    if (take_char(p, ':')) {
        take_piece(p, "+", word);
        const enum fpl_code code = read_scale(p, word, q, err);
        if (code != FPL_OK) return code;
    }
    if (take_char(p, '+')) {
        take_piece(p, "", word);
        if (strcmp(word, "t") != 0) return refuse(p, word, "\"t\" (two-level scaling, \"+t\")", err);
        if (q->scale_rule != FPL_SCALE_FORMAT)
            return refuse(p, word, "two-level scaling only after a scale format, as in :e4m3fn+t", err);
        q->two_level = 1;
    }
    if (q->format.is_scale)
        return fpl_fail(err, FPL_INVALID,
                        "quantizer \"%s\": ue8m0 has no zero and cannot be scaled; accepted: ue8m0 alone",
                        p->whole);
    return FPL_OK;
}

enum fpl_code fpl_quantizer_parse(const char *text, struct fpl_quantizer *out, struct fpl_error *err) {
    struct pieces p = {text, "", 0};
    struct fpl_quantizer q;
    char word[FPL_QUANTIZER_TEXT];
    const size_t n = strlen(text);
    if (n >= sizeof p.rest)
        return fpl_fail(err, FPL_INVALID, "quantizer \"%.40s...\" has %zu characters; accepted: at most %zu",
                        text, n, sizeof p.rest - 1);
    for (size_t i = 0; i <= n; i++) p.rest[i] = (char)tolower((unsigned char)text[i]);

    memset(&q, 0, sizeof q);
    q.sr_bits = 16;
    if (strcmp(p.rest, "-") == 0) {
        q.identity = 1;
        *out = q;
        return FPL_OK;
    }
    take_piece(&p, ":/+", word);
    enum fpl_code code = fpl_format_parse(word, &q.format, err);
    if (code != FPL_OK) return fpl_fail_at(err, "quantizer \"%s\"", text);
    q.overflow = (uint8_t)fpl_format_default_overflow(&q.format);
    code = parse_modes(&p, &q, err);
    if (code == FPL_OK && take_char(&p, '/'))
        code = parse_scaling(&p, &q, err);
    else if (code == FPL_OK && p.rest[p.at] != '\0')
        code = fpl_fail(err, FPL_INVALID,
                        "quantizer \"%s\", character %zu: found \"%s\", expected \"/\" and a granularity "
                        "(tensor, row, col, or as 1x32), or the end",
                        text, p.at + 1, p.rest + p.at);
    if (code == FPL_OK) *out = q;
    return code;
}

/* ---- printing and lowering ----------------------------------------------------------------- */

static void print_scaling(const struct fpl_quantizer *q, char *buf, size_t size) {
    char granularity[32], scale[48] = "";
    if (q->granularity == FPL_BLOCK)
        snprintf(granularity, sizeof granularity, "%dx%d", (int)q->block_rows, (int)q->block_cols);
    else
        snprintf(granularity, sizeof granularity, "%s", fpl_granularity_words[q->granularity].name);
    if (q->scale_rule == FPL_SCALE_FORMAT) {
        scale[0] = ':';
        fpl_format_print(&q->scale_format, scale + 1, sizeof scale - 1);
    } else if (q->scale_rule != FPL_SCALE_FP32) {
        snprintf(scale, sizeof scale, ":%s", fpl_scale_words[q->scale_rule].name);
    }
    snprintf(buf, size, "/%s%s%s", granularity, scale, q->two_level ? "+t" : "");
}

int fpl_quantizer_print(const struct fpl_quantizer *q, char *buf, size_t size) {
    if (q->identity) return snprintf(buf, size, "-");
    char format[48], rounding[8] = "", overflow[8] = "", scaling[96] = "";
    fpl_format_print(&q->format, format, sizeof format);
    if (q->rounding == FPL_SR && q->sr_bits != 16)
        snprintf(rounding, sizeof rounding, ":sr%d", q->sr_bits);
    else if (q->rounding != FPL_RNE)
        snprintf(rounding, sizeof rounding, ":%s", fpl_rounding_words[q->rounding].name);
    if (q->overflow != fpl_format_default_overflow(&q->format))
        snprintf(overflow, sizeof overflow, ":%s", fpl_overflow_words[q->overflow].name);
    if (q->granularity != FPL_UNSCALED) print_scaling(q, scaling, sizeof scaling);
    return snprintf(buf, size, "%s%s%s%s", format, rounding, overflow, scaling);
}

/* A rounder that changes nothing: fp32's. */
static void lower_identity(struct fpl_round *out) {
    const struct fpl_format fp32 = {1, 8, 23, 1, FPL_IEEE, 0, 127};
    fpl_round_lower(&fp32, FPL_RNE, 16, FPL_OVF, out);
}

void fpl_quantizer_lower(const struct fpl_quantizer *q, const struct fpl_format *post,
                         struct fpl_quantizer_plan *plan) {
    memset(plan, 0, sizeof *plan);
    lower_identity(&plan->round);
    lower_identity(&plan->scale);
    lower_identity(&plan->post);
    plan->largest = plan->scale_largest = 1.0f;
    plan->block_rows = plan->block_cols = 1;
    if (post != NULL) fpl_round_lower(post, FPL_RNE, 16, fpl_format_default_overflow(post), &plan->post);
    plan->identity = 1;
    if (q->identity) return;

    fpl_round_lower(&q->format, q->rounding, q->sr_bits, q->overflow, &plan->round);
    plan->identity = q->granularity == FPL_UNSCALED && plan->round.identity;
    plan->granularity = q->granularity;
    plan->scale_rule = q->scale_rule;
    plan->two_level = q->two_level;
    plan->largest = plan->round.largest;
    plan->largest_exponent = fpl_exponent(plan->largest);
    if (q->granularity == FPL_BLOCK) {
        plan->block_rows = q->block_rows;
        plan->block_cols = q->block_cols;
    }
    if (q->granularity != FPL_UNSCALED && q->scale_rule == FPL_SCALE_FORMAT) {
        fpl_round_lower(&q->scale_format, FPL_RNE, 16, FPL_SAT, &plan->scale);
        plan->scale_largest = plan->scale.largest;
    }
}
