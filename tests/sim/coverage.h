/* coverage.h - how often intervals hold the truth, counted and judged, for the tests of coverage. */
#ifndef FPL_TEST_COVERAGE_H
#define FPL_TEST_COVERAGE_H

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../../sim/law/law.h"

enum { QUANTITIES = FPL_LAW_PARAMS + 12 };

struct tally {
    char name[40];
    int hits, tries;
};

struct coverage {
    const char *label;
    struct tally tally[QUANTITIES];
    int count, converged, tables;
};

static inline void count_one(struct coverage *c, const char *name, const struct fpl_estimate *e,
                             double truth) {
    int k = 0;
    while (k < c->count && strcmp(c->tally[k].name, name) != 0) k++;
    if (k == c->count) {
        assert_true(c->count < QUANTITIES);
        snprintf(c->tally[c->count++].name, sizeof c->tally[0].name, "%s", name);
    }
    c->tally[k].tries++;
    c->tally[k].hits += e->lo <= truth && truth <= e->hi;
}

/* Misses that n independent 95 % intervals exceed in one of 2,000 tables of results. */
static inline int most_misses(int n) { return (int)ceil(0.05 * n + 3.3 * sqrt(0.0475 * n)); }

static inline int judge(const struct coverage *c, int full) {
    int hits = 0, tries = 0, bad = 0;
    for (int k = 0; k < c->count; k++) {
        const struct tally *t = &c->tally[k];
        const double share = (double)t->hits / t->tries;
        hits += t->hits;
        tries += t->tries;
        const int off = full ? t->tries >= 100 && !(share >= 0.88 && share <= 0.99)
                             : t->tries - t->hits > most_misses(t->tries);
        if (full || off)
            printf("%-18s %-22s %5.1f %% of %d%s\n", c->label, t->name, 100 * share, t->tries,
                   off ? "   <--" : "");
        bad += off;
    }
    const double pooled = tries > 0 ? (double)hits / tries : 0;
    const int off = full && !(pooled >= 0.92 && pooled <= 0.97);
    if (full)
        printf("%-18s %-22s %5.1f %% of %d, %d of %d tables converged%s\n", c->label, "pooled", 100 * pooled,
               tries, c->converged, c->tables, off ? "   <--" : "");
    fflush(stdout);
    return bad + off + (c->converged < (full ? 9 * c->tables / 10 : c->tables / 2));
}

#endif
