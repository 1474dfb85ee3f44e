/* plan_text.c - a plan as text (plan.h). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "plan.h"

#define LEAST_BITS 2
#define MOST_BITS 16

const char *plan_cannot(const struct plan_answer *p, size_t i) {
    static const char *const words[] = {
        ("this law tells no learning rate and no batch: fit joint, or name a law that does (--optima "
         "steplaw:paper)"),
        "this law has no precision term: formats are not compared",
        "published constants have no resamples: no intervals, and what is within the noise is unknown",
        "this law has no critical data size"};
    const struct fpl_plan_row *best = p->plans > 0 && p->plan[0].rows > 0 ? &p->plan[0].row[0] : NULL;
    int crit = 0;
    for (size_t k = 0; best != NULL && k < p->plan[0].rows; k++)
        crit |= !isnan(p->plan[0].row[k].D_crit.value);
    const int formats = fpl_fit_knows_formats(p->fit);
    const int say[] = {best != NULL && best->possible && isnan(best->at.lr), !formats,
                       fpl_fit_vectors(p->fit) == 0, formats && best != NULL && p->plan[0].rows > 1 && !crit};
    for (size_t k = 0; k < sizeof say / sizeof say[0]; k++)
        if (say[k] && i-- == 0) return words[k];
    return NULL;
}

static void format_name(const struct fpl_plan_format *f, char *out, size_t size) {
    if (isnan(f->block))
        snprintf(out, size, "%s", f->name);
    else
        snprintf(out, size, "%s/%g", f->name, round(f->block));
}

static void print_value(const char *name, const struct fpl_estimate *e, const char *unit) {
    if (isnan(e->value)) return;
    printf("    %-22s %12.5g", name, e->value);
    if (!isnan(e->lo)) printf("  [%.4g, %.4g]", e->lo, e->hi);
    printf("%s%s\n", unit[0] != '\0' ? "  " : "", unit);
}

/* ---- one budget ------------------------------------------------------------------------------------ */

static void print_optima(const struct fpl_plan_point *at) {
    if (isnan(at->lr))
        printf(" %10s", "-");
    else
        printf(" %10.3g", at->lr);
    if (isnan(at->batch_tokens))
        printf(" %10s", "-");
    else
        printf(" %10.4g", at->batch_tokens);
}

static void print_rows(const struct fpl_plan *plan) {
    printf("  %-14s %6s %11s %11s %8s %9s %8s %10s %10s  %s\n", "format", "speed", "N", "D", "D/N", "loss",
           "above %", "lr", "batch", "");
    for (size_t i = 0; i < plan->rows; i++) {
        const struct fpl_plan_row *r = &plan->row[i];
        char name[64];
        format_name(r->format, name, sizeof name);
        if (!r->possible) {
            printf("  %-14s %6.3g  %s\n", name, r->format->speed, r->note);
            continue;
        }
        printf("  %-14s %6.3g %11.4g %11.4g %8.3g %9.5f %8.3f", name, r->format->speed, r->at.N, r->at.D,
               r->at.D / r->at.N, r->at.loss, 100.0 * expm1(r->gap.value));
        print_optima(&r->at);
        printf("  %s\n", i == 0                ? "best"
                         : r->within_noise     ? "within the noise of the best"
                         : r->within_run_noise ? "one run each would not tell it from the best"
                                               : "");
    }
}

static void print_break_even(const struct fpl_plan_row *r) {
    if (isnan(r->break_even.value)) return;
    if (isinf(r->break_even.value)) {
        printf("    %-22s %12s  up to 2^60: its best loss never reaches the reference's\n",
               "break-even speed", "none");
        return;
    }
    print_value("break-even speed", &r->break_even,
                r->format->speed >= r->break_even.value ? "(it has it)" : "(it has less)");
}

