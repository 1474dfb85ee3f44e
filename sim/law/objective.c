/* objective.c - the objective, a block of rows at a time.
 *
 *   F(theta) = sum_i w_i rho(y_i - f_i(theta)) + sum_j scale^2/2 ((theta_j - at_j)/prior_j)^2
 *   rho(r) = r^2/2 for |r| <= delta, delta (|r| - delta/2) beyond
 *
 * A block's values and gradients come from the law in columns (block.h), from laws without `rows` row by row.
 * Its residuals are weighed and added to the sums in eight lanes: row k of a block goes to lane k mod 8.
 * Lanes are added in order at the end.  So the sums have the same bits on every instruction set.
 */
#include "objective.h"

#include <math.h>
#include <string.h>

#include "../../formats/clones.h"
#include "block.h"

#define P FPL_LAW_PARAMS
enum { ABREAST = 4, GROUPS = P * (P + ABREAST) / (2 * ABREAST) };

struct fpl_layout fpl_layout_of(const struct fpl_problem *problem) {
    struct fpl_layout l = {0, {0}};
    for (int j = 0; j < fpl_problem_width(problem); j++)
        if (problem->active[j]) l.index[l.count++] = j;
    return l;
}

/* ---- a block of rows --------------------------------------------------------------------------- */

struct batch {
    const struct fpl_columns *columns;
    const struct fpl_row *row;   /* the first of them */
    int rows, vectors, held_out; /* held_out: some weight is 0 */
    const lanes *target;
    lanes weight[FPL_BLOCK_LANES];                           /* 0 of the copies that fill up the last lanes */
    lanes value[FPL_BLOCK_LANES], grad[P * FPL_BLOCK_LANES]; /* a column per entry of theta */
    lanes slope[FPL_BLOCK_LANES], in[FPL_BLOCK_LANES], out[FPL_BLOCK_LANES]; /* w rho'; curvatures */
};

/* Block k of the rows; 0 past the last. */
static int take_block(const struct fpl_problem *p, size_t k, struct batch *b) {
    if (k * FPL_BLOCK >= p->count) return 0;
    b->columns = &p->columns[k];
    b->row = &p->row[k * FPL_BLOCK];
    b->rows = b->columns->rows;
    b->vectors = (b->rows + FPL_LANES - 1) / FPL_LANES;
    return 1;
}

static void weights_of(const struct fpl_objective *o, struct batch *b) {
    const size_t first = (size_t)(b->row - o->problem->row);
    const double *one = o->weight, *other = o->problem->weight;
    b->held_out = 0;
    for (int v = 0; v < b->vectors; v++) b->weight[v] = all_of(1.0);
    for (int k = 0; (one != NULL || other != NULL) && k < b->rows; k++) {
        const double weight =
            (one != NULL ? one[first + (size_t)k] : 1.0) * (other != NULL ? other[first + (size_t)k] : 1.0);
        FPL_AT(b->weight, k) = weight;
        b->held_out |= weight == 0.0;
    }
    for (int k = b->rows; k % FPL_LANES != 0; k++) FPL_AT(b->weight, k) = 0.0;
}

/* Value and gradient of what a row is fitted to, free shifts and ties included. */
static double fitted(const struct fpl_problem *problem, const double *theta, const struct fpl_row *row,
                     double *grad) {
    const struct fpl_law *law = problem->law;
    double value;
    if (problem->shifts > 0 && row->format > 0) {
        struct fpl_law_at at = row->at; /* a shift of ln lr* down is one of ln lr up */
        at.x += theta[law->params + row->format - 1];
        value = law->log_loss(law, theta, &at, grad);
    } else {
        value = fpl_law_fitted(law)(law, theta, &row->at, grad);
    }
    if (grad == NULL) return value;
    for (int k = 0; k < problem->shifts; k++)
        grad[law->params + k] = k + 1 == row->format ? -grad[law->penalty_at + 3] : 0.0;
    return value;
}

