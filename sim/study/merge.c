/* merge.c - a stage's planned runs, complete by now, become distinct runs of the study, in the
 * order in which they start (study.h).
 *
 * Runs are the same when their ids are; the first one met stays.  Ids are looked up by binary
 * search in a sorted list of pointers, so a study of 20,000 runs costs no quadratic time.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

struct ranked { /* a run and what it is ordered by */
    size_t index, item, replicate, within;
    double flop;
};

static int compare(size_t a, size_t b) { return (a > b) - (a < b); }

/* `within` counts the runs of one item and replicate in file order. */
static int by_balance(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    int order = compare(x->replicate, y->replicate);
    if (order == 0) order = compare(x->within, y->within);
    if (order == 0) order = compare(x->item, y->item);
    return order != 0 ? order : compare(x->index, y->index);
}

static int by_cost(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    int order = (x->flop > y->flop) - (x->flop < y->flop);
    return order != 0 ? order : compare(x->index, y->index);
}

static int by_id(const void *a, const void *b) {
    const struct fpl_study_run *x = *(const struct fpl_study_run *const *)a;
    const struct fpl_study_run *y = *(const struct fpl_study_run *const *)b;
    int order = strcmp(x->id, y->id);
    return order != 0 ? order : (x > y) - (x < y);
}

static void order_stage(struct ranked *rank, size_t count, enum stage_order order) {
    for (size_t i = 0; i < count; i++) {
        /* Runs of one item and replicate are in file order, so counting back to the previous one
         * of the same kind would do; seeds are innermost, so it is at most a few steps away. */
        rank[i].within = 0;
        for (size_t j = i; j-- > 0;)
            if (rank[j].item == rank[i].item && rank[j].replicate == rank[i].replicate) {
                rank[i].within = rank[j].within + 1;
                break;
            }
    }
    if (order == ORDER_BALANCED) qsort(rank, count, sizeof *rank, by_balance);
    if (order == ORDER_COST) qsort(rank, count, sizeof *rank, by_cost);
}

/* Index of the run of this id among the first `known` of s->run, which sorted[] orders by id. */
static size_t find_run(const struct fpl_study *s, struct fpl_study_run **sorted, size_t known,
                       const char *id) {
    size_t low = 0, high = known;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(sorted[middle]->id, id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < known && strcmp(sorted[low]->id, id) == 0 ? (size_t)(sorted[low] - s->run) : SIZE_MAX;
}

/* Keep the first planned run of each id; returns how many are left. */
static size_t drop_repeated(struct fpl_stage_plan *plan, struct fpl_study_run **sorted) {
    for (size_t i = 0; i < plan->planned_count; i++) sorted[i] = &plan->planned[i];
    qsort(sorted, plan->planned_count, sizeof *sorted, by_id);
    for (size_t i = 1; i < plan->planned_count; i++)
        if (strcmp(sorted[i]->id, sorted[i - 1]->id) == 0)
            sorted[i]->line = 0; /* a mark: the earlier one stays */
    size_t kept = 0;
    for (size_t i = 0; i < plan->planned_count; i++)
        if (plan->planned[i].line != 0) {
            if (kept != i) plan->planned[kept] = plan->planned[i];
            kept++;
        }
    return kept;
}

static int grow_runs(struct fpl_study *s, size_t more) {
    if (s->runs + more <= s->room) return 1;
    struct fpl_study_run *larger = realloc(s->run, (s->runs + more) * sizeof *larger);
    if (larger == NULL) return 0;
    s->run = larger;
    s->room = s->runs + more;
    return 1;
}

enum fpl_code study_merge(struct fpl_study *s, size_t stage, struct fpl_error *err) {
    struct fpl_study_stage *g = &s->stage[stage];
    struct fpl_stage_plan *plan = g->plan;
    size_t most = plan->planned_count > s->runs ? plan->planned_count : s->runs, known = s->runs;
    struct fpl_study_run **sorted = malloc((most + 1) * sizeof *sorted);
    struct ranked *rank = calloc(plan->planned_count + 1, sizeof *rank);
    g->run = calloc(plan->planned_count + 1, sizeof *g->run);
    if (sorted == NULL || rank == NULL || g->run == NULL || !grow_runs(s, plan->planned_count)) {
        free(sorted);
        free(rank);
        return fpl_fail(err, FPL_SYSTEM, "%s: out of memory", s->file);
    }
    size_t kept = drop_repeated(plan, sorted);
    for (size_t i = 0; i < known; i++) sorted[i] = &s->run[i];
    qsort(sorted, known, sizeof *sorted, by_id);
    for (size_t i = 0; i < kept; i++) {
        const struct fpl_study_run *r = &plan->planned[i];
        size_t index = find_run(s, sorted, known, r->id);
        if (index == SIZE_MAX) {
            index = s->runs++;
            s->run[index] = *r;
        }
        rank[i] =
            (struct ranked){.index = index, .item = r->item, .replicate = r->replicate, .flop = r->flop};
    }
    order_stage(rank, kept, plan->order);
    for (size_t i = 0; i < kept; i++) g->run[i] = rank[i].index;
    g->runs = kept;
    g->resolved = 1;
    free(plan->planned);
    plan->planned = NULL;
    plan->planned_count = plan->planned_room = 0;
    free(sorted);
    free(rank);
    return FPL_OK;
}