static void print_detail(const struct plan_asked *a, const struct fpl_plan_row *r) {
    char name[64];
    format_name(r->format, name, sizeof name);
    printf("  %s\n", name);
    print_value("N", &r->N, "parameters");
    if (!isnan(r->flat_N[0]))
        printf("    %-22s %12.4g to %.4g\n", "  costs under 0.25 %", r->flat_N[0], r->flat_N[1]);
    print_value("D", &r->D, "tokens");
    print_value("loss", &r->loss, "nats");
    print_value("lr", &r->lr, "");
    print_value("batch_tokens", &r->batch_tokens, "tokens");
    print_value("N* ~ C^a, a", &r->exponent_N, "");
    print_value("critical D", &r->D_crit, "tokens, at this N");
    if (!isnan(r->share_best)) printf("    %-22s %12.3g  of resamples\n", "best format in", r->share_best);
    if (!isnan(r->gap_run.lo) && r->gap.value != 0.0)
        printf("    %-22s %12.3f  [%.3f, %.3f]  of the fit; [%.3f, %.3f] between one run each\n",
               "above the best, %", 100.0 * expm1(r->gap.value), 100.0 * expm1(r->gap.lo),
               100.0 * expm1(r->gap.hi), 100.0 * expm1(r->gap_run.lo), 100.0 * expm1(r->gap_run.hi));
    print_break_even(r);
    print_value("gap = share of N", &r->same_N, "with which the reference has this format's loss");
    print_value("gap = share of D", &r->same_D, "");
    print_value("gap = share of compute", &r->same_C, "");
    printf("    %-22s %12.4g  bytes: weights and optimizer state\n", "memory",
           fpl_plan_memory(r->format, &a->limits, r->at.N));
    if (r->at.spent < 0.999) printf("    %-22s %12.3g\n", "share of budget spent", r->at.spent);
    if (r->outside > 0.0)
        printf("    %-22s %12.3g  octaves: the answer is an extrapolation\n", "outside the fit by",
               r->outside);
    if (r->note[0] != '\0') printf("    note: %s\n", r->note);
}

/* ---- tables ---------------------------------------------------------------------------------------- */

static void print_table(const struct plan_answer *p) {
    printf("\nbest by budget\n  %-10s %-14s %11s %11s %8s %9s %10s %10s %8s  %s\n", "FLOP", "format", "N",
           "D", "D/N", "loss", "lr", "batch", "outside", "within the noise");
    for (size_t k = 0; k < p->plans; k++) {
        const struct fpl_plan_row *r = &p->plan[k].row[0];
        char name[64];
        if (!r->possible) {
            printf("  %-10.4g %s\n", p->plan[k].flop, r->note);
            continue;
        }
        format_name(r->format, name, sizeof name);
        printf("  %-10.4g %-14s %11.4g %11.4g %8.3g %9.5f", p->plan[k].flop, name, r->at.N, r->at.D,
               r->at.D / r->at.N, r->at.loss);
        print_optima(&r->at);
        printf(" %8.3g ", r->outside);
        if (r->at.D < r->at.N) printf(" (D < N)");
        for (size_t i = 1; i < p->plan[k].rows; i++) {
            if (!p->plan[k].row[i].within_noise) continue;
            format_name(p->plan[k].row[i].format, name, sizeof name);
            printf(" %s", name);
        }
        printf("\n");
    }
    if (!p->has_allocation) return;
    printf("  over these budgets, in the first one's best format, N* ~ C^a and D* ~ C^b:\n");
    print_value("a", &p->allocation.N, "");
    print_value("b", &p->allocation.D, "");
}

static void print_isoflop(const struct plan_answer *p) {
    char name[64];
    if (p->isoflops == 0) return;
    format_name(p->plan[0].row[0].format, name, sizeof name);
    printf("\nat %.4g FLOP in %s\n  %11s %11s %9s %10s\n", p->plan[0].flop, name, "N", "D", "loss",
           "above %");
    for (size_t i = 0; i < p->isoflops; i++) {
        const struct fpl_isoflop *r = &p->isoflop[i];
        printf("  %11.4g %11.4g %9.5f %10.4f", r->N, r->D, r->loss.value, 100.0 * expm1(r->above.value));
        if (!isnan(r->above.lo))
            printf("  [%.4f, %.4f]", 100.0 * expm1(r->above.lo), 100.0 * expm1(r->above.hi));
        printf("\n");
    }
}

