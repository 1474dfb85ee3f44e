/* minimise.c - summed Huber loss of log residuals, minimised inside bounds.
 *
 *   F(theta) = sum_i w_i rho(y_i - f_i(theta)) + sum_j scale^2/2 ((theta_j - at_j)/prior_j)^2
 *   rho(r) = r^2/2 for |r| <= delta, delta (|r| - delta/2) beyond
 *
 * Damped Gauss-Newton (Levenberg-Marquardt) with two curvatures: residuals inside delta enter
 * with weight 1 (their exact curvature), those outside with tau delta/|r|, tau = 1 being
 * iteratively reweighted least squares, which never overshoots but creeps where most
 * residuals are outside, and tau = 0 Newton's method.  tau falls while steps succeed and
 * returns to 1 when one fails.  The sum, not the mean, is minimised: a stopping rule on a mean
 * ends early (shared notes, section 5).
 *
 * A parameter at a bound whose gradient points outwards is held there for the step.
 * Convergence means: the decrease that an undamped step predicts is below tolerance * F,
 * which does not depend on the units of parameters or losses.  Data without noise end at
 * residuals of 1e-10, where rounding begins.
 *
 * Determinism: one thread, rows in order.
 */
#include <math.h>
#include <string.h>

#include "law_internal.h"

#define P FPL_LAW_PARAMS

/* Value, gradient and the two curvatures (lower triangles) over the active parameters. */
struct model {
    double value, gradient[P], inside[P * P], outside[P * P];
};

struct layout {
    int count, index[P];
};

static struct layout active_layout(const struct fpl_problem *problem) {
    struct layout l = {0, {0}};
    for (int j = 0; j < fpl_problem_width(problem); j++)
        if (problem->active[j]) l.index[l.count++] = j;
    return l;
}

void fpl_problem_settle(const struct fpl_problem *problem, double *theta) {
    for (int j = 0; j < fpl_problem_width(problem); j++) {
        if (problem->active[j])
            theta[j] = fmin(problem->hi[j], fmax(problem->lo[j], theta[j]));
        else
            theta[j] = problem->hi[j] > problem->lo[j] ? 0.0 : problem->lo[j];
    }
    for (int j = 0; j < problem->law->params; j++)
        if (problem->tie[j] > 0) theta[j] = theta[problem->tie[j] - 1];
}

/* ---- the objective -------------------------------------------------------------------------- */

static double huber(double r, double delta, double *slope) {
    const double size = fabs(r);
    if (size <= delta) {
        *slope = r;
        return 0.5 * r * r;
    }
    *slope = r > 0.0 ? delta : -delta;
    return delta * (size - 0.5 * delta);
}

static void add_residual(struct model *m, const struct layout *l, double r, double weight, double delta,
                         const double *grad) {
    double slope, g[P];
    m->value += weight * huber(r, delta, &slope);
    const int in = fabs(r) <= delta;
    const double curvature = in ? weight : weight * delta / fabs(r);
    double *h = in ? m->inside : m->outside;
    for (int i = 0; i < l->count; i++) g[i] = grad[l->index[i]];
    for (int i = 0; i < l->count; i++) {
        m->gradient[i] -= weight * slope * g[i];
        const double c = curvature * g[i];
        if (c == 0.0) continue;
        double *row = h + i * P;
        for (int j = 0; j <= i; j++) row[j] += c * g[j];
    }
}

