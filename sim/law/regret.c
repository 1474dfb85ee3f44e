/* regret.c - see regret.h: cells of a grid, their quartics, and the loss that a law gives away
 * (the score by which laws of learning rate and batch are compared, arXiv 2503.04715).
 *
 * The quartic has the 15 monomials of degree 4 and less, in coordinates scaled to the cell's own
 * runs, so that its normal equations are well conditioned.  Its minimum is sought on a lattice of
 * 1/50 octave: at curvatures of 0.005 per squared octave that is right to 1e-6 of the loss.
 */
#include "regret.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/random.h"
#include "fitting.h"

enum { TERMS = 15 };
#define NEAR 0.03
#define CLOSE 0.015
#define REACH 0.55
#define LATTICE 0.02

struct point {
    double x, y, loss;
};

struct cell {
    struct fpl_grid_cell facts;
    struct point *run;
    double cx, cy, width;  /* of the quartic's coordinates */
    double term[TERMS];    /* of ln(loss/least) */
    double bottom, bx, by; /* its least value within reach, and where */
    int smooth;
};

struct fpl_grid {
    size_t count;
    struct cell *cell;
    struct point *points;
};

/* ---- the quartic ------------------------------------------------------------------------------ */

static void monomials(const struct cell *c, double x, double y, double out[TERMS]) {
    const double u = (x - c->cx) / c->width, v = (y - c->cy) / c->width;
    double power = 1.0;
    int k = 0;
    for (int i = 0; i <= 4; i++, power *= u) {
        double term = power;
        for (int j = 0; i + j <= 4; j++, term *= v) out[k++] = term;
    }
}

static double quartic(const struct cell *c, double x, double y) {
    double f[TERMS], sum = 0.0;
    monomials(c, x, y, f);
    for (int k = 0; k < TERMS; k++) sum += c->term[k] * f[k];
    return sum;
}

static int within(const struct cell *c, const struct point *p, double share) {
    return p->loss <= (1.0 + share) * c->facts.least;
}

/* Centre and width of the runs that the quartic is fitted to, and its coefficients. */
static int fit_quartic(struct cell *c) {
    double a[TERMS * TERMS] = {0.0}, n = 0.0, x2 = 0.0, y2 = 0.0;
    c->cx = c->cy = 0.0;
    memset(c->term, 0, sizeof c->term);
    for (size_t i = 0; i < c->facts.runs; i++) {
        if (!within(c, &c->run[i], NEAR)) continue;
        n += 1.0;
        c->cx += c->run[i].x;
        c->cy += c->run[i].y;
    }
    c->facts.near = (size_t)n;
    if (n <= (double)TERMS) return 0;
    c->cx /= n;
    c->cy /= n;
    for (size_t i = 0; i < c->facts.runs; i++) {
        if (!within(c, &c->run[i], NEAR)) continue;
        x2 = fmax(x2, fabs(c->run[i].x - c->cx));
        y2 = fmax(y2, fabs(c->run[i].y - c->cy));
    }
    c->width = fmax(fmax(x2, y2), 1e-3);
    for (size_t i = 0; i < c->facts.runs; i++) {
        if (!within(c, &c->run[i], NEAR)) continue;
        double f[TERMS];
        monomials(c, c->run[i].x, c->run[i].y, f);
        for (int j = 0; j < TERMS; j++) {
            for (int k = 0; k < TERMS; k++) a[j * TERMS + k] += f[j] * f[k];
            c->term[j] += f[j] * log(c->run[i].loss / c->facts.least);
        }
    }
    return fpl_solve(a, c->term, TERMS);
}

/* Least value over lattice points within reach of a run that is close to the least. */
static void find_bottom(struct cell *c) {
    double x0 = HUGE_VAL, x1 = -HUGE_VAL, y0 = HUGE_VAL, y1 = -HUGE_VAL;
    for (size_t i = 0; i < c->facts.runs; i++) {
        if (!within(c, &c->run[i], CLOSE)) continue;
        x0 = fmin(x0, c->run[i].x);
        x1 = fmax(x1, c->run[i].x);
        y0 = fmin(y0, c->run[i].y);
        y1 = fmax(y1, c->run[i].y);
    }
    c->bottom = HUGE_VAL;
    const int across = (int)ceil((x1 - x0 + 2.0 * REACH) / LATTICE),
              along = (int)ceil((y1 - y0 + 2.0 * REACH) / LATTICE);
    for (int i = 0; i <= across; i++)
        for (int j = 0; j <= along; j++) {
            const double x = x0 - REACH + LATTICE * i, y = y0 - REACH + LATTICE * j, z = quartic(c, x, y);
            if (!(z < c->bottom)) continue;
            int reached = 0;
            for (size_t k = 0; k < c->facts.runs && !reached; k++)
                reached = within(c, &c->run[k], CLOSE) && hypot(x - c->run[k].x, y - c->run[k].y) <= REACH;
            if (!reached) continue;
            c->bottom = z;
            c->bx = x;
            c->by = y;
        }
}

