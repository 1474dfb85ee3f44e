/* minimise.c - summed Huber loss of log residuals, minimised inside bounds.
 *
 *   F(theta) = sum_i w_i rho(y_i - f_i(theta)) + sum_j scale^2/2 ((theta_j - at_j)/prior_j)^2
 *   rho(r) = r^2/2 for |r| <= delta, delta (|r| - delta/2) beyond
 *
 * Damped Gauss-Newton (Levenberg-Marquardt) with two curvatures: residuals inside delta enter
 * with weight 1 (their exact curvature), those outside with tau delta/|r|, tau = 1 being
 * iteratively reweighted least squares, which never overshoots but creeps where most
 * residuals are outside, and tau = 0 Newton's method.  tau falls while steps succeed and
 * rises when one fails.  The sum, not the mean, is minimised: a stopping rule on a mean
 * ends early (shared notes, section 5).
 *
 * Steps are limited in units of the parameters (struct fpl_law_param, scale).  Far from a minimum a
 * parameter can hardly matter, a prefactor whose term is all but 0: damping relative to its own curvature
 * lets it jump to its bound, and the fit climbs back along a curved valley.
 *
 * From random starts Huber's loss with a small delta has slopes of one size everywhere and next to no
 * curvature; fpl_approach goes there by way of least squares, where Gauss-Newton needs a dozen steps.
 *
 * A parameter at a bound whose gradient points outwards is held there for the step.
 * Convergence means: the decrease that an undamped step predicts is below tolerance * F,
 * which does not depend on the units of parameters or losses.  Data without noise end at
 * residuals of 1e-10, where rounding begins.
 */
#include <math.h>
#include <string.h>

#include "minimise.h"
#include "objective.h"

#define P FPL_LAW_PARAMS
#define LAMBDA_FIRST 1e-4
#define FARTHEST 2.0 /* units that one step moves a parameter at most */
/* Stages of an approach, each with a smaller delta. */
#define DELTA_FALL 0.1
#define DELTA_NEAR 1.5 /* of the objective's delta: near enough to go on with that */
#define STAGE_ITERATIONS 20
#define STAGE_TOLERANCE 0.02

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

/* ---- one step ---------------------------------------------------------------------------------- */

/* A minimiser on its way. */
struct search {
    const struct fpl_objective *o;
    struct fpl_layout l;
    double unit[P]; /* per parameter of the layout: what moves it much */
    struct fpl_model models[2], *now, *next;
    double lambda, tau;
    int count, which[P]; /* parameters that may move: not those that a bound holds */
};

static void begin(struct search *s, const struct fpl_objective *o) {
    s->o = o;
    s->l = fpl_layout_of(o->problem);
    for (int i = 0; i < s->l.count; i++) {
        const int j = s->l.index[i];
        s->unit[i] = j < o->problem->law->params ? o->problem->law->param[j].scale : 1.0;
    }
    s->now = &s->models[0];
    s->next = &s->models[1];
    s->lambda = LAMBDA_FIRST;
    s->tau = 1.0;
}

static void free_ones(struct search *s, const double *theta) {
    const struct fpl_problem *problem = s->o->problem;
    s->count = 0;
    for (int i = 0; i < s->l.count; i++) {
        const int j = s->l.index[i];
        const int held = (theta[j] <= problem->lo[j] && s->now->gradient[i] >= 0.0) ||
                         (theta[j] >= problem->hi[j] && s->now->gradient[i] <= 0.0);
        if (!held) s->which[s->count++] = i;
    }
}

/* Solve (H + lambda (diag H + floor)) step = -gradient over the free parameters; returns the decrease that
 * the quadratic model predicts, negative if H is not definite.  floor: F/unit^2 or nothing. */
