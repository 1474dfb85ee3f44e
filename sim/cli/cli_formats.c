/* cli_formats.c - `fplaw formats [NAME...] [--json]`: list what there is, describe, compare.
 *
 * Everything printed comes from the registries of formats/: aliases, codebooks, policies,
 * roundings, overflow policies, granularities, scale rules, flags, recipes with their options,
 * accumulators.  "E4M3" names at least five different formats, so a description shows every
 * relative of the same E and M with its largest value and what differs, and no list shows a
 * format without one.  One name is described; several formats are set side by side.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "formats.h"
#include "formats_recipe.h"

enum { MOST_NAMES = 256 };

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

static int names_preset(const char *name) {
    for (const struct fpl_recipe_preset *p = fpl_recipe_presets; p->name != NULL; p++) {
        const size_t n = strlen(p->name);
        if (strncmp(name, p->name, n) == 0 && (name[n] == ':' || name[n] == ';' || name[n] == '\0')) return 1;
    }
    return 0;
}

/* A format, or where it is none a recipe, a quantizer or an accumulator.  The message of a name
 * that is nothing is that of what it looks like. */
static enum fpl_code find_subject(const char *name, struct formats_subject *s, struct fpl_error *err) {
    struct fpl_error format_error = {FPL_OK, ""}, recipe_error = {FPL_OK, ""}, quantizer_error = {FPL_OK, ""};
    memset(s, 0, sizeof *s);
    s->name = name;
    s->kind = FORMATS_ELEMENT;
    if (fpl_element_parse(name, &s->format, &format_error) == FPL_OK) return FPL_OK;
    s->kind = FORMATS_RECIPE;
    if (fpl_recipe_parse(name, &s->recipe, &recipe_error) == FPL_OK) return FPL_OK;
    s->kind = FORMATS_QUANTIZER;
    if (fpl_quantizer_parse(name, &s->quantizer, &quantizer_error) == FPL_OK) return FPL_OK;
    s->kind = FORMATS_ACCUMULATOR;
    if (fpl_accumulator_parse(name, &s->accumulator, NULL) == FPL_OK) return FPL_OK;
    *err = names_preset(name) ? recipe_error : strpbrk(name, ":/+") != NULL ? quantizer_error : format_error;
    return err->code;
}

/* ---- lists as text ------------------------------------------------------------------------ */

static void print_words(const char *title, const struct fpl_word *words) {
    printf("\n%s\n", title);
    for (; words->name != NULL; words++) formats_row(words->name, 11, words->meaning);
}

static void list_formats(void) {
    printf(
        "formats: eXmY with X exponent and Y mantissa bits, [b<bias>][policy][ns];\nu before it: no sign\n");
    printf("  %-9s %-9s %4s %12s %12s  %s\n", "alias", "is", "bits", "largest", "smallest", "defined by");
    for (const struct fpl_format_alias *a = fpl_format_aliases; a->name != NULL; a++) {
        struct fpl_format f;
        struct fpl_format_limits l;
        if (fpl_format_parse(a->name, &f, NULL) != FPL_OK) continue;
        fpl_format_limits(&f, &l);
        printf("  %-9s %-9s %4d %12.6g %12.6g  %s\n", a->name, a->text, l.bits, l.largest, l.smallest,
               a->source);
    }
    printf("\ncodebooks: elements from a list of values; codebook(FILE) is one's own\n");
    for (const struct fpl_named_codebook *c = fpl_named_codebooks; c->name != NULL; c++) {
        char text[160];
        snprintf(text, sizeof text, "%s (%s)", c->meaning, c->source);
        formats_row(c->name, 11, text);
    }
    printf("\npolicies: what the special codes are\n");
    for (int p = 0; p < FPL_POLICIES; p++) formats_row(fpl_policy_names[p], 11, fpl_policy_meanings[p]);
}

static void list_accumulators(void) {
    char text[512];
    printf("\naccumulators (default fp32)\n");
    for (const struct fpl_accumulator_word *w = fpl_accumulator_words; w->name != NULL; w++) {
        snprintf(text, sizeof text, "%s%s%s", w->meaning, strcmp(w->name, w->example) != 0 ? ", as " : "",
                 strcmp(w->name, w->example) != 0 ? w->example : "");
        formats_row(w->name, 18, text);
    }
    for (const struct fpl_accumulator_unit *u = fpl_accumulator_units; u->name != NULL; u++) {
        snprintf(text, sizeof text, "%s: %s (%s)", u->text, u->meaning, u->source);
        formats_row(u->name, 18, text);
    }
}

