/* format_text.c - element formats as text.
 *
 * Canonical text: the alias where the registry marks one as printed (bf16, int8, ue8m0),
 * else eXmY with bias, policy and ns only where they are not the default.  M = 0 and E = 0
 * have no subnormals to leave out: `ns` is then dropped or refused, so that equal value
 * sets of one (E, M, bias, policy) have one struct.  A codebook is printed by its name or by
 * the hash of its content, never by its file.
 *
 * Messages give the position of what was not understood and what would be accepted there.
 */
#include "format.h"

#include "codebook.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const fpl_policy_names[FPL_POLICIES + 1] = {"finite", "ieee",   "fn", "fnuz",
                                                        "p3109e", "p3109f", NULL};

const char *const fpl_policy_meanings[FPL_POLICIES + 1] = {
    "no code is reserved (OCP MX e2m1, e3m2, e2m3; arXiv 2501.02423)",
    "the top exponent holds Inf and NaN (IEEE 754; OCP E5M2)",
    "only the all-ones code is NaN, no Inf (OCP E4M3)",
    "NaN is the negative-zero code, one zero, bias one larger",
    "IEEE P3109 with infinities: NaN is the sign bit alone, one zero, bias one larger",
    "IEEE P3109 without infinities",
    NULL};

const struct fpl_format_alias fpl_format_aliases[] = {
    {"fp32", "e8m23ieee", "IEEE 754-2019 binary32", 1},
    {"tf32", "e8m10ieee", "NVIDIA A100", 1},
    {"bf16", "e8m7ieee", "Google Brain", 1},
    {"fp16", "e5m10ieee", "IEEE 754-2019 binary16", 1},
    {"fp8_e4m3", "e4m3fn", "OCP OFP8 1.0", 0},
    {"fp8_e5m2", "e5m2ieee", "OCP OFP8 1.0", 0},
    {"fp6_e3m2", "e3m2", "OCP MX 1.0", 0},
    {"fp6_e2m3", "e2m3", "OCP MX 1.0", 0},
    {"fp4_e2m1", "e2m1", "OCP MX 1.0", 0},
    {"int2", "e0m1", "symmetric integer", 1},
    {"int3", "e0m2", "symmetric integer", 1},
    {"int4", "e0m3", "symmetric integer", 1},
    {"int5", "e0m4", "symmetric integer", 1},
    {"int6", "e0m5", "symmetric integer", 1},
    {"int7", "e0m6", "symmetric integer", 1},
    {"int8", "e0m7", "symmetric integer", 1},
    {"int9", "e0m8", "symmetric integer", 1},
    {"int10", "e0m9", "symmetric integer", 1},
    {"int11", "e0m10", "symmetric integer", 1},
    {"int12", "e0m11", "symmetric integer", 1},
    {"int13", "e0m12", "symmetric integer", 1},
    {"int14", "e0m13", "symmetric integer", 1},
    {"int15", "e0m14", "symmetric integer", 1},
    {"int16", "e0m15", "symmetric integer", 1},
    {"uint1", "ue0m1", "unsigned integer", 0},
    {"uint2", "ue0m2", "unsigned integer", 0},
    {"uint3", "ue0m3", "unsigned integer", 0},
    {"uint4", "ue0m4", "unsigned integer", 0},
    {"uint5", "ue0m5", "unsigned integer", 0},
    {"uint6", "ue0m6", "unsigned integer", 0},
    {"uint7", "ue0m7", "unsigned integer", 0},
    {"uint8", "ue0m8", "unsigned integer", 0},
    {"uint9", "ue0m9", "unsigned integer", 0},
    {"uint10", "ue0m10", "unsigned integer", 0},
    {"uint11", "ue0m11", "unsigned integer", 0},
    {"uint12", "ue0m12", "unsigned integer", 0},
    {"uint13", "ue0m13", "unsigned integer", 0},
    {"uint14", "ue0m14", "unsigned integer", 0},
    {"uint15", "ue0m15", "unsigned integer", 0},
    {"uint16", "ue0m16", "unsigned integer", 0},
    {"mxint8", "e0m7b6", "OCP MX 1.0", 1},
    {"ue8m0", "ue8m0", "OCP MX 1.0, scales", 1},
    {"e8m0", "ue8m0", "OCP MX 1.0, scales", 0},
    {"ue4m3fn", "ue4m3fn", "arXiv 2509.25149, scales", 0},
    {"ue5m3fn", "ue5m3fn", "scales", 0},
    {NULL, NULL, NULL, 0},
};

