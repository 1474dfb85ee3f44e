/* formats_recipe.c - recipes in `fplaw formats`: the list of presets and options, and what one
 * recipe does to each operand and around it.
 *
 * Only options that differ from the recipe fp32 are described, in the order of the registry;
 * the sign vector of a Hadamard transform is printed, because results depend on it.
 */
#include "formats_recipe.h"

#include <stdio.h>
#include <string.h>

#include "../../formats/hadamard.h"
#include "formats.h"

static void print_operand(const char *name, const struct fpl_quantizer *q) {
    char text[FPL_QUANTIZER_TEXT];
    fpl_quantizer_print(q, text, sizeof text);
    printf("  %-8s %s", name, text);
    if (!q->identity) {
        struct fpl_quantizer_plan plan;
        fpl_quantizer_lower(q, NULL, &plan);
        printf(" (largest %.9g)", (double)plan.largest);
    }
    printf("\n");
}

/* Option o of r under its full name, which is written to name; 0 where it is as in fp32. */
static int option_value(const struct fpl_recipe *r, const struct fpl_recipe_option *o, int role,
                        char name[32], char value[FPL_QUANTIZER_TEXT]) {
    struct fpl_recipe none;
    char usual[FPL_QUANTIZER_TEXT];
    const int index = o->per_role ? role : o->index;
    if (fpl_recipe_parse("fp32", &none, NULL) != FPL_OK) return 0;
    snprintf(name, 32, "%s%s%s", o->per_role ? fpl_role_names[role] : "", o->per_role ? "." : "", o->name);
    o->print(r, index, value, FPL_QUANTIZER_TEXT);
    o->print(&none, index, usual, sizeof usual);
    return strcmp(value, usual) != 0;
}

static void print_signs(int n) {
    printf("           signs");
    for (int i = 0; i < n; i++) printf(" %c", FPL_HADAMARD_SIGNS >> i & 1u ? '-' : '+');
    printf(", factor %.9g\n", (double)fpl_hadamard_factor(n));
}

void fpl_cli_describe_recipe(const char *name, const struct fpl_recipe *r) {
    int transformed = 0;
    printf("%s: recipe %s\n", name, r->text);
    for (int i = 0; i < FPL_SLOTS; i++) print_operand(fpl_slot_names[i], &r->slot[i]);
    if (r->has_post) {
        char post[48];
        fpl_format_print(&r->post, post, sizeof post);
        printf("  every operand is then rounded to %s\n", post);
    }
    for (const struct fpl_recipe_option *o = fpl_recipe_options; o->name != NULL; o++) {
        for (int role = 0; role < (o->per_role ? FPL_RECIPE_ROLES : 1); role++) {
            char key[32], value[FPL_QUANTIZER_TEXT];
            if (option_value(r, o, role, key, value)) printf("  %-10s %s\n", key, value);
        }
    }
    for (int i = 0; i < FPL_RECIPE_ROLES; i++)
        transformed = r->hadamard[i] > transformed ? r->hadamard[i] : transformed;
    if (transformed != 0) print_signs(transformed);
}

/* "name  meaning (source)" and "as key=example", in 80 columns. */
static void print_entry(const char *name, const char *meaning, const char *source, const char *key,
                        const char *example) {
    char text[1024];
    snprintf(text, sizeof text, "%s%s%s%s", meaning, *source ? " (" : "", source, *source ? ")" : "");
    formats_row(name, 14, text);
    snprintf(text, sizeof text, "as %s%s%s", key, *key ? "=" : "", example);
    formats_row("", 14, text);
}

void fpl_cli_list_recipes(void) {
    printf("\nrecipes\n");
    for (const struct fpl_recipe_preset *p = fpl_recipe_presets; p->name != NULL; p++)
        print_entry(p->name, p->meaning, p->source, "", p->example);
    printf("\noptions of a recipe, after it: recipe;option=value;...\n");
    for (const struct fpl_recipe_option *o = fpl_recipe_options; o->name != NULL; o++)
        print_entry(o->name, o->meaning, "", o->name, o->example);
}

/* ---- JSON ------------------------------------------------------------------------------------- */

json_t *fpl_cli_recipes_json(void) {
    json_t *list = json_array();
    int bad = list == NULL;
    for (const struct fpl_recipe_preset *p = fpl_recipe_presets; p->name != NULL; p++)
        bad |= json_array_append_new(list, json_pack("{ssssssss}", "name", p->name, "example", p->example,
                                                     "meaning", p->meaning, "source", p->source));
    if (bad) json_decref(list);
    return bad ? NULL : list;
}

json_t *fpl_cli_recipe_options_json(void) {
    json_t *list = json_array();
    int bad = list == NULL;
    for (const struct fpl_recipe_option *o = fpl_recipe_options; o->name != NULL; o++)
        bad |=
            json_array_append_new(list, json_pack("{ssssssso}", "name", o->name, "example", o->example,
                                                  "meaning", o->meaning, "roles", json_boolean(o->per_role)));
    if (bad) json_decref(list);
    return bad ? NULL : list;
}

json_t *fpl_cli_recipe_json(const char *name, const struct fpl_recipe *r) {
    json_t *o = json_pack("{ssssss}", "kind", "recipe", "name", name, "recipe", r->text),
           *slots = json_object(), *options = json_object();
    int bad = 0;
    for (int i = 0; i < FPL_SLOTS; i++) {
        char text[FPL_QUANTIZER_TEXT];
        fpl_quantizer_print(&r->slot[i], text, sizeof text);
        bad |= json_object_set_new(slots, fpl_slot_names[i], json_string(text));
    }
    for (const struct fpl_recipe_option *p = fpl_recipe_options; p->name != NULL; p++) {
        for (int role = 0; role < (p->per_role ? FPL_RECIPE_ROLES : 1); role++) {
            char key[32], value[FPL_QUANTIZER_TEXT];
            if (option_value(r, p, role, key, value))
                bad |= json_object_set_new(options, key, json_string(value));
        }
    }
    char post[48] = "";
    if (r->has_post) fpl_format_print(&r->post, post, sizeof post);
    bad |= json_object_set_new(o, "operands", slots);
    bad |= json_object_set_new(o, "options", options);
    bad |= json_object_set_new(o, "post", r->has_post ? json_string(post) : json_null());
    if (bad) json_decref(o);
    return bad ? NULL : o;
}
