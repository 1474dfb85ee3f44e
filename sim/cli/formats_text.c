/* formats_text.c - formats described and compared in 80 columns. */
#include "formats.h"

#include "formats_recipe.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 80, LABEL = 18, PER_TABLE = 4 };

void formats_row(const char *label, int label_width, const char *text) {
    int at = printf("  %-*s", label_width - 2, label);
    int first = 1;
    while (*text != '\0') {
        const int n = (int)strcspn(text, " ");
        if (!first && at + 1 + n > WIDTH) {
            printf("\n%*s", label_width, "");
            at = label_width;
            first = 1;
        }
        at += printf("%s%.*s", first ? "" : " ", n, text);
        first = 0;
        text += n;
        while (*text == ' ') text++;
    }
    printf("\n");
}

/* ---- one format --------------------------------------------------------------------------------- */

static void print_values(const struct fpl_format *f) {
    size_t count;
    double *values = formats_values(f, FORMATS_MOST_VALUES, &count);
    const int mirrored = f->codebook == 0 && f->is_signed;
    if (values == NULL) return;
    char *text = malloc(count * 24 + 64);
    if (text != NULL) {
        size_t used = 0;
        text[0] = '\0';
        for (size_t i = 0; i < count; i++)
            if (!mirrored || values[i] >= 0.0)
                used += (size_t)snprintf(text + used, 24, "%s%.9g", used > 0 ? " " : "", values[i]);
        formats_row("values", 9, text);
        if (mirrored) formats_row("", 9, "and the same below zero");
    }
    free(text);
    free(values);
}

static void print_relatives(const struct fpl_format *f) {
    char texts[FORMATS_MOST_RELATIVES][48];
    const int n = formats_relatives(f, texts);
    if (n > 0) printf("  relatives\n");
    for (int i = 0; i < n; i++) {
        struct fpl_format r;
        struct fpl_format_limits l;
        char label[80], difference[512];
        if (fpl_element_parse(texts[i], &r, NULL) != FPL_OK) continue;
        fpl_format_limits(&r, &l);
        formats_difference(f, &r, difference, sizeof difference);
        snprintf(label, sizeof label, "  %-13.40s largest %-12.9g", texts[i], l.largest);
        formats_row(label, 40, difference);
    }
}

static void describe_codebook(const char *name, const struct fpl_format *f) {
    const struct fpl_codebook *c = fpl_codebook_find(f->codebook);
    struct fpl_format_limits l;
    char text[48], line[256];
    fpl_format_print(f, text, sizeof text);
    fpl_format_limits(f, &l);
    if (c == NULL) {
        printf("%s: codebook %s, whose values are not known here\n", name, text);
        return;
    }
    printf("%s: codebook %s, largest %.9g\n", name, text, l.largest);
    snprintf(line, sizeof line, "%d: %d values, content hash %016llx", l.bits, (int)c->count,
             (unsigned long long)c->hash);
    formats_row("bits", LABEL, line);
    if (c->source != NULL) formats_row("defined by", LABEL, c->source);
    snprintf(line, sizeof line, "%.9g to %.9g, smallest magnitude %.9g: %.2f decades", (double)c->values[0],
             (double)c->values[c->count - 1], l.smallest, formats_decades(f));
    formats_row("range", LABEL, line);
}

static void describe_numbers(const struct fpl_format *f) {
    struct formats_specials codes;
    struct fpl_format_limits l;
    char line[256];
    fpl_format_limits(f, &l);
    formats_specials(f, &codes);
    printf("  bits %d: sign %d, exponent %d, mantissa %d; bias %d\n", l.bits, f->is_signed, f->ebits,
           f->mbits, f->bias);
    if (f->ebits > 0)
        printf("  smallest normal %.9g (2^%d), ", l.smallest_normal, l.emin);
    else
        printf("  uniform grid, ");
    printf("smallest positive %.9g%s\n", l.smallest, f->subnormals ? "" : " (no subnormals)");
    snprintf(line, sizeof line, "%.2f decades from the smallest to the largest value; %.0f finite values",
             formats_decades(f), formats_count(f));
    formats_row("range", 9, line);
    snprintf(line, sizeof line, "%s: %s", f->is_scale ? "scale" : fpl_policy_names[f->policy],
             f->is_scale ? "powers of two, no zero, 0xFF is NaN" : fpl_policy_meanings[f->policy]);
    formats_row("policy", 9, line);
    snprintf(line, sizeof line, "Inf %s; NaN %s; -0 %s", codes.inf, codes.nan, codes.negative_zero);
    formats_row("codes", 9, line);
}