/* ---- parsing ------------------------------------------------------------------------- */

struct cursor {
    const char *text; /* lower case */
    size_t at;
};

static int take(struct cursor *c, const char *word) {
    const size_t n = strlen(word);
    if (strncmp(c->text + c->at, word, n) != 0) return 0;
    c->at += n;
    return 1;
}

/* One to four digits without a leading zero; -1 if there are none. */
static int take_number(struct cursor *c) {
    const char *p = c->text + c->at;
    int n = 0, value = 0;
    while (n < 4 && isdigit((unsigned char)p[n])) value = 10 * value + (p[n++] - '0');
    if (n == 0 || (n > 1 && p[0] == '0') || isdigit((unsigned char)p[n])) return -1;
    c->at += (size_t)n;
    return value;
}

/* A letter and a field width of at most `most` bits; -1, at the offending character, if not. */
static int take_width(struct cursor *c, const char *letter, int most) {
    if (!take(c, letter)) return -1;
    const size_t digits = c->at;
    const int width = take_number(c);
    if (width <= most) return width;
    c->at = digits;
    return -1;
}

static enum fpl_code unexpected(const struct cursor *c, const char *expected, struct fpl_error *err) {
    char found[16] = "the end";
    if (c->text[c->at] != '\0') snprintf(found, sizeof found, "\"%.8s\"", c->text + c->at);
    return fpl_fail(err, FPL_INVALID, "format \"%s\", character %zu: found %s, expected %s", c->text,
                    c->at + 1, found, expected);
}

static void take_policy(struct cursor *c, struct fpl_format *f) {
    static const uint8_t longest_first[] = {FPL_P3109E, FPL_P3109F, FPL_FINITE, FPL_IEEE, FPL_FNUZ, FPL_FN};
    f->policy = FPL_FINITE;
    for (size_t i = 0; i < sizeof longest_first; i++) {
        if (take(c, fpl_policy_names[longest_first[i]])) {
            f->policy = longest_first[i];
            return;
        }
    }
}

/* What eXmY with this policy cannot be, whatever its bias. */
static enum fpl_code check_shape(const char *text, const struct fpl_format *f, struct fpl_error *err) {
    const char *policy = fpl_policy_names[f->policy];
    if (f->ebits == 0 && f->policy != FPL_FINITE)
        return fpl_fail(err, FPL_INVALID, "format \"%s\": e0 formats have no codes for %s; accepted: e0m%d",
                        text, policy, f->mbits);
    if (f->ebits == 0 && (f->mbits == 0 || !f->subnormals))
        return fpl_fail(err, FPL_INVALID,
                        "format \"%s\" has no value but zero; accepted: e0m1 to e0m23, without ns", text);
    if (f->policy == FPL_IEEE && (f->ebits < 2 || f->mbits < 1))
        return fpl_fail(err, FPL_INVALID,
                        "format \"%s\": ieee needs 2 or more exponent bits and 1 or more mantissa bits",
                        text);
    if (!f->is_signed && f->policy == FPL_FNUZ)
        return fpl_fail(err, FPL_INVALID,
                        "format \"%s\": fnuz puts its NaN at the sign bit, which an unsigned format lacks; "
                        "accepted: finite, ieee, fn, p3109e, p3109f",
                        text);
    const int32_t top = (int32_t)fpl_format_top_code(f);
    if (top <= 0 || (!f->subnormals && f->ebits > 0 && top < (int32_t)1 << f->mbits))
        return fpl_fail(err, FPL_INVALID,
                        "format \"%s\" has no value but zero; accepted: more bits, or finite", text);
    return FPL_OK;
}