typedef double row_value(const struct fpl_problem *problem, const double *theta, const struct fpl_row *row,
                         double *grad);

static double optimum_lr(const struct fpl_problem *p, const double *theta, const struct fpl_row *row,
                         double *grad) {
    return p->law->log_lr(p->law, theta, &row->at, grad);
}

static double optimum_batch(const struct fpl_problem *p, const double *theta, const struct fpl_row *row,
                            double *grad) {
    return p->law->log_batch(p->law, theta, &row->at, grad);
}

/* Row by row, into columns. */
static void one_by_one(const struct fpl_problem *p, const double *theta, row_value *value, struct batch *b) {
    double grad[P];
    const int width = fpl_problem_width(p);
    for (int k = 0; k < b->vectors * FPL_LANES; k++) {
        FPL_AT(b->value, k) = value(p, theta, &b->row[k < b->rows ? k : b->rows - 1], grad);
        for (int j = 0; j < width; j++) FPL_AT(b->grad + j * FPL_BLOCK_LANES, k) = grad[j];
    }
}

/* What the rows are fitted to, values and gradients.  Laws of optima have two passes: learning rate, batch.
 */
static void values_of(const struct fpl_problem *p, const double *theta, int pass, struct batch *b) {
    b->target = b->columns->target;
    if ((p->law->use & FPL_OPTIMA) != 0) {
        b->target = pass == 0 ? b->columns->x : b->columns->y;
        one_by_one(p, theta, pass == 0 ? optimum_lr : optimum_batch, b);
    } else if (p->law->rows == NULL || p->shifts > 0) {
        one_by_one(p, theta, fitted, b);
    } else {
        const struct fpl_block block = fpl_columns_block(b->columns, b->row->at.n0, b->row->at.d0);
        const struct fpl_values out = {b->value, b->grad, FPL_BLOCK_LANES};
        p->law->rows(p->law, theta, &block, &out);
    }
}

static void follow_ties(const struct fpl_problem *p, struct batch *b) {
    for (int j = 0; j < p->law->params; j++)
        for (int v = 0; p->tie[j] > 0 && v < b->vectors; v++)
            b->grad[(p->tie[j] - 1) * FPL_BLOCK_LANES + v] += b->grad[j * FPL_BLOCK_LANES + v];
}

static void silence(const struct fpl_problem *p, struct batch *b, int k) {
    FPL_AT(b->value, k) = FPL_AT(b->target, k);
    for (int j = 0; j < fpl_problem_width(p); j++) FPL_AT(b->grad + j * FPL_BLOCK_LANES, k) = 0.0;
}

/* Rows that say nothing, whatever their values: a censored row that is predicted high enough, and one of
 * weight 0 (held out). */
static void silence_rows(const struct fpl_problem *p, struct batch *b) {
    for (int k = 0; (b->columns->censored || b->held_out) && k < b->rows; k++) {
        const int high = b->row[k].censored && FPL_AT(b->value, k) >= FPL_AT(b->target, k);
        if (high || FPL_AT(b->weight, k) == 0.0) silence(p, b, k);
    }
}

/* ---- sums --------------------------------------------------------------------------------------- */

/* Lower triangles by row, ABREAST columns to a group; the last group of a row goes past the diagonal. */
struct sums {
    lanes value, gradient[P], inside[GROUPS][ABREAST], outside[GROUPS][ABREAST];
};

static size_t groups_of(int params) {
    size_t groups = 0;
    for (int i = 0; i < params; i++) groups += (size_t)(i / ABREAST + 1);
    return groups;
}

static void clear(struct sums *s, int params) {
    s->value = all_of(0.0);
    memset(s->gradient, 0, (size_t)params * sizeof s->gradient[0]);
    memset(s->inside, 0, groups_of(params) * sizeof s->inside[0]);
    memset(s->outside, 0, groups_of(params) * sizeof s->outside[0]);
}