static double solve_step(const struct search *s, const double *h, double lambda, double floor, double *step) {
    double a[P * P], b[P];
    const int n = s->count;
    if (n == 0) return 0.0;
    for (int i = 0; i < n; i++) {
        const int row = s->which[i];
        for (int j = 0; j <= i; j++) a[i * n + j] = a[j * n + i] = h[row * P + s->which[j]];
        a[i * n + i] += lambda * (a[i * n + i] + floor / (s->unit[row] * s->unit[row])) + 1e-300;
        b[i] = -s->now->gradient[row];
    }
    if (!fpl_solve(a, b, n)) return -1.0;
    double predicted = 0.0;
    for (int i = 0; i < n; i++) {
        step[i] = b[i];
        predicted += 0.5 * b[i] * -s->now->gradient[s->which[i]];
    }
    return predicted;
}

/* The same with damping raised until no parameter moves by more than FARTHEST units: where the data say
 * little of a parameter the quadratic model knows nothing of what happens far away. */
static double limited_step(struct search *s, const double *h, double *step) {
    for (int tries = 0;; tries++) {
        const double predicted = solve_step(s, h, s->lambda, s->now->value, step);
        double longest = 0.0;
        for (int i = 0; i < s->count && predicted >= 0.0; i++)
            longest = fmax(longest, fabs(step[i]) / s->unit[s->which[i]]);
        if (!(longest > FARTHEST) || tries == 30) return predicted;
        s->lambda = fmax(1e-6, 4.0 * s->lambda);
    }
}

static void take_step(const struct search *s, const double *step, const double *theta, double *trial) {
    const struct fpl_problem *problem = s->o->problem;
    memcpy(trial, theta, (size_t)fpl_problem_width(problem) * sizeof *trial);
    for (int i = 0; i < s->count; i++) {
        const int j = s->l.index[s->which[i]];
        trial[j] = fmin(problem->hi[j], fmax(problem->lo[j], theta[j] + step[i]));
    }
    for (int j = 0; j < problem->law->params; j++)
        if (problem->tie[j] > 0) trial[j] = trial[problem->tie[j] - 1];
}

static void move_to(struct search *s, double *theta, const double *trial) {
    struct fpl_model *swap = s->now;
    s->now = s->next;
    s->next = swap;
    memcpy(theta, trial, (size_t)fpl_problem_width(s->o->problem) * sizeof *theta);
}

double fpl_negligible(const struct fpl_problem *problem) { return 1e-20 * (double)problem->count; }

/* ---- minimisers --------------------------------------------------------------------------------- */

static void blend(const struct search *s, double *h) {
    for (int i = 0; i < s->l.count; i++)
        for (int j = 0; j <= i; j++)
            h[i * P + j] = s->now->inside[i * P + j] + s->tau * s->now->outside[i * P + j];
}

/* Does an all but undamped step predict no more than this share of F? */
static int settled(const struct search *s, const double *h, double tolerance) {
    double step[P];
    const double predicted = solve_step(s, h, fmin(s->lambda, 1e-3), 0.0, step);
    return predicted >= 0.0 && predicted <= tolerance * fmax(s->now->value, fpl_negligible(s->o->problem));
}

void fpl_minimise(const struct fpl_objective *objective, double *theta, int iterations, double tolerance,
                  struct fpl_minimum *out) {
    const struct fpl_problem *problem = objective->problem;
    struct search s;
    double h[P * P], step[P], trial[P];
    int failed = 0;
    begin(&s, objective);
    fpl_problem_settle(problem, theta);
    fpl_objective_at(objective, &s.l, theta, 1, s.now);
    *out = (struct fpl_minimum){s.now->value, HUGE_VAL, 0, 0};
    while (out->iterations++ < iterations && isfinite(s.now->value)) {
        free_ones(&s, theta);
        blend(&s, h);
        const double predicted = limited_step(&s, h, step);
        if (predicted < 0.0) { /* not definite: more of the safe curvature, more damping */
            s.tau = 1.0;
            s.lambda = fmax(1e-6, 10.0 * s.lambda);
            if (s.lambda > 1e12) break;
            continue;
        }
        out->decrement = predicted / fmax(s.now->value, fpl_negligible(problem));
        if (out->decrement <= tolerance && settled(&s, h, tolerance)) {
            out->converged = 1;
            break;
        }
        take_step(&s, step, theta, trial);
        fpl_objective_at(objective, &s.l, trial, 1, s.next);
        if (s.next->value < s.now->value) {
            const double gain = (s.now->value - s.next->value) / predicted;
            move_to(&s, theta, trial);
            s.lambda = failed       ? s.lambda
                       : gain > 0.5 ? fmax(1e-12, 0.3 * s.lambda)
                       : gain < 0.1 ? fmin(1e10, 3.0 * s.lambda)
                                    : s.lambda;
            if (!failed) s.tau = fmax(0.02, 0.5 * s.tau);
            failed = 0;
        } else {
            if (out->decrement < 1e-13) { /* rounding of the sum decides now */
                out->converged = 1;
                break;
            }
            s.lambda = fmax(1e-6, 3.0 * s.lambda);
            failed = 1;
            s.tau = fmin(1.0, 8.0 * s.tau);
            if (s.lambda > 1e12) break;
        }
    }
    out->value = s.now->value;
}