/* Largest value below 2^128 and smallest quantum at least 2^-149: every value is a float32. */
static enum fpl_code check_range(const char *text, const struct fpl_format *f, struct fpl_error *err) {
    struct fpl_format_limits limits;
    fpl_format_limits(f, &limits);
    const int quantum = limits.emin - f->mbits;
    if (limits.emax <= 127 && quantum >= -149) return FPL_OK;
    const int low = f->bias + limits.emax - 127, high = f->bias + quantum + 149;
    char accepted[64] = "fewer exponent or mantissa bits";
    if (low <= high) snprintf(accepted, sizeof accepted, "a bias from b%d to b%d", low, high);
    const char *ieee = f->policy != FPL_IEEE && f->ebits == 8 && f->mbits > 0 ? ", or the policy ieee" : "";
    if (limits.emax > 127)
        return fpl_fail(err, FPL_INVALID,
                        "format \"%s\": its largest value, %g, is beyond float32; accepted: %s%s", text,
                        limits.largest, accepted, ieee);
    return fpl_fail(err, FPL_INVALID,
                    "format \"%s\": its smallest step, 2^%d, is below float32's 2^-149; accepted: %s%s", text,
                    quantum, accepted, ieee);
}

/* eXmY and its suffixes; text is lower case. */
static enum fpl_code parse_structure(const char *text, struct fpl_format *out, struct fpl_error *err) {
    struct cursor c = {text, 0};
    struct fpl_format f;
    memset(&f, 0, sizeof f);
    f.is_signed = !take(&c, "u");
    const int ebits = take_width(&c, "e", 8);
    if (ebits < 0) return unexpected(&c, "exponent bits e0 to e8, as in e4m3fn", err);
    const int mbits = take_width(&c, "m", 23);
    if (mbits < 0) return unexpected(&c, "mantissa bits m0 to m23, as in e4m3fn", err);
    f.ebits = (uint8_t)ebits;
    f.mbits = (uint8_t)mbits;
    f.subnormals = 1;
    if (!f.is_signed && f.ebits == 8 && f.mbits == 0 && text[c.at] == '\0') {
        f.is_scale = 1;
        f.policy = FPL_FN;
        f.bias = 127;
        *out = f;
        return FPL_OK;
    }

    const int biased = take(&c, "b"), negative = biased && take(&c, "-");
    const int bias = biased ? take_number(&c) : 0;
    if (bias < 0) return unexpected(&c, "a bias of 1 to 4 digits, as in b11", err);
    take_policy(&c, &f);
    f.bias = (int16_t)(!biased ? fpl_format_default_bias(f.ebits, f.policy) : negative ? -bias : bias);
    if (take(&c, "ns")) f.subnormals = f.mbits == 0 && f.ebits > 0;
    if (text[c.at] != '\0')
        return unexpected(&c, "b<bias>, then finite, ieee, fn, fnuz, p3109e or p3109f, then ns, or the end",
                          err);

    enum fpl_code code = check_shape(text, &f, err);
    if (code == FPL_OK) code = check_range(text, &f, err);
    if (code == FPL_OK) *out = f;
    return code;
}

