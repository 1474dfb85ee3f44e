/* registry.c - the laws, one row each, and their published constants.
 *
 * A new law is a file with its struct fpl_law and a row here: fitting, prediction, FIT.json,
 * the command line and the tests iterate this table.
 */
#include <string.h>

#include "problem.h"

const struct fpl_law *const fpl_laws[] = {&fpl_law_chinchilla,      &fpl_law_chinchilla_nd,
                                          &fpl_law_capacity,        &fpl_law_farseer,
                                          &fpl_law_average_n,       &fpl_law_capybara,
                                          &fpl_law_capybara_e,      &fpl_law_capybara_m,
                                          &fpl_law_capybara_b,      &fpl_law_capybara_channel,
                                          &fpl_law_capybara_tensor, &fpl_law_kumar,
                                          &fpl_law_kumar_ptq,       &fpl_law_qat,
                                          &fpl_law_steplaw,         &fpl_law_bowl,
                                          &fpl_law_joint,           &fpl_law_kaplan,
                                          &fpl_law_annealing,       &fpl_law_multipower,
                                          &fpl_law_power_floor,     &fpl_law_surge,
                                          &fpl_law_noise_scale,     NULL};

const struct fpl_law *fpl_law_find(const char *name) {
    for (size_t i = 0; fpl_laws[i] != NULL; i++)
        if (strcmp(fpl_laws[i]->name, name) == 0) return fpl_laws[i];
    return NULL;
}

const char *fpl_law_name(const struct fpl_law *law) { return law->name; }
const char *fpl_law_citation(const struct fpl_law *law) { return law->citation; }
const char *fpl_law_formula(const struct fpl_law *law) { return law->formula; }

int fpl_law_preset_at(const struct fpl_law *law, size_t i, const char **name, const char **source,
                      const double **values) {
    if (i >= (size_t)law->preset_count) return 0;
    *name = law->presets[i].name;
    *source = law->presets[i].source;
    *values = law->presets[i].value;
    return 1;
}