static int smooth_cell(struct cell *c) {
    c->facts.noise = c->facts.lr = c->facts.batch_tokens = (double)NAN;
    c->smooth = fit_quartic(c);
    if (!c->smooth) return 1;
    find_bottom(c);
    double *residual = malloc(c->facts.near * sizeof *residual);
    if (residual == NULL) return 0;
    size_t count = 0;
    for (size_t i = 0; i < c->facts.runs; i++)
        if (within(c, &c->run[i], NEAR))
            residual[count++] = log(c->run[i].loss / c->facts.least) - quartic(c, c->run[i].x, c->run[i].y);
    c->facts.noise = fpl_robust_scale(residual, count, TERMS);
    c->facts.lr = exp2(c->bx);
    c->facts.batch_tokens = exp2(c->by);
    free(residual);
    return 1;
}

/* ---- cells ---------------------------------------------------------------------------------------- */

struct entry {
    double N, D;
    struct point at;
};

static int compare(double a, double b) { return (a > b) - (a < b); }

/* By cell; inside it by x, then y, so that the first of equal distances is the lower one. */
static int by_cell(const void *left, const void *right) {
    const struct entry *a = left, *b = right;
    int order = compare(a->N, b->N);
    if (order == 0) order = compare(a->D, b->D);
    if (order == 0) order = compare(a->at.x, b->at.x);
    if (order == 0) order = compare(a->at.y, b->at.y);
    return order != 0 ? order : compare(a->at.loss, b->at.loss);
}

static int usable(double x) { return isfinite(x) && x > 0.0; }

static size_t gather(const struct fpl_runs *runs, struct entry *entry) {
    size_t count = 0;
    for (size_t i = 0; i < runs->count; i++) {
        const struct fpl_run *r = &runs->run[i];
        if (!usable(r->loss) || !usable(r->N) || !usable(r->D) || !usable(r->lr) || !usable(r->batch_tokens))
            continue;
        entry[count++] =
            (struct entry){r->N, r->D, {0.5 * nearbyint(2.0 * log2(r->lr)), log2(r->batch_tokens), r->loss}};
    }
    qsort(entry, count, sizeof *entry, by_cell);
    return count;
}

static int same_cell(const struct entry *a, const struct entry *b) { return a->N == b->N && a->D == b->D; }

static void split_cells(struct fpl_grid *grid, const struct entry *entry, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || !same_cell(&entry[i - 1], &entry[i])) {
            struct cell *c = &grid->cell[grid->count++];
            c->facts.N = entry[i].N;
            c->facts.D = entry[i].D;
            c->facts.least = entry[i].at.loss;
            c->run = grid->points + i;
        }
        struct cell *c = &grid->cell[grid->count - 1];
        grid->points[i] = entry[i].at;
        c->facts.runs++;
        c->facts.least = fmin(c->facts.least, entry[i].at.loss);
    }
}

enum fpl_code fpl_grid_new(const struct fpl_runs *runs, struct fpl_grid **out, struct fpl_error *err) {
    *out = NULL;
    struct entry *entry = malloc((runs->count + 1) * sizeof *entry);
    struct fpl_grid *grid = calloc(1, sizeof *grid);
    enum fpl_code code = FPL_OK;
    if (entry == NULL || grid == NULL) {
        code = fpl_fail(err, FPL_SYSTEM, "out of memory for %zu runs", runs->count);
        goto done;
    }
    const size_t count = gather(runs, entry);
    if (count == 0) {
        code = fpl_fail(err, FPL_INVALID, "%s: no run has N, D, lr, batch_tokens and a loss", runs->source);
        goto done;
    }
    grid->cell = calloc(count, sizeof *grid->cell);
    grid->points = malloc(count * sizeof *grid->points);
    if (grid->cell == NULL || grid->points == NULL) {
        code = fpl_fail(err, FPL_SYSTEM, "out of memory for %zu runs", count);
        goto done;
    }
    split_cells(grid, entry, count);
    for (size_t i = 0; code == FPL_OK && i < grid->count; i++)
        if (!smooth_cell(&grid->cell[i])) code = fpl_fail(err, FPL_SYSTEM, "out of memory");
done:
    free(entry);
    if (code == FPL_OK)
        *out = grid;
    else
        fpl_grid_free(grid);
    return code;
}

void fpl_grid_free(struct fpl_grid *grid) {
    if (grid == NULL) return;
    free(grid->cell);
    free(grid->points);
    free(grid);
}

size_t fpl_grid_cells(const struct fpl_grid *grid) { return grid->count; }
struct fpl_grid_cell fpl_grid_cell(const struct fpl_grid *grid, size_t i) {
    return grid->cell[i].facts;
}

/* ---- regret ----------------------------------------------------------------------------------------- */