static enum fpl_code unknown_name(const char *text, struct fpl_error *err) {
    const char *names[sizeof fpl_format_aliases / sizeof fpl_format_aliases[0] + 8];
    size_t n = 0, from = 0; /* room for eight codebooks */
    for (; fpl_format_aliases[n].name != NULL; n++) names[n] = fpl_format_aliases[n].name;
    for (; fpl_named_codebooks[from].name != NULL; from++) {
        if (strcmp(text, fpl_named_codebooks[from].name) == 0)
            return fpl_fail(err, FPL_INVALID,
                            "format \"%s\" is a codebook, which only a quantizer's elements may be; "
                            "accepted here: e<bits>m<bits> as in e4m3fn, or an alias as bf16",
                            text);
        names[n++] = fpl_named_codebooks[from].name;
    }
    names[n] = NULL;
    const char *near = fpl_nearest_word(text, names);
    return fpl_fail(
        err, FPL_INVALID,
        "format \"%s\", character 1: expected e<bits>m<bits> as in e4m3fn, or one of fp32, tf32, bf16, "
        "fp16, fp8_e4m3, fp8_e5m2, fp6_e3m2, fp6_e2m3, fp4_e2m1, int2 to int16, uint1 to uint16, "
        "mxint8, ue8m0, and for elements nf4, codebook(FILE)%s%s%s",
        text, near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
}

enum fpl_code fpl_format_parse(const char *text, struct fpl_format *out, struct fpl_error *err) {
    char lower[48];
    size_t n = strlen(text);
    if (n >= sizeof lower)
        return fpl_fail(err, FPL_INVALID, "format \"%.40s...\" has %zu characters; accepted: at most %zu",
                        text, n, sizeof lower - 1);
    for (size_t i = 0; i <= n; i++) lower[i] = (char)tolower((unsigned char)text[i]);
    for (const struct fpl_format_alias *a = fpl_format_aliases; a->name != NULL; a++)
        if (strcmp(lower, a->name) == 0) return parse_structure(a->text, out, err);
    const char *digits = lower + (lower[0] == 'u');
    if (digits[0] != 'e') return unknown_name(lower, err);
    return parse_structure(lower, out, err);
}

/* "codebook(" name ")" in lower case up to the name, which is as the user wrote it. */
static enum fpl_code parse_codebook(const char *text, struct fpl_format *out, struct fpl_error *err) {
    const size_t open = strlen("codebook("), length = strlen(text);
    char path[512];
    if (length < open || text[open - 1] != '(' || text[length - 1] != ')' || length == open + 1)
        return fpl_fail(err, FPL_INVALID,
                        "format \"%.80s\": expected codebook(FILE), a file of numbers, or codebook(#HASH)",
                        text);
    const size_t n = length - open - 1;
    if (n >= sizeof path)
        return fpl_fail(err, FPL_INVALID, "codebook: a file name of %zu characters; accepted: at most %zu", n,
                        sizeof path - 1);
    memcpy(path, text + open, n);
    path[n] = '\0';
    if (strpbrk(path, "();\n\r\t") != NULL)
        return fpl_fail(err, FPL_INVALID,
                        "codebook \"%s\": accepted: a file name without parentheses, semicolons and control "
                        "characters",
                        path);
    struct fpl_format f;
    memset(&f, 0, sizeof f);
    f.is_signed = 1;
    if (path[0] == '#') {
        const int digits = n == 17 && strspn(path + 1, "0123456789abcdefABCDEF") == 16;
        f.codebook = digits ? strtoull(path + 1, NULL, 16) : 0;
        if (f.codebook == 0)
            return fpl_fail(err, FPL_INVALID, "codebook \"%s\": expected 16 hex digits after #", path);
    } else {
        const struct fpl_codebook *c;
        const enum fpl_code code = fpl_codebook_read(path, &c, err);
        if (code != FPL_OK) return code;
        f.codebook = c->hash;
    }
    *out = f;
    return FPL_OK;
}

enum fpl_code fpl_element_parse(const char *text, struct fpl_format *out, struct fpl_error *err) {
    char lower[16];
    size_t n = 0;
    for (; n + 1 < sizeof lower && text[n] != '\0'; n++) lower[n] = (char)tolower((unsigned char)text[n]);
    lower[n] = '\0';
    for (const struct fpl_named_codebook *c = fpl_named_codebooks; c->name != NULL; c++) {
        const struct fpl_codebook *known;
        if (strcmp(lower, c->name) != 0) continue;
        const enum fpl_code code =
            fpl_codebook_add(c->values, (size_t)c->count, NULL, &known, err); /* finds its row */
        if (code != FPL_OK) return code;
        memset(out, 0, sizeof *out);
        out->is_signed = 1;
        out->codebook = known->hash;
        return FPL_OK;
    }
    if (strncmp(lower, "codebook", 8) == 0) return parse_codebook(text, out, err);
    return fpl_format_parse(text, out, err);
}

static int print_codebook(const struct fpl_format *f, char *buf, size_t size) {
    const struct fpl_codebook *c = fpl_codebook_find(f->codebook);
    if (c != NULL && c->name != NULL) return snprintf(buf, size, "%s", c->name);
    return snprintf(buf, size, "codebook(#%016llx)", (unsigned long long)f->codebook);
}

int fpl_format_print(const struct fpl_format *f, char *buf, size_t size) {
    if (f->codebook != 0) return print_codebook(f, buf, size);
    for (const struct fpl_format_alias *a = fpl_format_aliases; a->name != NULL; a++) {
        struct fpl_format named;
        if (a->printed && parse_structure(a->text, &named, NULL) == FPL_OK && fpl_format_equal(f, &named))
            return snprintf(buf, size, "%s", a->name);
    }
    char bias[16] = "";
    if (f->bias != fpl_format_default_bias(f->ebits, f->policy)) snprintf(bias, sizeof bias, "b%d", f->bias);
    return snprintf(buf, size, "%se%dm%d%s%s%s", f->is_signed ? "" : "u", f->ebits, f->mbits, bias,
                    f->policy == FPL_FINITE ? "" : fpl_policy_names[f->policy], f->subnormals ? "" : "ns");
}
