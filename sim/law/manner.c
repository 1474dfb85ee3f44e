/* manner.c - which runs are alike beyond what a law's covariates say.
 *
 * E, M and block describe a recipe to a law.  They do not tell rounding to nearest from stochastic rounding,
 * a float32 scale from a power of two, one scale from two levels (+t), a searched scale (+mse, +46) or a
 * zero point (+z) from none, nor three quantized operands from six: a fit that mixed these would take one
 * regime's loss for another's.  So a law with a precision term is fitted to quantized runs that compute in
 * one manner, the most frequent one (equally many: the first in the order of texts); the others are left
 * out by name, and --where fits them alone.  Options that change the arithmetic of products blank E and M
 * already (recipe.h).
 *
 * A recipe's manner is its six operands' quantizers, each printed with one and the same element format and
 * block width, and the format that operands are rounded to afterwards.  Reserved codes (e4m3, e4m3fn) are
 * none: they move the largest value by a few percent.  Laws of bit widths by role (kumar) tell the operands
 * apart themselves, so there their list does not count.  A recipe that cannot be parsed is a manner of
 * its own, and so is a table's missing recipe.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/recipe.h"
#include "manner.h"

int fpl_run_is_quantized(const struct fpl_run *r) {
    if (!isnan(r->E) || !isnan(r->M) || !isnan(r->block)) return 1;
    return r->format[0] != '\0' && strcmp(r->format, "fp32") != 0 && strcmp(r->format, "bf16") != 0;
}

/* ---- a recipe's manner ------------------------------------------------------------------------- */

static void append(char out[FPL_MANNER_TEXT], const char *text) {
    const size_t used = strlen(out);
    snprintf(out + used, FPL_MANNER_TEXT - used, "%s%s", used > 0 ? " " : "", text);
}

/* Appends the quantizer with its element format and block width replaced. */
static void append_quantizer(char out[FPL_MANNER_TEXT], const struct fpl_quantizer *given, int once) {
    struct fpl_quantizer q = *given;
    char text[FPL_QUANTIZER_TEXT];
    if (q.identity && once) return;
    if (!q.identity) {
        fpl_format_parse("e2m1", &q.format, NULL);
        if (q.granularity == FPL_BLOCK && q.block_rows == 1) q.block_cols = 1;
    }
    fpl_quantizer_print(&q, text, sizeof text);
    if (!once || strstr(out, text) == NULL) append(out, text);
}

void fpl_manner_of(const char *recipe, int operands, char out[FPL_MANNER_TEXT]) {
    struct fpl_recipe parsed;
    struct fpl_error ignored;
    out[0] = '\0';
    if (recipe[0] == '\0') return;
    if (fpl_recipe_parse(recipe, &parsed, &ignored) != FPL_OK) {
        append(out, recipe);
        return;
    }
    for (int s = 0; s < FPL_SLOTS; s++) append_quantizer(out, &parsed.slot[s], !operands);
    if (parsed.has_post) {
        char text[48];
        append(out, "post");
        fpl_format_print(&parsed.post, text, sizeof text);
        append(out, text);
    }
}

/* ---- one manner of a table ----------------------------------------------------------------------- */

struct known {
    const char *recipe;
    char manner[FPL_MANNER_TEXT];
    size_t same; /* index of the first recipe of this manner */
    size_t runs; /* of the manner, counted at that index */
};

static size_t find_recipe(struct known *list, size_t *count, const char *recipe, int operands) {
    size_t k = 0;
    while (k < *count && strcmp(list[k].recipe, recipe) != 0) k++;
    if (k < *count) return k;
    struct known *fresh = &list[(*count)++];
    fresh->recipe = recipe;
    fresh->runs = 0;
    fpl_manner_of(recipe, operands, fresh->manner);
    fresh->same = 0;
    while (strcmp(list[fresh->same].manner, fresh->manner) != 0) fresh->same++;
    return k;
}

/* Room for every recipe of the table. */
static struct known *room_for(const struct fpl_runs *runs) {
    size_t distinct = 0;
    for (size_t i = 0; i < runs->count; i++) distinct += runs->run[i].recipe[0] != '\0';
    return malloc((distinct + 1) * sizeof(struct known));
}