static void describe_element(const struct formats_subject *s) {
    const struct fpl_format *f = &s->format;
    if (f->codebook != 0) {
        describe_codebook(s->name, f);
    } else {
        struct fpl_format_limits l;
        char text[48];
        fpl_format_print(f, text, sizeof text);
        fpl_format_limits(f, &l);
        printf("%s: format %s, largest %.9g\n", s->name, text, l.largest);
        describe_numbers(f);
    }
    print_values(f);
    print_relatives(f);
}

/* ---- quantizers, accumulators ------------------------------------------------------------ */

static void describe_scaling(const struct fpl_quantizer *q) {
    char line[512], scale[96], format[48] = "";
    if (q->granularity == FPL_BLOCK)
        snprintf(line, sizeof line, "blocks of %d rows by %d columns along the reduction axis",
                 (int)q->block_rows, (int)q->block_cols);
    else
        snprintf(line, sizeof line, "%s", fpl_granularity_words[q->granularity].meaning);
    formats_row("granularity", LABEL, line);
    if (q->granularity == FPL_UNSCALED) return;
    snprintf(scale, sizeof scale, "%s", fpl_scale_words[q->scale_rule].name);
    if (q->scale_rule == FPL_SCALE_FORMAT) {
        fpl_format_print(&q->scale_format, format, sizeof format);
        snprintf(scale, sizeof scale, "%s", format);
    }
    snprintf(line, sizeof line, "%s: %s", scale, fpl_scale_words[q->scale_rule].meaning);
    formats_row("scale", LABEL, line);
    const int flags[4] = {q->two_level, q->zero_point, q->search == FPL_SEARCH_MSE,
                          q->search == FPL_SEARCH_46};
    for (int i = 0; i < 4; i++) {
        snprintf(line, sizeof line, "%s: %s", fpl_flag_words[i].name, fpl_flag_words[i].meaning);
        if (flags[i]) formats_row("flag", LABEL, line);
    }
}

static void describe_quantizer(const struct formats_subject *s) {
    const struct fpl_quantizer *q = &s->quantizer;
    struct fpl_format_limits l;
    char text[FPL_QUANTIZER_TEXT], format[48], line[256];
    const char *per;
    fpl_quantizer_print(q, text, sizeof text);
    printf("%s: quantizer %s\n", s->name, text);
    if (q->identity) return;
    fpl_format_print(&q->format, format, sizeof format);
    fpl_format_limits(&q->format, &l);
    snprintf(line, sizeof line, "%s, largest %.9g", format, l.largest);
    formats_row("elements", LABEL, line);
    snprintf(line, sizeof line, "%s: %s", fpl_rounding_words[q->rounding].name,
             fpl_rounding_words[q->rounding].meaning);
    formats_row("rounding", LABEL, line);
    snprintf(line, sizeof line, "%s: %s", fpl_overflow_words[q->overflow].name,
             fpl_overflow_words[q->overflow].meaning);
    formats_row("overflow", LABEL, line);
    describe_scaling(q);
    const double bits = formats_bits_per_value(q, &per);
    snprintf(line, sizeof line, "%.9g%s%s", bits, per != NULL ? ", and a scale per " : "",
             per != NULL ? per : "");
    formats_row("bits per value", LABEL, line);
}

