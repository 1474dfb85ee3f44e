/* quantizer.c - text form of quantizers.
 *
 * The text is cut at its separators (":" "/" "+") and each piece is looked up in a table of
 * words (fpl_rounding_words and so on), so one row adds a word to the grammar, the canonical
 * text and the help.  Canonical text leaves out what is the default: rounding rne, the
 * format's own overflow policy, 16 random bits, scale rule fp32.
 *
 * Checked here, so that every parsed quantizer has a meaning: a scale rule needs a
 * granularity; two levels need a scale format; a format or codebook without zero cannot be
 * scaled, because a group of zeros must stay zero; zero points, searches and delayed scaling
 * name what they go with.
 */
#include "quantizer.h"

#include "codebook.h"

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
    {"sr", "stochastic, sr<r> with r random bits, 1 to 32, default 16 (P3109 StochasticA)"},
    {"srb", "as sr, the fraction to r bits to nearest, halves up (P3109 StochasticB); sr<r>b"},
    {"src", "as sr, the fraction to r bits to nearest, halves to even (P3109 StochasticC); sr<r>c"},
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
    {"delayed", "as fp32 from the amax of the H steps before, times 2^K: delayed<H>m<K>, tensor only"},
    {NULL, NULL},
};

const struct fpl_word fpl_flag_words[5] = {
    {"t", "two-level scale: the tensor's in float32, the group's in the scale format"},
    {"z", "zero point from min and max: uint1 to uint16"},
    {"mse", "of 45 scales, 1/8 to 3/2 of the rule's, the one with the least squared error"},
    {"46", "four over six: amax to 6 or to 4, by squared error: e2m1 (arXiv 2512.02010)"},
    {NULL, NULL},
};

/* ---- parsing ---------------------------------------------------------------------------- */

struct pieces {
    const char *whole; /* as given: file names keep their case, messages their text */
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

/* The element: up to a separator, or with a file's name up to the closing parenthesis. */
static void take_element(struct pieces *p, char word[FPL_QUANTIZER_TEXT]) {
    const size_t n = strcspn(p->rest, ":/+("), close = strcspn(p->rest, ")");
    const size_t end = p->rest[n] == '(' && p->rest[close] == ')' ? close + 1 : strcspn(p->rest, ":/+");
    memcpy(word, p->whole, end);
    word[end] = '\0';
    p->at = end;
}

static int take_char(struct pieces *p, char c) {
    if (p->rest[p->at] != c) return 0;
    p->at++;
    return 1;
}

/* p->at: position after the offending word. */
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

/* "sr" [ digits ] [ "a" | "b" | "c" ] */
static int read_stochastic(const char *word, struct fpl_quantizer *q) {
    if (strncmp(word, "sr", 2) != 0) return 0;
    const size_t digits = strspn(word + 2, "0123456789");
    const char *variant = word + 2 + digits;
    if (variant[0] != '\0' && (strchr("abc", variant[0]) == NULL || variant[1] != '\0')) return 0;
    q->rounding = variant[0] == 'b' ? FPL_SRB : variant[0] == 'c' ? FPL_SRC : FPL_SR;
    q->sr_bits = digits == 0 ? 16 : (uint8_t)read_count(word + 2, digits, 32);
    return q->sr_bits > 0;
}

static int read_rounding(const char *word, struct fpl_quantizer *q) {
    const int mode = find_word(fpl_rounding_words, word);
    if (mode < 0 || fpl_is_stochastic(mode)) return read_stochastic(word, q);
    q->rounding = (uint8_t)mode;
    return 1;
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

/* "delayed" [ digits ] [ "m" digits ] */
static enum fpl_code read_delayed(const struct pieces *p, const char *word, struct fpl_quantizer *q,
                                  struct fpl_error *err) {
    const char *history = word + strlen("delayed"), *margin = history + strspn(history, "0123456789");
    const size_t digits = (size_t)(margin - history);
    const int zero = strcmp(margin, "m0") == 0, none = margin[0] == '\0';
    const int32_t h = digits == 0 ? 16 : read_count(history, digits, FPL_HISTORY_MOST);
    const int32_t k =
        none || zero || margin[0] != 'm' ? 0 : read_count(margin + 1, strlen(margin + 1), FPL_MARGIN_MOST);
    if (h == 0 || (k == 0 && !none && !zero))
        return refuse(p, word, "delayed<steps>m<margin> as in delayed16m1: 1 to 1024 steps, margin 0 to 31",
                      err);
    if (q->granularity != FPL_TENSOR)
        return refuse(p, word, "a rule that looks at the group: delayed scaling is for /tensor only", err);
    q->scale_rule = FPL_SCALE_DELAYED;
    q->history = (uint16_t)h;
    q->margin = (uint8_t)k;
    return FPL_OK;
}

static enum fpl_code read_scale(const struct pieces *p, const char *word, struct fpl_quantizer *q,
                                struct fpl_error *err) {
    if (strncmp(word, "delayed", strlen("delayed")) == 0) return read_delayed(p, word, q, err);
    const int rule = strcmp(word, "floor") == 0 ? FPL_SCALE_FLOOR : find_word(fpl_scale_words, word);
    if (rule >= 0) {
        q->scale_rule = (uint8_t)rule;
        return FPL_OK;
    }
    q->scale_rule = FPL_SCALE_FORMAT;
    if (fpl_format_parse(word, &q->scale_format, NULL) == FPL_OK) return FPL_OK;
    return refuse(p, word,
                  "a scale rule: fp32, mul, e8m0, floor, rceil, ceil, even, p3109, delayed or a format", err);
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
            "a rounding (rne, rna, rtz, rup, rdn, rto, sr, sr1 to sr32, with a, b or c after it) or "
            "an overflow (sat, satp, ovf)",
            err);
    }
    const int overflow = find_word(fpl_overflow_words, word);
    if (overflow < 0) return refuse(p, word, "an overflow: sat, satp or ovf", err);
    q->overflow = (uint8_t)overflow;
    return FPL_OK;
}