void fpl_approach(const struct fpl_objective *objective, double *theta, int iterations, double tolerance,
                  struct fpl_minimum *out) {
    struct fpl_objective o = *objective;
    const double rows = (double)objective->problem->count;
    int spent = 0;
    for (o.delta = HUGE_VAL; o.delta > DELTA_NEAR * objective->delta;
         o.delta = fmin(DELTA_FALL * o.delta, sqrt(2.0 * out->value / rows))) {
        fpl_minimise(&o, theta, STAGE_ITERATIONS, STAGE_TOLERANCE, out);
        spent += out->iterations;
        if (!isfinite(out->value)) return;
    }
    fpl_minimise(objective, theta, iterations, tolerance, out);
    out->iterations += spent;
}

/* Hessian (lower triangle) by central differences of the analytic gradient. */
static void difference_hessian(const struct fpl_objective *o, const struct fpl_layout *l, const double *theta,
                               double *h) {
    struct fpl_model up, down;
    double moved[P];
    for (int i = 0; i < l->count; i++) {
        const int j = l->index[i];
        const double width = 1e-5;
        memcpy(moved, theta, (size_t)fpl_problem_width(o->problem) * sizeof *moved);
        moved[j] = theta[j] + width;
        fpl_objective_at(o, l, moved, 1, &up);
        moved[j] = theta[j] - width;
        fpl_objective_at(o, l, moved, 1, &down);
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
    struct search s;
    double h[P * P], step[P], trial[P];
    begin(&s, objective);
    fpl_objective_at(objective, &s.l, theta, 1, s.now);
    *out = (struct fpl_minimum){s.now->value, HUGE_VAL, 0, 0};
    for (; out->iterations < 8; out->iterations++) {
        if (s.now->value <= fpl_negligible(problem)) { /* nothing is left to decrease */
            out->decrement = 0.0;
            out->converged = 1;
            break;
        }
        free_ones(&s, theta);
        difference_hessian(objective, &s.l, theta, h);
        double lambda = 0.0, predicted = solve_step(&s, h, lambda, 0.0, step);
        while (predicted < 0.0 && lambda < 1e-2) { /* singular: as little damping as makes it definite */
            lambda = fmax(1e-9, 10.0 * lambda);
            predicted = solve_step(&s, h, lambda, 0.0, step);
        }
        if (predicted >= 0.0) out->decrement = predicted / fmax(s.now->value, fpl_negligible(problem));
        if (predicted >= 0.0 && out->decrement <= 1e-12) {
            out->converged = 1;
            break;
        }
        int better = 0;
        for (int tries = 0; tries < 12 && !better; tries++) {
            if (predicted > 0.0) {
                take_step(&s, step, theta, trial);
                fpl_objective_at(objective, &s.l, trial, 1, s.next);
                better = s.next->value < s.now->value;
            }
            lambda = fmax(1e-6, 10.0 * lambda);
            if (!better) predicted = solve_step(&s, h, lambda, 0.0, step);
        }
        if (!better) {
            out->converged = out->decrement <= 1e-7; /* rounding, or the kink of a Huber residual */
            break;
        }
        move_to(&s, theta, trial);
    }
    out->value = s.now->value;
    if (!out->converged) out->converged = out->decrement <= 1e-9;
}