static void print_others(const struct plan_answer *p) {
    if (p->others == 0) return;
    printf("\nother laws of the file, at the first budget in the best format\n  %-14s %11s %11s %9s\n", "law",
           "N", "D", "loss");
    for (size_t i = 0; i < p->others; i++)
        printf("  %-14s %11.4g %11.4g %9.5f\n", p->other[i].law, p->other[i].at.N, p->other[i].at.D,
               p->other[i].at.loss);
}

static double outside_of(const struct fpl_fit *fit, double N, double D) {
    const struct fpl_point_at at = {N, D, (double)NAN, (double)NAN, (double)NAN, (double)NAN, (double)NAN};
    struct fpl_answer answer;
    return fpl_fit_predict(fit, &at, &answer, NULL) == FPL_OK ? answer.outside : (double)NAN;
}

static void print_precision(const struct plan_asked *a, const struct plan_answer *p) {
    struct fpl_split s;
    if (!p->has_bits) return;
    printf("\nprecision against compute, C = (6/16) P N D, blocks of %g, best real-valued split\n",
           round(a->block_first));
    printf("  %-10s %8s %11s %11s %8s\n", "FLOP", "bits", "N", "D", "D/N");
    for (size_t k = 0; k < p->plans; k++) {
        const struct fpl_plan_bits *b = &p->bits[k];
        printf("  %-10.4g %8.3f %11.4g %11.4g %8.2g", b->flop, b->bits.value, b->N.value, b->D.value,
               b->D.value / b->N.value);
        if (!isnan(b->bits.lo)) printf("  bits [%.2f, %.2f]", b->bits.lo, b->bits.hi);
        const double far = outside_of(p->fit, b->N.value, b->D.value);
        if (far > 0.0) printf("  outside the fit by %.1f octaves", far);
        printf("%s\n", b->D.value < b->N.value ? "; fewer tokens than parameters" : "");
    }
    printf("\nbest split of 1 + E + M bits\n ");
    for (int bits = LEAST_BITS; bits <= MOST_BITS && fpl_fit_split(p->fit, bits, &s); bits++) {
        printf(" %d:E%dM%d", bits, s.E, s.M);
        if (!isnan(s.share)) printf(" (%.0f %%)", 100.0 * s.share);
    }
    printf("\n");
}

void plan_print_text(const struct plan_asked *a, const struct plan_answer *p) {
    struct fpl_fit_summary s;
    const char *cannot;
    fpl_fit_summarize(p->fit, &s);
    printf("%s (%s)\n", fpl_law_name(fpl_fit_law(p->fit)), fpl_law_citation(fpl_fit_law(p->fit)));
    if (p->plans == 1) {
        const struct fpl_plan *plan = &p->plan[0];
        printf("\nbudget %.4g FLOP at speed 1 (6 N D%s)\n", plan->flop,
               a->limits.inference_tokens > 0.0 ? " + 2 N per inference token" : "");
        print_rows(plan);
        printf("\n");
        for (size_t i = 0; i < plan->rows; i++)
            if (plan->row[i].possible) print_detail(a, &plan->row[i]);
    } else {
        print_table(p);
    }
    print_isoflop(p);
    print_others(p);
    print_precision(a, p);
    if (s.bootstrap > 0)
        printf("\nbrackets: %g %% intervals over %d resamples\n", 100.0 * s.level, s.bootstrap);
    if (a->block_assumed && fpl_fit_knows_formats(p->fit))
        printf("blocks of %g are assumed (--block)\n", round(a->block_first));
    for (size_t i = 0; (cannot = plan_cannot(p, i)) != NULL; i++) printf("%s\n", cannot);
}
