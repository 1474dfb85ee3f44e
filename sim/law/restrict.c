/* restrict.c - which parameters of a law a fit may move: --fix NAME=VALUE and --release NAME.
 *
 * A held parameter has both bounds at its value (struct fpl_problem: then it is reported as what it
 * was held at); a released one, which the law itself holds, gets bounds of +-10.  Only parameters
 * that are published as they stand inside (exponents, shapes, floors) can be held: the internal form
 * of a prefactor depends on the exponents beside it.  A parameter of the precision term needs no
 * holding where no run is quantized: there it is absent.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../base/number.h"
#include "base.h"

#define FREED 10.0

static int index_of(const struct fpl_law *law, const char *name) {
    for (int j = 0; j < law->params; j++)
        if (strcmp(law->param[j].name, name) == 0) return j;
    return -1;
}

static enum fpl_code unknown(const struct fpl_law *law, const char *option, const char *name,
                             struct fpl_error *err) {
    const char *names[FPL_LAW_PARAMS + 1];
    for (int j = 0; j < law->params; j++) names[j] = law->param[j].name;
    names[law->params] = NULL;
    const char *near = fpl_nearest_word(name, names);
    return fpl_fail(err, FPL_INVALID, "%s: law %s has no parameter '%.40s'%s%s%s", option, law->name, name,
                    near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
                    near != NULL ? "'?" : "");
}

/* Does moving any other parameter leave the published one where it is? */
static int stands_alone(const struct fpl_law *law, int j) {
    const struct fpl_centre centre = {10.0, 20.0};
    double theta[FPL_LAW_PARAMS], published[FPL_LAW_PARAMS];
    for (int k = 0; k < law->params; k++) theta[k] = 0.3 + 0.01 * k;
    law->publish(law, theta, &centre, published);
    return fabs(published[j] - theta[j]) <= 1e-12;
}

/* The next item of a comma-separated list; 0 at its end. */
static int next_item(const char **list, char *item, size_t size) {
    if (*list == NULL || **list == '\0') return 0;
    const size_t length = strcspn(*list, ",");
    snprintf(item, size, "%.*s", (int)length, *list);
    *list += length + ((*list)[length] == ',');
    return 1;
}

static enum fpl_code hold(struct fpl_problem *p, char *item, struct fpl_error *err) {
    char *equal = strchr(item, '=');
    double value;
    if (equal == NULL)
        return fpl_fail(err, FPL_INVALID, "--fix: NAME=VALUE is expected, '%.60s' is found", item);
    *equal = '\0';
    const int j = index_of(p->law, item);
    if (j < 0) return unknown(p->law, "--fix", item, err);
    if (fpl_number_parse(equal + 1, &value, err) != FPL_OK) return fpl_fail_at(err, "--fix %s", item);
    if (!stands_alone(p->law, j))
        return fpl_fail(err, FPL_INVALID,
                        "--fix: '%s' is a prefactor, which only means something beside its exponents; "
                        "exponents, shapes and floors can be held",
                        item);
    if (p->law->param[j].hi > p->law->param[j].lo &&
        !(value >= p->law->param[j].lo && value <= p->law->param[j].hi))
        return fpl_fail(err, FPL_INVALID, "--fix: %s: found %g, accepted is %g to %g", item, value,
                        p->law->param[j].lo, p->law->param[j].hi);
    if (fpl_param_precision(p->law, j) && !p->active[j]) return FPL_OK;
    p->lo[j] = p->hi[j] = value;
    p->active[j] = 0;
    return FPL_OK;
}

enum fpl_code fpl_problem_restrict(struct fpl_problem *p, const char *fix, const char *release,
                                   struct fpl_error *err) {
    char item[128];
    const struct fpl_law *law = p->law;
    while (next_item(&release, item, sizeof item)) {
        const int j = index_of(law, item);
        if (j < 0) return unknown(law, "--release", item, err);
        if (p->hi[j] > p->lo[j])
            return fpl_fail(err, FPL_INVALID, "--release: law %s does not hold '%s'", law->name, item);
        p->lo[j] = -FREED;
        p->hi[j] = FREED;
        p->active[j] = 1;
    }
    while (next_item(&fix, item, sizeof item)) {
        const enum fpl_code code = hold(p, item, err);
        if (code != FPL_OK) return code;
    }
    return FPL_OK;
}
