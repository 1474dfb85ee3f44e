/* formats_facts.c - what is true of a format, worked out from formats/ alone.
 *
 * Codes: the sign above the exponent field above the mantissa.  Special codes follow from the
 * policy (formats/format.h); of many NaN codes (ieee) the first and the last are given.
 * Relatives are what the same E and M mean under other policies (E4M3 is at least five formats),
 * for integers the grids that absmax scaling makes the same, for a codebook the formats of as
 * many bits.
 */
#include "formats.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- codes and values ------------------------------------------------------------------------- */

/* A code of `bits` bits, as hexadecimal digits. */
static void put_code(char buf[16], int bits, uint32_t code) {
    static const char digit[] = "0123456789abcdef";
    const int digits = (bits + 3) / 4;
    snprintf(buf, 16, "0x");
    for (int i = 0; i < digits; i++) buf[2 + i] = digit[code >> (4 * (digits - 1 - i)) & 15u];
    buf[2 + digits] = '\0';
}

/* A magnitude's code, and with it the negative one's where there are both. */
static void put_codes(char buf[64], int bits, uint32_t a, int both) {
    char positive[16], negative[16];
    put_code(positive, bits, a);
    put_code(negative, bits, a | (uint32_t)1 << (bits - 1));
    snprintf(buf, 64, "%s%s%s", positive, both ? " " : "", both ? negative : "");
}

static void ieee_codes(const struct fpl_format *f, int bits, struct formats_specials *s) {
    const uint32_t inf = ((uint32_t)1 << (f->ebits + f->mbits)) - ((uint32_t)1 << f->mbits);
    const uint32_t last = ((uint32_t)1 << (f->ebits + f->mbits)) - 1;
    char first_nan[16], last_nan[16];
    put_codes(s->inf, bits, inf, f->is_signed);
    put_code(first_nan, bits, inf + 1);
    put_code(last_nan, bits, last);
    if (last == inf + 1)
        put_codes(s->nan, bits, last, f->is_signed);
    else
        snprintf(s->nan, sizeof s->nan, "%s..%s%s", first_nan, last_nan,
                 f->is_signed ? ", and negative" : "");
}

void formats_specials(const struct fpl_format *f, struct formats_specials *s) {
    struct fpl_format_limits l;
    fpl_format_limits(f, &l);
    snprintf(s->inf, sizeof s->inf, "none");
    snprintf(s->nan, sizeof s->nan, "none");
    snprintf(s->negative_zero, sizeof s->negative_zero, "none");
    if (f->codebook != 0) return;
    const uint32_t top = fpl_format_top_code(f),
                   sign = l.bits < 32 ? (uint32_t)1 << (l.bits - 1) : 0x80000000u;
    if (f->ebits == 0 && f->is_signed) {
        char unused[16]; /* of two's complement, which integers travel in */
        put_code(unused, l.bits, sign);
        snprintf(s->negative_zero, sizeof s->negative_zero, "none (%s is unused)", unused);
    } else if (l.has_negative_zero) {
        put_code(s->negative_zero, l.bits, sign);
    }
    switch (f->policy) {
    case FPL_IEEE:
        ieee_codes(f, l.bits, s);
        break;
    case FPL_FN:
        put_codes(s->nan, l.bits, top + 1, f->is_signed);
        break;
    case FPL_FNUZ:
        put_code(s->nan, l.bits, sign);
        break;
    case FPL_P3109E:
        put_codes(s->inf, l.bits, top + 1, f->is_signed);
        put_code(s->nan, l.bits, f->is_signed ? sign : top + 2);
        break;
    case FPL_P3109F:
        put_code(s->nan, l.bits, f->is_signed ? sign : top + 1);
        break;
    default:
        break;
    }
}

/* Codes 1 .. 2^M - 1 mean nothing without subnormals. */
static double unused_codes(const struct fpl_format *f) {
    return f->subnormals || f->is_scale || f->codebook != 0 ? 0.0 : ldexp(1.0, f->mbits) - 1.0;
}

