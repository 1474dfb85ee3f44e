/* formats_json.c - what `fplaw formats` tells, as JSON. */
#include "formats.h"

#include <math.h>
#include <stdlib.h>

#include "formats_recipe.h"

static json_t *number_or_null(double x) { return isfinite(x) ? json_real(x) : json_null(); }

json_t *formats_element_json(const char *name, const struct fpl_format *f) {
    struct fpl_format_limits l;
    struct formats_specials codes;
    char text[48];
    const int fields = f->codebook == 0;
    fpl_format_print(f, text, sizeof text);
    fpl_format_limits(f, &l);
    formats_specials(f, &codes);
    const char *policy = !fields ? "codebook" : f->is_scale ? "scale" : fpl_policy_names[f->policy];
    return json_pack("{ss ss ss sb si so so so ss so sf so so si sb sb sb sb s{ss ss ss}}", "kind", "format",
                     "name", name, "format", text, "signed", f->is_signed, "bits", l.bits, "E",
                     fields ? json_integer(f->ebits) : json_null(), "M",
                     fields ? json_integer(f->mbits) : json_null(), "bias",
                     fields ? json_integer(f->bias) : json_null(), "policy", policy, "largest",
                     number_or_null(l.largest), "smallest_normal", l.smallest_normal, "smallest",
                     number_or_null(l.smallest), "decades", number_or_null(formats_decades(f)), "count",
                     (int)fmin(formats_count(f), 2147483647.0), "subnormals", f->subnormals, "inf", l.has_inf,
                     "nan", l.has_nan, "negative_zero", l.has_negative_zero, "codes", "inf", codes.inf, "nan",
                     codes.nan, "negative_zero", codes.negative_zero);
}

/* Non-negative values of a format, all values of a codebook. */
static json_t *values_json(const struct fpl_format *f) {
    size_t count;
    double *values = formats_values(f, FORMATS_MOST_VALUES, &count);
    const int mirrored = f->codebook == 0 && f->is_signed;
    json_t *list = values != NULL ? json_array() : NULL;
    for (size_t i = 0; list != NULL && i < count; i++)
        if (!mirrored || values[i] >= 0.0) json_array_append_new(list, json_real(values[i]));
    free(values);
    return list;
}

static json_t *relatives_json(const struct fpl_format *f) {
    char texts[FORMATS_MOST_RELATIVES][48], difference[512];
    const int n = formats_relatives(f, texts);
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        struct fpl_format r;
        struct fpl_format_limits l;
        if (fpl_element_parse(texts[i], &r, NULL) != FPL_OK) continue;
        fpl_format_limits(&r, &l);
        formats_difference(f, &r, difference, sizeof difference);
        json_array_append_new(list, json_pack("{ss sf ss}", "format", texts[i], "largest", l.largest,
                                              "difference", difference));
    }
    return list;
}

static json_t *element_json(const struct formats_subject *s) {
    json_t *o = formats_element_json(s->name, &s->format), *values = values_json(&s->format);
    if (values != NULL) json_object_set_new(o, "values", values);
    if (o != NULL && json_object_set_new(o, "relatives", relatives_json(&s->format)) != 0) {
        json_decref(o);
        return NULL;
    }
    return o;
}

static json_t *quantizer_json(const struct formats_subject *s) {
    const struct fpl_quantizer *q = &s->quantizer;
    char text[FPL_QUANTIZER_TEXT], format[48] = "-";
    const char *per;
    const double bits = formats_bits_per_value(q, &per);
    fpl_quantizer_print(q, text, sizeof text);
    if (!q->identity) fpl_format_print(&q->format, format, sizeof format);
    return json_pack("{ss ss ss ss ss ss ss sf so}", "kind", "quantizer", "name", s->name, "quantizer", text,
                     "format", format, "rounding", fpl_rounding_words[q->rounding].name, "overflow",
                     fpl_overflow_words[q->overflow].name, "granularity",
                     fpl_granularity_words[q->granularity].name, "bits_per_value", bits, "scale_per",
                     per != NULL ? json_string(per) : json_null());
}

json_t *formats_to_json(const struct formats_subject *s) {
    char text[FPL_ACCUMULATOR_TEXT];
    switch (s->kind) {
    case FORMATS_ELEMENT:
        return element_json(s);
    case FORMATS_QUANTIZER:
        return quantizer_json(s);
    case FORMATS_RECIPE:
        return fpl_cli_recipe_json(s->name, &s->recipe);
    case FORMATS_ACCUMULATOR:
        break;
    }
    fpl_accumulator_print(&s->accumulator, text, sizeof text);
    return json_pack("{ssssss}", "kind", "accumulator", "name", s->name, "accumulator", text);
}