/* Residuals, weighed: slope, in, out and the value. */
static FPL_CLONES void weigh(struct batch *b, double delta, lanes *sum) {
    const lanes none = all_of(0.0), limit = all_of(delta);
    const lanes *target = b->target;
    lanes total = *sum;
    for (int k = 0; k < b->vectors; k++) {
        const lanes r = target[k] - b->value[k], size = abs_of(r), w = b->weight[k];
        const lane_mask near = size <= limit;
        total += w * lanes_if(near, 0.5 * r * r, delta * (size - 0.5 * delta));
        b->slope[k] = w * lanes_if(near, r, lanes_if(r > 0.0, limit, -limit));
        b->in[k] = lanes_if(near, w, none);
        b->out[k] = lanes_if(near, none, w * delta / size);
    }
    *sum = total;
}

/* Adds left times each column, for two lefts. */
FPL_INLINE void add_group(lanes in[ABREAST], lanes out[ABREAST], const lanes *left_in, const lanes *left_out,
                          const lanes *const column[ABREAST], int vectors) {
    lanes in0 = in[0], in1 = in[1], in2 = in[2], in3 = in[3];
    lanes out0 = out[0], out1 = out[1], out2 = out[2], out3 = out[3];
    for (int v = 0; v < vectors; v++) {
        const lanes f = left_in[v], g = left_out[v];
        const lanes c0 = column[0][v], c1 = column[1][v], c2 = column[2][v], c3 = column[3][v];
        in0 += f * c0;
        in1 += f * c1;
        in2 += f * c2;
        in3 += f * c3;
        out0 += g * c0;
        out1 += g * c1;
        out2 += g * c2;
        out3 += g * c3;
    }
    in[0] = in0, in[1] = in1, in[2] = in2, in[3] = in3;
    out[0] = out0, out[1] = out1, out[2] = out2, out[3] = out3;
}

/* J' times the slopes, and J' W J for the two weights. */
static FPL_CLONES void add_block(struct sums *s, const struct fpl_layout *l, const struct batch *b) {
    const int vectors = b->vectors;
    lanes left_in[FPL_BLOCK_LANES], left_out[FPL_BLOCK_LANES];
    size_t group = 0;
    for (int i = 0; i < l->count; i++) {
        const lanes *own = b->grad + l->index[i] * FPL_BLOCK_LANES;
        lanes gradient = s->gradient[i];
        for (int v = 0; v < vectors; v++) {
            gradient -= b->slope[v] * own[v];
            left_in[v] = b->in[v] * own[v];
            left_out[v] = b->out[v] * own[v];
        }
        s->gradient[i] = gradient;
        for (int j = 0; j <= i; j += ABREAST, group++) {
            const lanes *column[ABREAST];
            for (int c = 0; c < ABREAST; c++)
                column[c] = b->grad + l->index[j + c < i ? j + c : i] * FPL_BLOCK_LANES;
            add_group(s->inside[group], s->outside[group], left_in, left_out, column, vectors);
        }
    }
}

static void collect(const struct sums *s, const struct fpl_layout *l, struct fpl_model *m) {
    size_t group = 0;
    m->value = sum_of(s->value);
    for (int i = 0; i < l->count; i++) {
        m->gradient[i] = sum_of(s->gradient[i]);
        for (int j = 0; j <= i; j++) {
            const size_t at = group + (size_t)(j / ABREAST);
            m->inside[i * P + j] = sum_of(s->inside[at][j % ABREAST]);
            m->outside[i * P + j] = sum_of(s->outside[at][j % ABREAST]);
        }
        group += (size_t)(i / ABREAST + 1);
    }
}

/* ---- pseudo-runs and pins ----------------------------------------------------------------------- */

static void add_priors(struct fpl_model *m, const struct fpl_layout *l, const struct fpl_objective *o,
                       const double *theta) {
    for (int i = 0; i < l->count; i++) {
        if (l->index[i] >= o->problem->law->params) continue; /* a free shift has none */
        const struct fpl_law_param *p = &o->problem->law->param[l->index[i]];
        if (!(p->prior > 0.0)) continue;
        const double z = (theta[l->index[i]] - p->prior_at) / p->prior, w = o->scale * o->scale;
        m->value += 0.5 * w * z * z;
        m->gradient[i] += w * z / p->prior;
        m->inside[i * P + i] += w / (p->prior * p->prior);
    }
}

