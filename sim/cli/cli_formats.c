/* cli_formats.c - `fplaw formats [NAME...] [--json]`: list what there is, or describe.
 *
 * Everything printed comes from the registries of formats/: aliases, policies, roundings,
 * overflow policies, granularities, scale rules, recipes.  "E4M3" names at least five
 * different formats, so a description shows every relative of the same E and M with its
 * largest value, and no list shows a format without one.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/recipe.h"
#include "cli.h"

enum { MOST_NAMES = 256, MOST_RELATIVES = 16, MOST_VALUES = 256 };

struct arguments {
    const char *names[MOST_NAMES];
    int count, json;
};

static const struct argp_option options[] = {
    {"json", 'j', NULL, 0, "one JSON object on standard output", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct arguments *a = state->input;
    switch (key) {
    case 'j':
        a->json = 1;
        return 0;
    case ARGP_KEY_ARG:
        if (a->count == MOST_NAMES) return EINVAL;
        a->names[a->count++] = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- what a name means ------------------------------------------------------------------ */

/* A format, or where it is none a recipe. */
struct subject {
    const char *name;
    int is_recipe;
    struct fpl_format format;
    struct fpl_recipe recipe;
};

static enum fpl_code find_subject(const char *name, struct subject *s, struct fpl_error *err) {
    struct fpl_error format_error = {FPL_OK, ""};
    memset(s, 0, sizeof *s);
    s->name = name;
    if (fpl_format_parse(name, &s->format, &format_error) == FPL_OK) return FPL_OK;
    s->is_recipe = 1;
    if (fpl_recipe_parse(name, &s->recipe, err) == FPL_OK) return FPL_OK;
    for (const struct fpl_recipe_preset *p = fpl_recipe_presets; p->name != NULL; p++) {
        const size_t n = strlen(p->name);
        if (strncmp(name, p->name, n) == 0 && (name[n] == ':' || name[n] == '\0')) return err->code;
    }
    *err = format_error;
    return err->code;
}

/* Formats of the same sign, E and M: every policy, and the bias 11 variant of E4M3. */
static int find_relatives(const struct fpl_format *f, char texts[MOST_RELATIVES][48]) {
    int n = 0;
    for (int policy = 0; policy <= FPL_POLICIES; policy++) {
        struct fpl_format r;
        char text[48];
        const int wild = policy == FPL_POLICIES;
        snprintf(text, sizeof text, "%se%dm%d%s", f->is_signed ? "" : "u", f->ebits, f->mbits,
                 wild ? "b11fnuz" : fpl_policy_names[policy]);
        if (wild && !(f->is_signed && f->ebits == 4 && f->mbits == 3)) continue;
        if (fpl_format_parse(text, &r, NULL) == FPL_OK) fpl_format_print(&r, texts[n++], 48);
    }
    return n;
}

static double largest_of(const char *text) {
    struct fpl_format f;
    struct fpl_format_limits l;
    if (fpl_format_parse(text, &f, NULL) != FPL_OK) return 0.0;
    fpl_format_limits(&f, &l);
    return l.largest;
}

/* Non-negative finite values in order; 0 where there are too many to show. */
static int find_values(const struct fpl_format *f, double values[MOST_VALUES]) {
    const uint32_t top = fpl_format_top_code(f);
    int n = 0;
    if (top >= MOST_VALUES) return 0;
    for (uint32_t c = 0; c <= top; c++)
        if (f->subnormals || c == 0 || c >= (uint32_t)1 << f->mbits) values[n++] = fpl_format_value(f, c);
    return n;
}

/* ---- text --------------------------------------------------------------------------------- */

static void print_words(const char *title, const struct fpl_word *words) {
    printf("\n%s\n", title);
    for (; words->name != NULL; words++) printf("  %-8s %s\n", words->name, words->meaning);
}

static void list_as_text(void) {
    printf(
        "formats: eXmY with X exponent and Y mantissa bits, [b<bias>][policy][ns], u before it: no sign\n");
    printf("  %-9s %-10s %4s %14s %14s  %s\n", "alias", "is", "bits", "largest", "smallest", "defined by");
    for (const struct fpl_format_alias *a = fpl_format_aliases; a->name != NULL; a++) {
        struct fpl_format f;
        struct fpl_format_limits l;
        if (fpl_format_parse(a->name, &f, NULL) != FPL_OK) continue;
        fpl_format_limits(&f, &l);
        printf("  %-9s %-10s %4d %14.9g %14.9g  %s\n", a->name, a->text, l.bits, l.largest, l.smallest,
               a->source);
    }
    printf("\npolicies: what the special codes are\n");
    for (int p = 0; p < FPL_POLICIES; p++) printf("  %-8s %s\n", fpl_policy_names[p], fpl_policy_meanings[p]);
    printf("\nquantizer: format[:rounding][:overflow][/granularity[:scale][+t]], as e2m1/1x32:e8m0; - is "
           "none\n");
    print_words("rounding (default rne)", fpl_rounding_words);
    print_words("overflow (default ovf for fp32, tf32, bf16 and fp16, sat for all others)",
                fpl_overflow_words);
    print_words("granularity (default none)", fpl_granularity_words);
    print_words("scale (default fp32)", fpl_scale_words);
    printf("\nrecipes\n");
    for (const struct fpl_recipe_preset *p = fpl_recipe_presets; p->name != NULL; p++)
        printf("  %-10s %s%s%s%s\n             as %s\n", p->name, p->meaning, *p->source ? " (" : "",
               p->source, *p->source ? ")" : "", p->example);
}

