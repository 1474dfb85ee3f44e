/* cost.c - how long a run will take, from what runs have taken.
 *
 * Speed depends on the model's size most of all (a small model's products are far from the
 * machine's peak) and on whether operands are quantized, so FLOP and seconds are summed per
 * (N, quantized).  A run is estimated at the rate of the measured size nearest to its own in
 * the logarithm, among rows that agree on quantization if there are any.  Measured rates are
 * those of the workers side by side, so they include what the workers cost each other.
 */
#include "internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/recipe.h"

int cost_add(struct cost_model *m, double N, int quantized, double flop, double seconds) {
    if (!(N > 0) || !(flop > 0) || !(seconds > 0)) return 1;
    quantized = quantized != 0;
    for (size_t i = 0; i < m->count; i++)
        if (m->row[i].quantized == quantized && fabs(m->row[i].N - N) < 0.5) {
            m->row[i].flop += flop;
            m->row[i].seconds += seconds;
            return 1;
        }
    struct cost_row *larger = realloc(m->row, (m->count + 1) * sizeof *larger);
    if (larger == NULL) return 0;
    m->row = larger;
    m->row[m->count++] = (struct cost_row){N, flop, seconds, quantized};
    return 1;
}

enum fpl_code cost_load(struct cost_model *m, struct fpl_store *store, struct fpl_error *err) {
    struct fpl_store_speed *speed = NULL;
    size_t count = 0;
    enum fpl_code code = fpl_store_speeds(store, &speed, &count, err);
    int added = 1;
    for (size_t i = 0; i < count && added; i++)
        added = cost_add(m, speed[i].N, speed[i].quantized, speed[i].flop, speed[i].seconds);
    free(speed);
    return added ? code : fpl_fail(err, FPL_SYSTEM, "out of memory");
}

double cost_rate(const struct cost_model *m, double N, int quantized) {
    double nearest = 1e300, rate = m->assumed > 0 ? m->assumed : STUDY_RATE_ALONE;
    for (size_t i = 0; i < m->count; i++) {
        /* Sizes differ by less than 2^60: any row that agrees on quantization comes first. */
        double distance = fabs(log(m->row[i].N / N)) + (m->row[i].quantized == (quantized != 0) ? 0 : 100);
        if (distance < nearest) {
            nearest = distance;
            rate = m->row[i].flop / m->row[i].seconds;
        }
    }
    return rate;
}

int study_quantizes(const char *text) {
    struct fpl_recipe recipe;
    struct fpl_recipe_summary summary;
    if (fpl_recipe_parse(text, &recipe, NULL) != FPL_OK) return 0;
    fpl_recipe_summarize(&recipe, &summary);
    return summary.format[0] != '\0';
}

double cost_seconds(const struct cost_model *m, const struct fpl_study_run *r) {
    return r->flop / cost_rate(m, fpl_config_params(&r->config), study_quantizes(r->config.recipe));
}

void cost_free(struct cost_model *m) {
    free(m->row);
    *m = (struct cost_model){.assumed = m->assumed};
}