static const struct point *nearest_run(const struct cell *c, double x, double y, double *distance) {
    const struct point *best = NULL;
    double least = HUGE_VAL;
    for (size_t i = 0; i < c->facts.runs; i++) {
        const double dx = c->run[i].x - x, dy = c->run[i].y - y, square = dx * dx + dy * dy;
        if (square < least) {
            least = square;
            best = &c->run[i];
        }
    }
    *distance = sqrt(least);
    return best;
}

struct fpl_regret fpl_grid_regret(const struct fpl_grid *grid, size_t i, double lr, double batch_tokens) {
    const struct cell *c = &grid->cell[i];
    struct fpl_regret out = {(double)NAN, (double)NAN, (double)NAN};
    const double x = log2(lr), y = log2(batch_tokens);
    if (!isfinite(x) || !isfinite(y)) return out;
    const struct point *run = nearest_run(c, x, y, &out.distance);
    out.nearest = run->loss / c->facts.least - 1.0;
    if (c->smooth) out.smoothed = quartic(c, x, y) - c->bottom;
    return out;
}

/* ---- intervals ---------------------------------------------------------------------------------------- */

static int ascending(const void *left, const void *right) {
    return compare(*(const double *)left, *(const double *)right);
}

static struct fpl_estimate summary(double value, double *sample, int draws, double level) {
    qsort(sample, (size_t)draws, sizeof *sample, ascending);
    return (struct fpl_estimate){value, fpl_quantile(sample, (size_t)draws, 0.5 * (1.0 - level)),
                                 fpl_quantile(sample, (size_t)draws, 0.5 * (1.0 + level))};
}

struct fpl_estimate fpl_mean_over_cells(const double *value, size_t cells, int draws, double level,
                                        uint64_t seed) {
    struct fpl_estimate none = {(double)NAN, (double)NAN, (double)NAN};
    double *kept = malloc((cells + (size_t)draws + 1) * sizeof *kept), sum = 0.0;
    if (kept == NULL) return none;
    double *sample = kept + cells;
    size_t count = 0;
    for (size_t i = 0; i < cells; i++)
        if (!isnan(value[i])) sum += kept[count++] = value[i];
    if (count > 0) {
        for (int k = 0; k < draws; k++) {
            double total = 0.0;
            for (size_t i = 0; i < count; i++) {
                uint32_t w[4];
                fpl_random_block(seed, i, (uint32_t)k, fpl_stream(FPL_STREAM_BOOTSTRAP, 2), w);
                total += kept[(size_t)(fpl_random_uniform(w[0], w[1]) * (double)count)];
            }
            sample[k] = total / (double)count;
        }
        none = summary(sum / (double)count, sample, draws, level);
    }
    free(kept);
    return none;
}

/* One cell's regret when its runs are made again: loss of the run nearest to the truth over the
 * least, for one draw of the noise. */
static double again(const struct cell *c, size_t index, double noise, uint64_t seed, uint32_t draw) {
    double distance, here = 0.0, least = HUGE_VAL;
    const struct point *chosen = nearest_run(c, c->bx, c->by, &distance);
    for (size_t i = 0; i < c->facts.runs; i++) {
        if (!within(c, &c->run[i], NEAR)) continue;
        uint32_t w[4];
        fpl_random_block(seed, (uint64_t)i, draw, fpl_stream(FPL_STREAM_BOOTSTRAP, 16 + (uint32_t)index), w);
        const double radius = sqrt(-2.0 * log1p(-fpl_random_uniform(w[0], w[1]))),
                     z = radius * cos(6.2831853071795865 * fpl_random_uniform(w[2], w[3]));
        const double loss = quartic(c, c->run[i].x, c->run[i].y) + noise * z;
        least = fmin(least, loss);
        if (&c->run[i] == chosen) here = loss;
    }
    return expm1(here - least);
}

struct fpl_estimate fpl_grid_perfect(const struct fpl_grid *grid, int draws, double level, uint64_t seed,
                                     double *noise) {
    struct fpl_estimate out = {(double)NAN, (double)NAN, (double)NAN};
    double *sample = malloc((grid->count + (size_t)draws + 1) * sizeof *sample), sum = 0.0;
    size_t smooth = 0;
    *noise = (double)NAN;
    if (sample == NULL) return out;
    for (size_t i = 0; i < grid->count; i++)
        if (grid->cell[i].smooth) sample[smooth++] = grid->cell[i].facts.noise;
    if (smooth > 0) {
        qsort(sample, smooth, sizeof *sample, ascending);
        *noise = fpl_quantile(sample, smooth, 0.5);
        for (int k = 0; k < draws; k++) {
            double total = 0.0;
            for (size_t i = 0; i < grid->count; i++)
                if (grid->cell[i].smooth) total += again(&grid->cell[i], i, *noise, seed, (uint32_t)k);
            sample[k] = total / (double)smooth;
            sum += sample[k];
        }
        out = summary(sum / draws, sample, draws, level);
    }
    free(sample);
    return out;
}