static void describe_format(const struct subject *s) {
    char text[48], relatives[MOST_RELATIVES][48];
    double values[MOST_VALUES];
    struct fpl_format_limits l;
    const struct fpl_format *f = &s->format;
    fpl_format_print(f, text, sizeof text);
    fpl_format_limits(f, &l);
    printf("%s: format %s, largest %.9g\n", s->name, text, l.largest);
    printf("  bits %d: sign %d, exponent %d, mantissa %d; bias %d\n", l.bits, f->is_signed, f->ebits,
           f->mbits, f->bias);
    if (f->ebits > 0)
        printf("  smallest normal %.9g (2^%d), ", l.smallest_normal, l.emin);
    else
        printf("  uniform grid, ");
    printf("smallest positive %.9g%s\n", l.smallest, f->subnormals ? "" : " (no subnormals)");
    printf("  policy %s: %s\n", f->is_scale ? "scale" : fpl_policy_names[f->policy],
           f->is_scale ? "powers of two, no zero, 0xFF is NaN" : fpl_policy_meanings[f->policy]);
    printf("  infinities %s, NaN %s, negative zero %s\n", l.has_inf ? "yes" : "no", l.has_nan ? "yes" : "no",
           l.has_negative_zero ? "yes" : "no");
    const int count = find_values(f, values);
    if (count > 0 && count <= 32) {
        printf("  values");
        for (int i = 0; i < count; i++) printf(" %.9g", values[i]);
        printf("\n");
    }
    const int n = find_relatives(f, relatives);
    for (int i = 0; i < n; i++)
        printf("  %s %-14s largest %.9g\n", i == 0 ? "relatives" : "         ", relatives[i],
               largest_of(relatives[i]));
}

static void describe_recipe(const struct subject *s) {
    printf("%s: recipe %s\n", s->name, s->recipe.text);
    for (int i = 0; i < FPL_SLOTS; i++) {
        const struct fpl_quantizer *q = &s->recipe.slot[i];
        char text[FPL_QUANTIZER_TEXT], format[48];
        fpl_quantizer_print(q, text, sizeof text);
        printf("  %-8s %s", fpl_slot_names[i], text);
        if (!q->identity) {
            fpl_format_print(&q->format, format, sizeof format);
            printf(" (largest %.9g)", largest_of(format));
        }
        printf("\n");
    }
    if (!s->recipe.has_post) return;
    char post[48];
    fpl_format_print(&s->recipe.post, post, sizeof post);
    printf("  every operand is then rounded to %s\n", post);
}

/* ---- JSON: NULL values stand for a lack of memory and fail the whole ------------------------- */

static json_t *words_as_json(const struct fpl_word *words) {
    json_t *list = json_array();
    for (; words->name != NULL; words++)
        if (json_array_append_new(list,
                                  json_pack("{ssss}", "name", words->name, "meaning", words->meaning)) != 0)
            return json_decref(list), NULL;
    return list;
}

static json_t *format_as_json(const char *name, const struct fpl_format *f) {
    struct fpl_format_limits l;
    char text[48];
    fpl_format_print(f, text, sizeof text);
    fpl_format_limits(f, &l);
    return json_pack("{ss ss ss sb si si si si ss sf sf sf sb sb sb sb}", "kind", "format", "name", name,
                     "format", text, "signed", f->is_signed, "bits", l.bits, "E", f->ebits, "M", f->mbits,
                     "bias", f->bias, "policy", f->is_scale ? "scale" : fpl_policy_names[f->policy],
                     "largest", l.largest, "smallest_normal", l.smallest_normal, "smallest", l.smallest,
                     "subnormals", f->subnormals, "inf", l.has_inf, "nan", l.has_nan, "negative_zero",
                     l.has_negative_zero);
}

static json_t *described_format(const struct subject *s) {
    char relatives[MOST_RELATIVES][48];
    double values[MOST_VALUES];
    json_t *list = json_array(), *kin = json_array(), *o = format_as_json(s->name, &s->format);
    const int count = find_values(&s->format, values), n = find_relatives(&s->format, relatives);
    int bad = 0;
    for (int i = 0; i < count; i++) bad |= json_array_append_new(list, json_real(values[i]));
    for (int i = 0; i < n; i++)
        bad |= json_array_append_new(
            kin, json_pack("{sssf}", "format", relatives[i], "largest", largest_of(relatives[i])));
    if (count > 0) bad |= json_object_set(o, "values", list);
    bad |= json_object_set(o, "relatives", kin);
    json_decref(list);
    json_decref(kin);
    if (bad) json_decref(o);
    return bad ? NULL : o;
}