static int is_plain_unsigned_integer(const struct fpl_format *f) {
    return f->codebook == 0 && !f->is_signed && !f->is_scale && f->ebits == 0 && f->bias == 0 &&
           f->mbits <= 16;
}

static int is_e2m1(const struct fpl_format *f) {
    struct fpl_format e2m1;
    return fpl_format_parse("e2m1", &e2m1, NULL) == FPL_OK && fpl_format_equal(f, &e2m1);
}

/* A flag with what it asks of the rest. */
static enum fpl_code read_flag(const struct pieces *p, const char *word, struct fpl_quantizer *q,
                               struct fpl_error *err) {
    const int delayed = q->scale_rule == FPL_SCALE_DELAYED;
    switch (find_word(fpl_flag_words, word)) {
    case 0:
        if (q->scale_rule != FPL_SCALE_FORMAT)
            return refuse(p, word, "two-level scaling only after a scale format, as in :e4m3fn+t", err);
        if (q->two_level) break;
        q->two_level = 1;
        return FPL_OK;
    case 1:
        if (!is_plain_unsigned_integer(&q->format))
            return refuse(p, word, "a zero point only with uint1 to uint16, as in uint4/1x32+z", err);
        if (delayed) return refuse(p, word, "a zero point only with a rule that looks at min and max", err);
        if (q->zero_point) break;
        q->zero_point = 1;
        return FPL_OK;
    case 2:
        if (delayed) return refuse(p, word, "a search only with a rule that looks at the values", err);
        if (q->search != FPL_SEARCH_NONE) break;
        q->search = FPL_SEARCH_MSE;
        return FPL_OK;
    case 3:
        if (!is_e2m1(&q->format) || (q->scale_rule != FPL_SCALE_FP32 && q->scale_rule != FPL_SCALE_FORMAT))
            return refuse(p, word,
                          "four over six only with e2m1 and a scale in fp32 or a format, as in "
                          "e2m1/1x16:e4m3fn+t+46",
                          err);
        if (q->search != FPL_SEARCH_NONE) break;
        q->search = FPL_SEARCH_46;
        return FPL_OK;
    default:
        return refuse(p, word, "\"t\" (two-level scaling, \"+t\"), z (zero point), mse or 46 (scale search)",
                      err);
    }
    return refuse(p, word, "each flag once, and one of mse and 46", err);
}

/* granularity [ ":" scale ] { "+" flag }, after the "/" */
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
    while (take_char(p, '+')) {
        take_piece(p, "+", word);
        const enum fpl_code code = read_flag(p, word, q, err);
        if (code != FPL_OK) return code;
    }
    if (q->format.is_scale)
        return fpl_fail(err, FPL_INVALID,
                        "quantizer \"%s\": ue8m0 has no zero and cannot be scaled; accepted: ue8m0 alone",
                        p->whole);
    return FPL_OK;
}

