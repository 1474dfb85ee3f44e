/* restart.c - restarts that must come back to a minimum before it is called one.
 *
 *   jittered   parameters moved by up to a fifth of their unit
 *   mirrored   a bowl's two directions exchanged: the same landscape in parameters that its pseudo-runs
 *              may like better (bowl.c)
 *   nested     the minimum of every model nested in this one (nested.c): what a smaller model reaches, the
 *              larger must reach too.  Along a ridge of learning rate and batch a fit can lie behind a
 *              saddle that no jitter crosses, and its tests of nested models would all say p = 1
 *
 * A lower minimum is adopted and the caller goes round again: so an objective that stands after a round
 * is at most that of every nested model.
 */
#include <math.h>
#include <string.h>

#include "../../formats/random.h"
#include "restart.h"

#define ABSOLUTE_SHARE 0.01 /* |r| is rounded off within this share of the residual scale */
#define ABSOLUTE_STEP 4.0   /* delta falls to it by this factor at a time */
#define ABSOLUTE_FIRST 1.35 /* residual scales: Huber's usual delta */
#define JITTER 0.2
#define LOWER 1e-6 /* of the objective: what counts as lower */
#define SAME 1e-5  /* and as the same */

double fpl_absolute_delta(double scale) { return fmax(1e-9, ABSOLUTE_SHARE * scale); }

void fpl_descend(const struct fpl_objective *objective, enum fpl_objective_kind kind, double *theta,
                 double tolerance, struct fpl_minimum *out) {
    struct fpl_objective o = *objective;
    if (kind == FPL_ABSOLUTE_LOG)
        for (o.delta = fmax(objective->delta, ABSOLUTE_FIRST * objective->scale); o.delta > objective->delta;
             o.delta = fmax(objective->delta, o.delta / ABSOLUTE_STEP))
            fpl_minimise(&o, theta, 300, tolerance, out);
    fpl_minimise(&o, theta, 300, tolerance, out);
}

static double slack(const struct fpl_objective *o) { return fpl_negligible(o->problem); }

/* Adopts the minimum from `start` if it is lower. */
static int adopt(const struct fpl_objective *o, enum fpl_objective_kind kind, double *start, double *theta,
                 struct fpl_minimum *minimum, int *back) {
    struct fpl_minimum found;
    fpl_descend(o, kind, start, 1e-10, &found);
    *back += found.value <= minimum->value * (1.0 + SAME) + slack(o);
    if (!(found.value < minimum->value * (1.0 - LOWER) - slack(o))) return 0;
    memcpy(theta, start, (size_t)o->problem->law->params * sizeof *theta);
    fpl_polish(o, theta, minimum);
    return 1;
}

static void jitter(const struct fpl_problem *problem, int k, const double *theta, double *out) {
    const struct fpl_law *law = problem->law;
    for (int j = 0; j < law->params; j++) {
        uint32_t bits[4];
        fpl_random_block(0, (uint64_t)j, (uint32_t)k, fpl_stream(FPL_STREAM_BOOTSTRAP, 1), bits);
        const double unit = 2.0 * fpl_random_uniform(bits[0], bits[1]) - 1.0;
        out[j] = theta[j] + (problem->active[j] ? JITTER * unit * fmin(1.0, law->param[j].scale) : 0.0);
    }
}

/* The bowl with its directions exchanged; 0: there is none, or no such form of it. */
static int mirror(const struct fpl_law *law, const double *theta, double *out) {
    if (law->bowl_at == 0) return 0;
    memcpy(out, theta, (size_t)law->params * sizeof *out);
    return fpl_bowl_mirror(theta + law->bowl_at, out + law->bowl_at);
}

int fpl_restart(const struct fpl_objective *objective, enum fpl_objective_kind kind, int round, double *theta,
                struct fpl_minimum *minimum, int *back) {
    double start[FPL_LAW_PARAMS] = {0.0}, value;
    int others = 0, fewer;
    *back = 0;
    for (int k = 0; k < FPL_JITTERS; k++) {
        jitter(objective->problem, round * FPL_JITTERS + k, theta, start);
        if (adopt(objective, kind, start, theta, minimum, back)) return 1;
    }
    if (mirror(objective->problem->law, theta, start) &&
        adopt(objective, kind, start, theta, minimum, &others))
        return 1;
    for (size_t k = 0; (fewer = fpl_nested_minimum(objective, theta, k, start, &value)) >= 0; k++)
        if (fewer > 0 && adopt(objective, kind, start, theta, minimum, &others)) return 1;
    return 0;
}