static json_t *described_recipe(const struct subject *s) {
    json_t *o = json_pack("{ssssss}", "kind", "recipe", "name", s->name, "recipe", s->recipe.text),
           *slots = json_object();
    int bad = 0;
    for (int i = 0; i < FPL_SLOTS; i++) {
        char text[FPL_QUANTIZER_TEXT];
        fpl_quantizer_print(&s->recipe.slot[i], text, sizeof text);
        bad |= json_object_set_new(slots, fpl_slot_names[i], json_string(text));
    }
    bad |= json_object_set_new(o, "operands", slots);
    char post[48] = "";
    if (s->recipe.has_post) fpl_format_print(&s->recipe.post, post, sizeof post);
    bad |= json_object_set_new(o, "post", s->recipe.has_post ? json_string(post) : json_null());
    if (bad) json_decref(o);
    return bad ? NULL : o;
}

static json_t *list_as_json(void) {
    json_t *formats = json_array(), *policies = json_array(), *recipes = json_array();
    int bad = 0;
    for (const struct fpl_format_alias *a = fpl_format_aliases; a->name != NULL; a++) {
        struct fpl_format f;
        if (fpl_format_parse(a->name, &f, NULL) != FPL_OK) continue;
        json_t *o = format_as_json(a->name, &f);
        bad |= json_object_set_new(o, "source", json_string(a->source));
        bad |= json_array_append_new(formats, o);
    }
    for (int p = 0; p < FPL_POLICIES; p++)
        bad |= json_array_append_new(
            policies, json_pack("{ssss}", "name", fpl_policy_names[p], "meaning", fpl_policy_meanings[p]));
    for (const struct fpl_recipe_preset *p = fpl_recipe_presets; p->name != NULL; p++)
        bad |= json_array_append_new(recipes, json_pack("{ssssssss}", "name", p->name, "example", p->example,
                                                        "meaning", p->meaning, "source", p->source));
    json_t *all = json_pack("{so so so so so so so}", "formats", formats, "policies", policies, "roundings",
                            words_as_json(fpl_rounding_words), "overflows", words_as_json(fpl_overflow_words),
                            "granularities", words_as_json(fpl_granularity_words), "scale_rules",
                            words_as_json(fpl_scale_words), "recipes", recipes);
    if (bad) json_decref(all);
    return bad ? NULL : all;
}

static json_t *describe_as_json(const struct arguments *a, struct fpl_error *err) {
    json_t *list = json_array();
    for (int i = 0; i < a->count; i++) {
        struct subject s;
        if (find_subject(a->names[i], &s, err) != FPL_OK) return json_decref(list), NULL;
        if (json_array_append_new(list, s.is_recipe ? described_recipe(&s) : described_format(&s)) != 0)
            return json_decref(list), NULL;
    }
    return json_pack("{so}", "described", list);
}

static enum fpl_code print_json(const struct arguments *a, struct fpl_error *err) {
    json_t *o = a->count == 0 ? list_as_json() : describe_as_json(a, err);
    char *text =
        o == NULL ? NULL : json_dumps(o, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(17));
    json_decref(o);
    if (text == NULL)
        return err->code != FPL_OK ? err->code : fpl_fail(err, FPL_SYSTEM, "formats: out of memory");
    puts(text);
    free(text);
    return FPL_OK;
}

static enum fpl_code describe_as_text(const struct arguments *a, struct fpl_error *err) {
    struct subject s;
    for (int i = 0; i < a->count; i++) /* all names first: a wrong one prints nothing */
        if (find_subject(a->names[i], &s, err) != FPL_OK) return err->code;
    for (int i = 0; i < a->count; i++) {
        if (find_subject(a->names[i], &s, err) != FPL_OK) return err->code;
        if (s.is_recipe)
            describe_recipe(&s);
        else
            describe_format(&s);
    }
    return FPL_OK;
}

int fpl_cmd_formats(int argc, char **argv) {
    static const struct argp argp = {
        options,
        parse,
        "[NAME...]",
        "List number formats, quantizer words and recipes, or describe the named formats "
        "and recipes.\vA description shows the relatives of a format: every policy "
        "of the same bits, with its largest value.",
        NULL,
        NULL,
        NULL};
    struct arguments a = {.count = 0};
    struct fpl_error err = {FPL_OK, ""};
    enum fpl_code code = FPL_OK;
    fpl_cli_parse(&argp, argc, argv, &a);
    if (a.json)
        code = print_json(&a, &err);
    else if (a.count == 0)
        list_as_text();
    else
        code = describe_as_text(&a, &err);
    return code == FPL_OK ? 0 : fpl_cli_fail(&err);
}