/* Roundings that a codebook has a meaning for, and a largest magnitude to scale to. */
static enum fpl_code check_codebook(const char *text, const struct fpl_quantizer *q, struct fpl_error *err) {
    const struct fpl_codebook *c = fpl_codebook_find(q->format.codebook);
    if (q->rounding == FPL_RTO)
        return fpl_fail(err, FPL_INVALID,
                        "quantizer \"%s\": rto has no meaning for a codebook; accepted: rne, rna, rtz, rup, "
                        "rdn, sr",
                        text);
    int has_zero = c == NULL, has_other = c == NULL;
    for (int32_t i = 0; c != NULL && i < c->count; i++) {
        has_zero |= c->values[i] == 0.0f;
        has_other |= c->values[i] != 0.0f;
    }
    if (q->rounding == FPL_RTZ && !has_zero)
        return fpl_fail(
            err, FPL_INVALID,
            "quantizer \"%s\": rtz needs a codebook with a zero; accepted: rne, rna, rup, rdn, sr", text);
    if (q->granularity != FPL_UNSCALED && !has_zero)
        return fpl_fail(err, FPL_INVALID,
                        "quantizer \"%s\": a codebook without a zero cannot be scaled, because a group of "
                        "zeros stays zero; accepted: a zero among the values, or no granularity",
                        text);
    if (q->granularity != FPL_UNSCALED && !has_other)
        return fpl_fail(err, FPL_INVALID,
                        "quantizer \"%s\": a codebook of nothing but zero cannot be scaled; accepted: a "
                        "value that is not zero",
                        text);
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
    take_element(&p, word);
    enum fpl_code code = fpl_element_parse(word, &q.format, err);
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
    if (code == FPL_OK && q.format.codebook != 0) code = check_codebook(text, &q, err);
    if (code == FPL_OK) *out = q;
    return code;
}

/* ---- printing --------------------------------------------------------------------------------- */

static void print_scale(const struct fpl_quantizer *q, char *buf, size_t size) {
    if (q->scale_rule == FPL_SCALE_FORMAT) {
        char format[48];
        fpl_format_print(&q->scale_format, format, sizeof format);
        snprintf(buf, size, ":%s", format);
    } else if (q->scale_rule == FPL_SCALE_DELAYED) {
        char history[8] = "", margin[8] = "";
        if (q->history != 16) snprintf(history, sizeof history, "%u", (unsigned)q->history);
        if (q->margin != 0) snprintf(margin, sizeof margin, "m%u", (unsigned)q->margin);
        snprintf(buf, size, ":delayed%s%s", history, margin);
    } else if (q->scale_rule != FPL_SCALE_FP32) {
        snprintf(buf, size, ":%s", fpl_scale_words[q->scale_rule].name);
    }
}

static void print_scaling(const struct fpl_quantizer *q, char *buf, size_t size) {
    static const char *const searches[FPL_SEARCHES] = {"", "+mse", "+46"};
    char granularity[32], scale[64] = "";
    if (q->granularity == FPL_BLOCK)
        snprintf(granularity, sizeof granularity, "%dx%d", (int)q->block_rows, (int)q->block_cols);
    else
        snprintf(granularity, sizeof granularity, "%s", fpl_granularity_words[q->granularity].name);
    print_scale(q, scale, sizeof scale);
    snprintf(buf, size, "/%s%s%s%s%s", granularity, scale, q->two_level ? "+t" : "",
             q->zero_point ? "+z" : "", searches[q->search]);
}

int fpl_quantizer_print(const struct fpl_quantizer *q, char *buf, size_t size) {
    static const char *const variants[FPL_ROUNDINGS] = {[FPL_SRB] = "b", [FPL_SRC] = "c"};
    if (q->identity) return snprintf(buf, size, "-");
    char format[48], rounding[16] = "", overflow[8] = "", scaling[128] = "";
    fpl_format_print(&q->format, format, sizeof format);
    if (fpl_is_stochastic(q->rounding) && q->sr_bits != 16)
        snprintf(rounding, sizeof rounding, ":sr%d%s", q->sr_bits,
                 variants[q->rounding] != NULL ? variants[q->rounding] : "");
    else if (q->rounding != FPL_RNE)
        snprintf(rounding, sizeof rounding, ":%s", fpl_rounding_words[q->rounding].name);
    if (q->overflow != fpl_format_default_overflow(&q->format))
        snprintf(overflow, sizeof overflow, ":%s", fpl_overflow_words[q->overflow].name);
    if (q->granularity != FPL_UNSCALED) print_scaling(q, scaling, sizeof scaling);
    return snprintf(buf, size, "%s%s%s%s", format, rounding, overflow, scaling);
}