double formats_count(const struct fpl_format *f) {
    const double codes = (double)fpl_format_top_code(f) + 1.0 - unused_codes(f);
    return f->codebook == 0 && f->is_signed ? 2.0 * codes - 1.0 : codes;
}

double *formats_values(const struct fpl_format *f, size_t most, size_t *count) {
    *count = 0;
    if (formats_count(f) > (double)most || isnan(fpl_format_value(f, 0))) return NULL;
    double *values = malloc(((size_t)formats_count(f) + 1) * sizeof *values);
    const uint32_t top = fpl_format_top_code(f), skipped = (uint32_t)unused_codes(f);
    const int mirrored = f->codebook == 0 && f->is_signed;
    if (values == NULL) return NULL;
    for (uint32_t c = top; mirrored && c > skipped; c--) values[(*count)++] = -fpl_format_value(f, c);
    for (uint32_t c = 0; c <= top; c++)
        if (c == 0 || c > skipped) values[(*count)++] = fpl_format_value(f, c);
    return values;
}

double formats_decades(const struct fpl_format *f) {
    struct fpl_format_limits l;
    fpl_format_limits(f, &l);
    return log10(l.largest / l.smallest);
}

/* ---- relatives -------------------------------------------------------------------------------- */

static int add_relative(char texts[FORMATS_MOST_RELATIVES][48], int n, const char *text) {
    struct fpl_format f;
    char printed[48];
    if (n == FORMATS_MOST_RELATIVES || fpl_element_parse(text, &f, NULL) != FPL_OK) return n;
    fpl_format_print(&f, printed, sizeof printed);
    for (int i = 0; i < n; i++)
        if (strcmp(texts[i], printed) == 0) return n;
    memcpy(texts[n], printed, sizeof printed);
    return n + 1;
}

/* Aliases of as many bits. */
static int add_as_wide(char texts[FORMATS_MOST_RELATIVES][48], int n, int bits) {
    for (const struct fpl_format_alias *a = fpl_format_aliases; a->name != NULL; a++) {
        struct fpl_format f;
        struct fpl_format_limits l;
        if (fpl_format_parse(a->name, &f, NULL) != FPL_OK) continue;
        fpl_format_limits(&f, &l);
        if (l.bits == bits && !f.is_scale) n = add_relative(texts, n, a->name);
    }
    return n;
}

int formats_relatives(const struct fpl_format *f, char texts[FORMATS_MOST_RELATIVES][48]) {
    struct fpl_format_limits l;
    char text[48];
    int n = 0;
    fpl_format_limits(f, &l);
    if (f->codebook != 0) return add_as_wide(texts, n, l.bits);
    for (int policy = 0; policy < FPL_POLICIES; policy++) {
        snprintf(text, sizeof text, "%se%dm%d%s", f->is_signed ? "" : "u", f->ebits, f->mbits,
                 fpl_policy_names[policy]);
        n = add_relative(texts, n, text);
    }
    if (f->is_signed && f->ebits == 4 && f->mbits == 3) n = add_relative(texts, n, "e4m3b11fnuz");
    if (f->ebits == 0 && f->mbits > 1 && f->is_signed) { /* e1m6 is e0m7 under absmax scaling */
        snprintf(text, sizeof text, "e1m%d", f->mbits - 1);
        n = add_relative(texts, n, text);
        if (f->mbits == 7) n = add_relative(texts, n, "mxint8");
    }
    if (f->ebits == 1 && f->policy == FPL_FINITE && f->is_signed && f->mbits < 23) {
        snprintf(text, sizeof text, "e0m%d", f->mbits + 1);
        n = add_relative(texts, n, text);
    }
    if (f->ebits >= 5 && f->policy == FPL_IEEE && f->is_signed) {
        static const char *const wide[] = {"fp32", "tf32", "bf16", "fp16"};
        for (int i = 0; i < 4; i++) n = add_relative(texts, n, wide[i]);
    }
    return n;
}