/* The published parameter that a pin holds, and its gradient by differences. */
static double pinned(const struct fpl_problem *p, const struct fpl_pin *pin, const double *theta) {
    double published[P];
    p->law->publish(p->law, theta, &p->centre, published);
    return pin->log ? log(published[pin->param]) : published[pin->param];
}

static void add_pin(struct fpl_model *m, const struct fpl_layout *l, const struct fpl_objective *o,
                    const double *theta) {
    const struct fpl_problem *p = o->problem;
    double moved[P], g[P];
    memcpy(moved, theta, (size_t)fpl_problem_width(p) * sizeof *moved);
    const double r = (pinned(p, o->pin, theta) - o->pin->at) / o->pin->width;
    for (int i = 0; i < l->count; i++) {
        const int j = l->index[i];
        const double h = 1e-6 * (1.0 + fabs(theta[j]));
        moved[j] = theta[j] + h;
        const double up = pinned(p, o->pin, moved);
        moved[j] = theta[j] - h;
        g[i] = (up - pinned(p, o->pin, moved)) / (2.0 * h * o->pin->width);
        moved[j] = theta[j];
    }
    m->value += 0.5 * r * r;
    for (int i = 0; i < l->count; i++) {
        m->gradient[i] += r * g[i];
        for (int j = 0; j <= i; j++) m->inside[i * P + j] += g[i] * g[j];
    }
}

/* ---- the whole ---------------------------------------------------------------------------------- */

void fpl_objective_at(const struct fpl_objective *o, const struct fpl_layout *l, const double *theta,
                      int priors, struct fpl_model *m) {
    const struct fpl_problem *p = o->problem;
    const int passes = (p->law->use & FPL_OPTIMA) != 0 ? 2 : 1;
    struct sums sums;
    struct batch batch;
    clear(&sums, l->count);
    for (size_t k = 0; take_block(p, k, &batch); k++) {
        weights_of(o, &batch);
        for (int pass = 0; pass < passes; pass++) {
            values_of(p, theta, pass, &batch);
            silence_rows(p, &batch);
            follow_ties(p, &batch);
            weigh(&batch, o->delta, &sums.value);
            add_block(&sums, l, &batch);
        }
    }
    collect(&sums, l, m);
    if (priors) add_priors(m, l, o, theta);
    if (o->pin != NULL) add_pin(m, l, o, theta);
}

size_t fpl_residuals(const struct fpl_problem *problem, const double *theta, double *out) {
    const int passes = (problem->law->use & FPL_OPTIMA) != 0 ? 2 : 1;
    struct batch batch;
    size_t count = 0;
    for (size_t b = 0; take_block(problem, b, &batch); b++) {
        size_t told = 0;
        for (int pass = 0; pass < passes; pass++) {
            told = 0;
            values_of(problem, theta, pass, &batch);
            for (int k = 0; k < batch.rows; k++)
                if (!batch.row[k].censored)
                    out[count + (size_t)passes * told++ + (size_t)pass] =
                        FPL_AT(batch.target, k) - FPL_AT(batch.value, k);
        }
        count += (size_t)passes * told;
    }
    return count;
}

void fpl_information(const struct fpl_objective *objective, const double *theta, double *h) {
    const struct fpl_layout l = fpl_layout_of(objective->problem);
    const int params = objective->problem->law->params;
    struct fpl_model m;
    fpl_objective_at(objective, &l, theta, 0, &m);
    memset(h, 0, (size_t)(params * params) * sizeof *h);
    for (int i = 0; i < l.count; i++)
        for (int j = 0; j <= i; j++)
            h[l.index[i] * params + l.index[j]] = h[l.index[j] * params + l.index[i]] = m.inside[i * P + j];
}