enum fpl_code fpl_keep_one_manner(const struct fpl_law *law, const struct fpl_runs *runs,
                                  struct fpl_left_out *why, size_t *others, struct fpl_error *err) {
    const int operands = !fpl_law_takes(law, FPL_VAR_PW);
    *others = 0;
    if ((law->use & (FPL_NEED_FORMAT | FPL_TAKE_FORMAT)) == 0) return FPL_OK;
    struct known *list = room_for(runs);
    size_t count = 0, best = 0;
    if (list == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory for %zu recipes", runs->count);
    for (size_t i = 0; i < runs->count; i++) {
        if (why[i].why[0] != '\0' || !fpl_run_is_quantized(&runs->run[i])) continue;
        list[list[find_recipe(list, &count, runs->run[i].recipe, operands)].same].runs++;
    }
    for (size_t k = 1; k < count; k++)
        if (list[k].runs > list[best].runs ||
            (list[k].runs == list[best].runs && strcmp(list[k].manner, list[best].manner) < 0))
            best = k;
    for (size_t i = 0; i < runs->count && count > 1; i++) {
        if (why[i].why[0] != '\0' || !fpl_run_is_quantized(&runs->run[i])) continue;
        if (list[find_recipe(list, &count, runs->run[i].recipe, operands)].same == best) continue;
        snprintf(why[i].why, sizeof why[i].why,
                 "computes as %.48s does, unlike most quantized runs (%.48s): --where fits it alone",
                 runs->run[i].recipe[0] != '\0' ? runs->run[i].recipe : "no recipe", list[best].recipe);
        ++*others;
    }
    free(list);
    return FPL_OK;
}

/* ---- one condition --------------------------------------------------------------------------------- */

/* Laws that take any format, but all runs alike. */
static enum fpl_code check_recipes(const struct fpl_problem *p, const struct fpl_runs *runs,
                                   struct fpl_error *err) {
    const struct fpl_run *first = &runs->run[p->row[0].run];
    char manner[FPL_MANNER_TEXT], other[FPL_MANNER_TEXT];
    fpl_manner_of(first->recipe, 1, manner);
    for (size_t i = 1; i < p->count; i++) {
        const struct fpl_run *r = &runs->run[p->row[i].run];
        if (strcmp(r->recipe, first->recipe) == 0 && strcmp(r->format, first->format) == 0) continue;
        fpl_manner_of(r->recipe, 1, other);
        if (strcmp(manner, other) == 0 && strcmp(r->format, first->format) == 0) continue;
        return fpl_fail(err, FPL_INVALID,
                        "%s: %s is fitted to one condition, but the runs have recipe = %.40s and %.40s; "
                        "choose one with --where",
                        runs->source, p->law->name, first->recipe, r->recipe);
    }
    return FPL_OK;
}

static const struct {
    enum fpl_variable which;
    unsigned use;
} parts[] = {{FPL_VAR_N, FPL_ONE_CELL},
             {FPL_VAR_D, FPL_ONE_CELL},
             {FPL_VAR_E, FPL_ANY_FORMAT | FPL_ONE_FORMAT},
             {FPL_VAR_M, FPL_ANY_FORMAT | FPL_ONE_FORMAT},
             {FPL_VAR_BLOCK, FPL_ANY_FORMAT | FPL_ONE_FORMAT}};

/* May this variable differ between the law's runs? */
static int may_vary(const struct fpl_law *law, enum fpl_variable which) {
    /* a part of a precision law varies what it takes; a law of one format's efficiencies does not */
    const int precise = (law->use & FPL_ONE_FORMAT) == 0 || law->penalty_at >= 0;
    if (fpl_law_takes(law, which) && precise) return 1;
    if (which == FPL_VAR_BLOCK && fpl_law_takes(law, FPL_VAR_GROUP)) return 1; /* its group */
    /* whole curves of one size may be of any length */
    return which == FPL_VAR_D && (law->use & FPL_CURVES) != 0;
}

enum fpl_code fpl_check_alike(const struct fpl_problem *p, const struct fpl_runs *runs,
                              struct fpl_error *err) {
    const struct fpl_law *law = p->law;
    const int one_format = (law->use & FPL_ONE_FORMAT) != 0;
    const struct fpl_run *first = NULL; /* the run that the others must be like */
    for (size_t i = 0; i < p->count; i++) {
        const struct fpl_run *r = &runs->run[p->row[i].run];
        if (one_format && !fpl_run_is_quantized(r)) continue;
        if (first == NULL) first = r;
        const struct fpl_question a = fpl_question_of_run(first), b = fpl_question_of_run(r);
        for (size_t k = 0; k < sizeof parts / sizeof parts[0]; k++) {
            const double x = a.value[parts[k].which], y = b.value[parts[k].which];
            if ((law->use & parts[k].use) == 0 || x == y || (isnan(x) && isnan(y))) continue;
            if (may_vary(law, parts[k].which)) continue;
            return fpl_fail(err, FPL_INVALID,
                            "%s: %s is fitted to one condition, but the runs have %s = %g and %g; choose one "
                            "with --where",
                            runs->source, law->name, fpl_variables[parts[k].which].name, x, y);
        }
    }
    return (law->use & FPL_ANY_FORMAT) != 0 ? check_recipes(p, runs, err) : FPL_OK;
}