/* ---- differences ------------------------------------------------------------------------------- */

struct line {
    char *buf;
    size_t size, used;
};

static void say(struct line *l, const char *text) {
    const int n = snprintf(l->buf + l->used, l->size - l->used, "%s%s", l->used > 0 ? ", " : "", text);
    if (n > 0 && (size_t)n < l->size - l->used) l->used += (size_t)n;
}

static void say_codes(struct line *l, const char *what, const char *mine, const char *theirs) {
    char text[96];
    if (strcmp(mine, theirs) == 0) return;
    if (strcmp(theirs, "none") == 0)
        snprintf(text, sizeof text, "no %s", what);
    else
        snprintf(text, sizeof text, "%s %s", what, theirs);
    say(l, text);
}

/* How many of b's values are a's too; both ascending. */
static size_t shared_values(const double *a, size_t na, const double *b, size_t nb) {
    size_t shared = 0;
    for (size_t i = 0, j = 0; i < na && j < nb;) {
        shared += a[i] == b[j];
        if (a[i] < b[j])
            i++;
        else if (a[i] > b[j])
            j++;
        else
            i++, j++;
    }
    return shared;
}

void formats_difference(const struct fpl_format *f, const struct fpl_format *other, char *buf, size_t size) {
    struct line line = {buf, size, 0};
    struct formats_specials mine, theirs;
    struct fpl_format_limits l, m;
    char text[96];
    buf[0] = '\0';
    if (fpl_format_equal(f, other)) {
        say(&line, "this one");
        return;
    }
    fpl_format_limits(f, &l);
    fpl_format_limits(other, &m);
    formats_specials(f, &mine);
    formats_specials(other, &theirs);
    if (l.bits != m.bits) snprintf(text, sizeof text, "%d bits", m.bits), say(&line, text);
    if (f->codebook == 0 && other->codebook == 0 && f->bias != other->bias)
        snprintf(text, sizeof text, "bias %d", other->bias), say(&line, text);
    if (l.smallest != m.smallest) snprintf(text, sizeof text, "smallest %.9g", m.smallest), say(&line, text);
    say_codes(&line, "Inf", mine.inf, theirs.inf);
    say_codes(&line, "NaN", mine.nan, theirs.nan);
    say_codes(&line, "-0", mine.negative_zero, theirs.negative_zero);
    size_t na, nb;
    double *a = formats_values(f, 65536, &na), *b = formats_values(other, 65536, &nb);
    if (a != NULL && b != NULL) {
        const size_t shared = shared_values(a, na, b, nb);
        if (shared == na && shared == nb)
            snprintf(text, sizeof text, "the same %zu values", nb);
        else
            snprintf(text, sizeof text, "%zu of its %zu values shared", shared, nb);
        say(&line, text);
    }
    free(a);
    free(b);
}

/* ---- quantizers ---------------------------------------------------------------------------------- */

double formats_bits_per_value(const struct fpl_quantizer *q, const char **per) {
    struct fpl_format_limits l = {.bits = 32};
    *per = NULL;
    if (q->identity) return 32.0;
    fpl_format_limits(&q->format, &l);
    double scale = 0.0; /* bits of everything that a group carries */
    struct fpl_format_limits s;
    switch (q->scale_rule) {
    case FPL_SCALE_FP32:
    case FPL_SCALE_MUL:
    case FPL_SCALE_DELAYED:
        scale = 32.0;
        break;
    case FPL_SCALE_FORMAT:
        fpl_format_limits(&q->scale_format, &s);
        scale = s.bits;
        break;
    default:
        scale = 8.0;
        break;
    }
    if (q->zero_point) scale += l.bits;
    if (q->granularity == FPL_BLOCK) return l.bits + scale / ((double)q->block_rows * (double)q->block_cols);
    if (q->granularity != FPL_UNSCALED) *per = fpl_granularity_words[q->granularity].name;
    return l.bits;
}