static void list_as_text(void) {
    list_formats();
    printf(
        "\nquantizer: element[:rounding][:overflow][/granularity[:scale][+flag]],\nas e2m1/1x32:e8m0; - is "
        "none\n");
    print_words("rounding (default rne)", fpl_rounding_words);
    print_words("overflow (default ovf for fp32, tf32, bf16 and fp16, sat for all others)",
                fpl_overflow_words);
    print_words("granularity (default none)", fpl_granularity_words);
    print_words("scale (default fp32)", fpl_scale_words);
    print_words("flags, after a +", fpl_flag_words);
    fpl_cli_list_recipes();
    list_accumulators();
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

static int add_formats(json_t *formats) {
    int bad = 0;
    for (const struct fpl_format_alias *a = fpl_format_aliases; a->name != NULL; a++) {
        struct fpl_format f;
        if (fpl_format_parse(a->name, &f, NULL) != FPL_OK) continue;
        json_t *o = formats_element_json(a->name, &f);
        bad |= json_object_set_new(o, "source", json_string(a->source));
        bad |= json_array_append_new(formats, o);
    }
    for (const struct fpl_named_codebook *c = fpl_named_codebooks; c->name != NULL; c++) {
        struct fpl_format f;
        if (fpl_element_parse(c->name, &f, NULL) != FPL_OK) continue;
        json_t *o = formats_element_json(c->name, &f);
        bad |= json_object_set_new(o, "source", json_string(c->source));
        bad |= json_array_append_new(formats, o);
    }
    return bad;
}

static json_t *accumulators_as_json(void) {
    json_t *list = json_array();
    int bad = 0;
    for (const struct fpl_accumulator_word *w = fpl_accumulator_words; w->name != NULL; w++)
        bad |= json_array_append_new(
            list, json_pack("{ssssss}", "name", w->name, "example", w->example, "meaning", w->meaning));
    for (const struct fpl_accumulator_unit *u = fpl_accumulator_units; u->name != NULL; u++)
        bad |= json_array_append_new(list, json_pack("{ssssssss}", "name", u->name, "example", u->text,
                                                     "meaning", u->meaning, "source", u->source));
    if (bad) json_decref(list);
    return bad ? NULL : list;
}

static json_t *list_as_json(void) {
    json_t *formats = json_array(), *policies = json_array();
    int bad = add_formats(formats);
    for (int p = 0; p < FPL_POLICIES; p++)
        bad |= json_array_append_new(
            policies, json_pack("{ssss}", "name", fpl_policy_names[p], "meaning", fpl_policy_meanings[p]));
    json_t *all = json_pack(
        "{so so so so so so so so so so}", "formats", formats, "policies", policies, "roundings",
        words_as_json(fpl_rounding_words), "overflows", words_as_json(fpl_overflow_words), "granularities",
        words_as_json(fpl_granularity_words), "scale_rules", words_as_json(fpl_scale_words), "flags",
        words_as_json(fpl_flag_words), "recipes", fpl_cli_recipes_json(), "recipe_options",
        fpl_cli_recipe_options_json(), "accumulators", accumulators_as_json());
    if (bad) json_decref(all);
    return bad ? NULL : all;
}

static json_t *described_as_json(const struct formats_subject *s, int count) {
    json_t *list = json_array();
    for (int i = 0; i < count; i++)
        if (json_array_append_new(list, formats_to_json(&s[i])) != 0) return json_decref(list), NULL;
    return json_pack("{so}", "described", list);
}

static enum fpl_code print_json(json_t *o, struct fpl_error *err) {
    char *text =
        o == NULL ? NULL : json_dumps(o, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(17));
    json_decref(o);
    if (text == NULL) return fpl_fail(err, FPL_SYSTEM, "formats: out of memory");
    puts(text);
    free(text);
    return FPL_OK;
}

/* ---- the command ----------------------------------------------------------------------------- */

static void show(const struct formats_subject *s, int count) {
    int formats = 0;
    for (int i = 0; i < count; i++) formats += s[i].kind == FORMATS_ELEMENT;
    if (formats == count && count > 1) {
        formats_compare(s, count);
        return;
    }
    for (int i = 0; i < count; i++) formats_describe(&s[i]);
}

/* All names first: a wrong one prints nothing. */
static enum fpl_code show_names(const struct arguments *a, struct fpl_error *err) {
    struct formats_subject *s = calloc((size_t)a->count, sizeof *s);
    if (s == NULL) return fpl_fail(err, FPL_SYSTEM, "formats: out of memory");
    enum fpl_code code = FPL_OK;
    for (int i = 0; i < a->count && code == FPL_OK; i++) code = find_subject(a->names[i], &s[i], err);
    if (code == FPL_OK && a->json)
        code = print_json(described_as_json(s, a->count), err);
    else if (code == FPL_OK)
        show(s, a->count);
    free(s);
    return code;
}

int fpl_cmd_formats(int argc, char **argv) {
    static const struct argp argp = {
        options,
        parse,
        "[NAME...]",
        "List number formats, quantizer words, recipes and accumulators; describe one of them; or set "
        "several formats side by side.\vNAME is a format (e4m3fn, int8, nf4, codebook(FILE)), a quantizer "
        "(e2m1/1x32:e8m0), a recipe (mxfp8, full:e4m3/row) or an accumulator (align:32,13).  A description "
        "shows the relatives of a format: every policy of the same bits, with its largest value and what "
        "differs.",
        NULL,
        NULL,
        NULL};
    struct arguments a = {.count = 0};
    struct fpl_error err = {FPL_OK, ""};
    enum fpl_code code = FPL_OK;
    fpl_cli_parse(&argp, argc, argv, &a);
    if (a.count > 0)
        code = show_names(&a, &err);
    else if (a.json)
        code = print_json(list_as_json(), &err);
    else
        list_as_text();
    return code == FPL_OK ? 0 : fpl_cli_fail(&err);
}