void formats_describe(const struct formats_subject *s) {
    char text[FPL_ACCUMULATOR_TEXT];
    switch (s->kind) {
    case FORMATS_ELEMENT:
        describe_element(s);
        break;
    case FORMATS_QUANTIZER:
        describe_quantizer(s);
        break;
    case FORMATS_RECIPE:
        fpl_cli_describe_recipe(s->name, &s->recipe);
        break;
    case FORMATS_ACCUMULATOR:
        fpl_accumulator_print(&s->accumulator, text, sizeof text);
        printf("%s: accumulator %s\n", s->name, text);
        break;
    }
}

/* ---- side by side --------------------------------------------------------------------------------- */

enum row {
    ROW_FORMAT,
    ROW_BITS,
    ROW_FIELDS,
    ROW_BIAS,
    ROW_LARGEST,
    ROW_NORMAL,
    ROW_SMALLEST,
    ROW_DECADES,
    ROW_COUNT,
    ROW_STEP,
    ROW_INF,
    ROW_NAN,
    ROW_ZERO,
    ROWS
};

static const char *const row_names[ROWS] = {"format",
                                            "bits",
                                            "sign, E, M",
                                            "bias",
                                            "largest",
                                            "smallest normal",
                                            "smallest positive",
                                            "decades",
                                            "values",
                                            "step at 1 to 2",
                                            "Inf",
                                            "NaN",
                                            "-0"};

/* The cell of one format. */
static void cell_of(const struct fpl_format *f, enum row row, char *buf, size_t size) {
    struct formats_specials codes;
    struct fpl_format_limits l;
    fpl_format_limits(f, &l);
    formats_specials(f, &codes);
    const int fields = f->codebook == 0;
    snprintf(buf, size, "-");
    switch (row) {
    case ROW_FORMAT:
        fpl_format_print(f, buf, size);
        break;
    case ROW_BITS:
        snprintf(buf, size, "%d", l.bits);
        break;
    case ROW_FIELDS:
        if (fields) snprintf(buf, size, "%d, %d, %d", f->is_signed, f->ebits, f->mbits);
        break;
    case ROW_BIAS:
        if (fields) snprintf(buf, size, "%d", f->bias);
        break;
    case ROW_LARGEST:
        snprintf(buf, size, "%.7g", l.largest);
        break;
    case ROW_NORMAL:
        if (fields && f->ebits > 0) snprintf(buf, size, "2^%d", l.emin);
        break;
    case ROW_SMALLEST:
        if (fields)
            snprintf(buf, size, "2^%d", ilogb(l.smallest));
        else
            snprintf(buf, size, "%.7g", l.smallest);
        break;
    case ROW_DECADES:
        snprintf(buf, size, "%.2f", formats_decades(f));
        break;
    case ROW_COUNT:
        snprintf(buf, size, "%.0f", formats_count(f));
        break;
    case ROW_STEP:
        if (fields && l.largest >= 1.0 && !f->is_scale)
            snprintf(buf, size, "2^%d",
                     f->ebits == 0 ? -f->bias
                     : l.emin > 0  ? l.emin - f->mbits
                                   : -f->mbits);
        break;
    case ROW_INF:
        snprintf(buf, size, "%s", l.has_inf ? "yes" : "no");
        break;
    case ROW_NAN:
        snprintf(buf, size, "%s", l.has_nan ? "yes" : "no");
        break;
    default:
        snprintf(buf, size, "%s", l.has_negative_zero ? "yes" : "no");
        break;
    }
}

void formats_compare(const struct formats_subject *s, int count) {
    for (int first = 0; first < count; first += PER_TABLE) {
        const int last = first + PER_TABLE < count ? first + PER_TABLE : count;
        if (first > 0) printf("\n");
        printf("%-*s", LABEL, "");
        for (int i = first; i < last; i++) printf(" %14.14s", s[i].name);
        printf("\n");
        for (int row = 0; row < ROWS; row++) {
            printf("%-*s", LABEL, row_names[row]);
            for (int i = first; i < last; i++) {
                char cell[48];
                cell_of(&s[i].format, (enum row)row, cell, sizeof cell);
                printf(" %14.14s", cell);
            }
            printf("\n");
        }
    }
}