static void add_priors(struct model *m, const struct layout *l, const struct fpl_objective *o,
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

static void add_pin(struct model *m, const struct layout *l, const struct fpl_objective *o,
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

static void follow_ties(const struct fpl_problem *problem, double *grad) {
    for (int j = 0; j < problem->law->params; j++)
        if (problem->tie[j] > 0) grad[problem->tie[j] - 1] += grad[j];
}

static void evaluate(const struct fpl_objective *o, const struct layout *l, const double *theta, int priors,
                     struct model *m) {
    const struct fpl_problem *problem = o->problem;
    const struct fpl_law *law = problem->law;
    double grad[P];
    memset(m, 0, sizeof *m);
    for (size_t i = 0; i < problem->count; i++) {
        const double weight =
            (o->weight != NULL ? o->weight[i] : 1.0) * (problem->weight != NULL ? problem->weight[i] : 1.0);
        if (weight == 0.0) continue;
        const struct fpl_row *row = &problem->row[i];
        if ((law->use & FPL_OPTIMA) != 0) {
            const double lr = row->at.x - law->log_lr(law, theta, &row->at, grad);
            follow_ties(problem, grad);
            add_residual(m, l, lr, weight, o->delta, grad);
            const double batch = row->at.y - law->log_batch(law, theta, &row->at, grad);
            follow_ties(problem, grad);
            add_residual(m, l, batch, weight, o->delta, grad);
        } else {
            const double r = row->target - fitted(problem, theta, row, grad);
            if (row->censored && r <= 0.0) continue; /* predicted high enough */
            follow_ties(problem, grad);
            add_residual(m, l, r, weight, o->delta, grad);
        }
    }
    if (priors) add_priors(m, l, o, theta);
    if (o->pin != NULL) add_pin(m, l, o, theta);
}

size_t fpl_residuals(const struct fpl_problem *problem, const double *theta, double *out) {
    const struct fpl_law *law = problem->law;
    size_t count = 0;
    for (size_t i = 0; i < problem->count; i++) {
        const struct fpl_row *row = &problem->row[i];
        if (row->censored) continue;
        if ((law->use & FPL_OPTIMA) != 0) {
            out[count++] = row->at.x - law->log_lr(law, theta, &row->at, NULL);
            out[count++] = row->at.y - law->log_batch(law, theta, &row->at, NULL);
        } else {
            out[count++] = row->target - fitted(problem, theta, row, NULL);
        }
    }
    return count;
}

void fpl_information(const struct fpl_objective *objective, const double *theta, double *h) {
    const struct layout l = active_layout(objective->problem);
    const int params = objective->problem->law->params;
    struct model m;
    evaluate(objective, &l, theta, 0, &m);
    memset(h, 0, (size_t)(params * params) * sizeof *h);
    for (int i = 0; i < l.count; i++)
        for (int j = 0; j <= i; j++)
            h[l.index[i] * params + l.index[j]] = h[l.index[j] * params + l.index[i]] = m.inside[i * P + j];
}

/* ---- one step ---------------------------------------------------------------------------------- */

/* Which active parameters may move: not those that a bound holds. */
static int free_ones(const struct fpl_problem *problem, const struct layout *l, const double *theta,
                     const double *gradient, int *which) {
    int count = 0;
    for (int i = 0; i < l->count; i++) {
        const int j = l->index[i];
        const int held = (theta[j] <= problem->lo[j] && gradient[i] >= 0.0) ||
                         (theta[j] >= problem->hi[j] && gradient[i] <= 0.0);
        if (!held) which[count++] = i;
    }
    return count;
}

/* Solve (H + lambda diag H) step = -gradient over the free parameters; returns the decrease that
 * the quadratic model predicts, negative if H is not definite. */
static double solve_step(const double *h, const double *gradient, const int *which, int count, double lambda,
                         double *step) {
    double a[P * P], b[P];
    for (int i = 0; i < count; i++) {
        for (int j = 0; j <= i; j++) {
            const int p = which[i] > which[j] ? which[i] : which[j],
                      q = which[i] > which[j] ? which[j] : which[i];
            a[i * count + j] = a[j * count + i] = h[p * P + q];
        }
        a[i * count + i] = a[i * count + i] * (1.0 + lambda) + 1e-300;
        b[i] = -gradient[which[i]];
    }
    if (!fpl_solve(a, b, count)) return -1.0;
    double predicted = 0.0;
    for (int i = 0; i < count; i++) {
        step[i] = b[i];
        predicted -= 0.5 * gradient[which[i]] * b[i];
    }
    return predicted;
}

static void take_step(const struct fpl_problem *problem, const struct layout *l, const int *which, int count,
                      const double *step, const double *theta, double *trial) {
    memcpy(trial, theta, (size_t)fpl_problem_width(problem) * sizeof *trial);
    for (int i = 0; i < count; i++) {
        const int j = l->index[which[i]];
        trial[j] = fmin(problem->hi[j], fmax(problem->lo[j], theta[j] + step[i]));
    }
    for (int j = 0; j < problem->law->params; j++)
        if (problem->tie[j] > 0) trial[j] = trial[problem->tie[j] - 1];
}

double fpl_negligible(const struct fpl_problem *problem) { return 1e-20 * (double)problem->count; }

/* ---- minimisers --------------------------------------------------------------------------------- */

void fpl_minimise(const struct fpl_objective *objective, double *theta, int iterations, double tolerance,
                  struct fpl_minimum *out) {
    const struct fpl_problem *problem = objective->problem;
    const struct layout l = active_layout(problem);
    struct model models[2], *now = &models[0], *next = &models[1];
    double lambda = 1e-3, tau = 1.0;
    fpl_problem_settle(problem, theta);
    evaluate(objective, &l, theta, 1, now);
    *out = (struct fpl_minimum){now->value, HUGE_VAL, 0, 0};
    while (out->iterations++ < iterations && isfinite(now->value)) {
        double h[P * P], step[P], trial[P];
        int which[P];
        const int count = free_ones(problem, &l, theta, now->gradient, which);
        for (int i = 0; i < l.count; i++)
            for (int j = 0; j <= i; j++)
                h[i * P + j] = now->inside[i * P + j] + tau * now->outside[i * P + j];
        const double predicted = count > 0 ? solve_step(h, now->gradient, which, count, lambda, step) : 0.0;
        if (predicted < 0.0) { /* not definite: more of the safe curvature, more damping */
            tau = 1.0;
            lambda = fmax(1e-6, 10.0 * lambda);
            if (lambda > 1e12) break;
            continue;
        }
        out->decrement = predicted / fmax(now->value, fpl_negligible(problem));
        if (out->decrement <= tolerance && lambda <= 1e-3) {
            out->converged = 1;
            break;
        }
        take_step(problem, &l, which, count, step, theta, trial);
        evaluate(objective, &l, trial, 1, next);
        if (next->value < now->value) {
            const double gain = (now->value - next->value) / predicted;
            struct model *swap = now;
            now = next;
            next = swap;
            memcpy(theta, trial, (size_t)fpl_problem_width(problem) * sizeof *theta);
            lambda = gain > 0.5 ? fmax(1e-12, 0.1 * lambda) : gain < 0.1 ? fmin(1e10, 3.0 * lambda) : lambda;
            tau = fmax(0.02, 0.5 * tau);
        } else {
            if (out->decrement < 1e-13) { /* rounding of the sum decides now */
                out->converged = 1;
                break;
            }
            lambda = fmax(1e-6, 8.0 * lambda);
            tau = 1.0;
            if (lambda > 1e12) break;
        }
    }
    out->value = now->value;
}

/* Hessian (lower triangle) by central differences of the analytic gradient. */
static void difference_hessian(const struct fpl_objective *o, const struct layout *l, const double *theta,
                               double *h) {
    struct model up, down;
    double moved[P];
    for (int i = 0; i < l->count; i++) {
        const int j = l->index[i];
        const double width = 1e-5;
        memcpy(moved, theta, (size_t)fpl_problem_width(o->problem) * sizeof *moved);
        moved[j] = theta[j] + width;
        evaluate(o, l, moved, 1, &up);
        moved[j] = theta[j] - width;
        evaluate(o, l, moved, 1, &down);
        for (int k = 0; k < l->count; k++) h[i * P + k] = 0.5 * (up.gradient[k] - down.gradient[k]) / width;
    }
    for (int i = 0; i < l->count; i++)
        for (int k = 0; k < i; k++) h[i * P + k] = 0.5 * (h[i * P + k] + h[k * P + i]);
    /* A parameter without curvature beyond rounding of the differences stays where it is. */
    double most = 0.0;
    for (int i = 0; i < l->count; i++) most = fmax(most, h[i * P + i]);
    for (int i = 0; i < l->count; i++) {
        if (h[i * P + i] > 1e-9 * most) continue;
        for (int k = 0; k < l->count; k++) h[(i > k ? i : k) * P + (i > k ? k : i)] = 0.0;
        h[i * P + i] = most;
    }
}

void fpl_polish(const struct fpl_objective *objective, double *theta, struct fpl_minimum *out) {
    const struct fpl_problem *problem = objective->problem;
    const struct layout l = active_layout(problem);
    struct model now, next;
    double h[P * P], step[P], trial[P];
    int which[P];
    evaluate(objective, &l, theta, 1, &now);
    *out = (struct fpl_minimum){now.value, HUGE_VAL, 0, 0};
    for (; out->iterations < 8; out->iterations++) {
        if (now.value <= fpl_negligible(problem)) { /* nothing is left to decrease */
            out->decrement = 0.0;
            out->converged = 1;
            break;
        }
        const int count = free_ones(problem, &l, theta, now.gradient, which);
        difference_hessian(objective, &l, theta, h);
        double lambda = 0.0,
               predicted = count > 0 ? solve_step(h, now.gradient, which, count, lambda, step) : 0.0;
        while (predicted < 0.0 && lambda < 1e-2) { /* singular: as little damping as makes it definite */
            lambda = fmax(1e-9, 10.0 * lambda);
            predicted = solve_step(h, now.gradient, which, count, lambda, step);
        }
        if (predicted >= 0.0) out->decrement = predicted / fmax(now.value, fpl_negligible(problem));
        if (predicted >= 0.0 && out->decrement <= 1e-12) {
            out->converged = 1;
            break;
        }
        int better = 0;
        for (int tries = 0; tries < 12 && !better; tries++) {
            if (predicted > 0.0) {
                take_step(problem, &l, which, count, step, theta, trial);
                evaluate(objective, &l, trial, 1, &next);
                better = next.value < now.value;
            }
            lambda = fmax(1e-6, 10.0 * lambda);
            if (!better) predicted = solve_step(h, now.gradient, which, count, lambda, step);
        }
        if (!better) {
            out->converged = out->decrement <= 1e-7; /* rounding, or the kink of a Huber residual */
            break;
        }
        now = next;
        memcpy(theta, trial, (size_t)fpl_problem_width(problem) * sizeof *theta);
    }
    out->value = now.value;
    if (!out->converged) out->converged = out->decrement <= 1e-9;
}
