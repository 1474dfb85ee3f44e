/* fitread_told.c - the parts of FIT.json that tell about a fit and that no prediction rests on:
 * findings, held-out cells, bases tried, profile intervals.
 *
 * What is missing or of another type is passed over: an answer does not depend on it.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "fitread.h"

#define CELL_LIMIT 100000

static double number_of(const json_t *j) { return json_is_number(j) ? json_number_value(j) : (double)NAN; }

static double number_at(const json_t *object, const char *key) {
    return number_of(json_object_get(object, key));
}

/* The place of a word in a list; `otherwise` where it is none of them. */
static int word_at(const json_t *object, const char *key, const char *const *words, int otherwise) {
    const char *text = json_string_value(json_object_get(object, key));
    for (int i = 0; text != NULL && words[i] != NULL; i++)
        if (strcmp(text, words[i]) == 0) return i;
    return otherwise;
}

static void read_findings(const json_t *law, struct fpl_fit *fit) {
    const json_t *list = json_object_get(law, "findings");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (text != NULL) fpl_finding(fit, "%.*s", (int)strcspn(text, "\n"), text);
    }
}

static void read_cells(const json_t *law, struct fpl_fit *fit) {
    const json_t *list = json_object_get(json_object_get(law, "held_out"), "cells");
    const size_t count = json_array_size(list);
    if (count == 0 || count > CELL_LIMIT) return;
    fit->held = calloc(count, sizeof *fit->held);
    if (fit->held == NULL) return;
    for (size_t i = 0; i < count; i++) {
        const json_t *c = json_array_get(list, i);
        const json_int_t runs = json_integer_value(json_object_get(c, "runs"));
        fit->held[fit->held_count++] = (struct fpl_held_cell){
            number_at(c, "N"),
            number_at(c, "D"),
            runs > 0 ? (size_t)runs : 0,
            number_at(c, "mean_log_residual"),
            number_at(c, "rms_log_residual"),
            number_at(c, "lr"),
            number_at(c, "batch_tokens"),
        };
    }
}

static void read_bases(const json_t *law, struct fpl_fit *fit) {
    const json_t *tried = json_object_get(json_object_get(law, "base"), "held_out_rms");
    for (size_t k = 0; fit->law->base != NULL && fpl_law_joints[k] != NULL; k++) {
        const json_t *rms = json_object_get(tried, fpl_law_base(fpl_law_joints[k]));
        if (rms != NULL) fit->base_rms[k] = number_of(rms);
    }
}

/* What a parameter says beside its value; an end that is null is infinite: the data do not bound it. */
static void read_profiles(const json_t *law, struct fpl_fit *fit) {
    for (int j = 0; j < fit->law->params; j++) {
        const json_t *p = json_object_get(json_object_get(law, "params"), fit->law->param[j].name),
                     *ends = json_object_get(p, "profile");
        fit->identified[j] = json_is_true(json_object_get(p, "identified"));
        if (json_array_size(ends) != 2) continue;
        const double low = number_of(json_array_get(ends, 0)), high = number_of(json_array_get(ends, 1));
        fit->profiled[j] = 1;
        fit->profile[j] =
            (struct fpl_estimate){fit->value[j], isnan(low) ? -HUGE_VAL : low, isnan(high) ? HUGE_VAL : high};
    }
}

void fpl_fit_read_told(const json_t *law, struct fpl_fit *fit) {
    const json_t *bootstrap = json_object_get(law, "bootstrap");
    const json_int_t units = json_integer_value(json_object_get(bootstrap, "units"));
    fit->kind = (enum fpl_objective_kind)word_at(json_object_get(law, "objective"), "name",
                                                 fpl_objective_names, FPL_HUBER_LOG);
    fit->unit = (enum fpl_bootstrap_unit)word_at(bootstrap, "unit", fpl_unit_names, FPL_UNIT_RUN);
    fit->units = units > 0 ? (size_t)units : 0;
    fit->condition = number_at(law, "condition");
    read_findings(law, fit);
    read_cells(law, fit);
    read_bases(law, fit);
    read_profiles(law, fit);
}
