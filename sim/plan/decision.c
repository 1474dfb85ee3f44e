/* decision.c - what --next is to narrow, from its text, and its value on a parameter vector.
 *
 *   loss@N=1e9,D=1e11,format=e4m3,block=32       ln loss there, at the optimal learning rate and batch
 *   lr@.., batch@.., D_crit@..                   ln of each
 *   best-format                                  ln loss of the plan's best format minus its runner-up's,
 *                                                each at its own optimum for the budget
 *
 * What a text leaves out is that of the plan's best row; without a plan and without both of N and
 * D these are the largest that the fit has seen, and the run is unquantized.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/number.h"
#include "decision.h"

const char *const fpl_decide_names[] = {"loss", "lr", "batch", "D_crit", "best-format", NULL};

static enum fpl_code find_name(const char *text, size_t length, enum fpl_decide *out, struct fpl_error *err) {
    char name[32];
    snprintf(name, sizeof name, "%.*s", (int)(length < 31 ? length : 31), text);
    for (int i = 0; fpl_decide_names[i] != NULL; i++)
        if (strcmp(name, fpl_decide_names[i]) == 0) {
            *out = (enum fpl_decide)i;
            return FPL_OK;
        }
    const char *near = fpl_nearest_word(name, fpl_decide_names);
    return fpl_fail(err, FPL_INVALID,
                    "--decide '%.40s': no such decision%s%s; there are loss, lr, batch, D_crit, best-format",
                    name, near != NULL ? ", did you mean " : "", near != NULL ? near : "");
}

static enum fpl_code take(const char *text, size_t length, char format[48], struct fpl_decision_of *out,
                          struct fpl_error *err) {
    static const char *const keys[] = {"N", "D", "format", "block", NULL};
    char piece[96];
    snprintf(piece, sizeof piece, "%.*s", (int)(length < 95 ? length : 95), text);
    char *equal = strchr(piece, '=');
    if (equal == NULL)
        return fpl_fail(err, FPL_INVALID, "--decide: '%s': N=, D=, format= or block= is expected", piece);
    *equal = '\0';
    double *number = strcmp(piece, "N") == 0       ? &out->at.N
                     : strcmp(piece, "D") == 0     ? &out->at.D
                     : strcmp(piece, "block") == 0 ? &out->at.block
                                                   : NULL;
    if (number != NULL) {
        if (fpl_number_parse(equal + 1, number, err) != FPL_OK)
            return fpl_fail_at(err, "--decide: %s", piece);
        if (*number >= 1.0) return FPL_OK;
        return fpl_fail(err, FPL_INVALID, "--decide: %s: found %s, accepted is a number from 1", piece,
                        equal + 1);
    }
    if (strcmp(piece, "format") == 0) {
        snprintf(format, 48, "%s", equal + 1);
        return FPL_OK;
    }
    const char *near = fpl_nearest_word(piece, keys);
    return fpl_fail(err, FPL_INVALID, "--decide: unknown name '%s'%s%s; N, D, format and block are expected",
                    piece, near != NULL ? ", did you mean " : "", near != NULL ? near : "");
}

/* What the text left out. */
static void complete(const struct fpl_fit *fit, const struct fpl_plan_row *best, const char *format,
                     struct fpl_decision_of *out) {
    if (best == NULL) {
        struct fpl_fit_summary s;
        fpl_fit_summarize(fit, &s);
        if (isnan(out->at.N) && isnan(out->at.D) && s.N[1] > 0.0 && s.D[1] > 0.0)
            out->at.N = s.N[1], out->at.D = s.D[1];
        return;
    }
    if (isnan(out->at.N)) out->at.N = best->at.N;
    if (isnan(out->at.D)) out->at.D = best->at.D;
    if (format[0] != '\0') return;
    out->at.E = best->format->E;
    out->at.M = best->format->M;
    out->at.block = best->format->block;
}

static enum fpl_code parse_place(const struct fpl_fit *fit, const char *text, const struct fpl_plan_row *best,
                                 struct fpl_decision_of *out, struct fpl_error *err) {
    char format[48] = "";
    enum fpl_code code = FPL_OK;
    for (const char *at = text; code == FPL_OK && *at != '\0';) {
        const size_t length = strcspn(at, ",");
        code = take(at, length, format, out, err);
        at += length + (at[length] == ',');
    }
    if (code != FPL_OK) return code;
    if (format[0] != '\0') {
        struct fpl_plan_format f;
        if (fpl_plan_format_parse(format, out->at.block, 1.0, &f, err) != FPL_OK)
            return fpl_fail_at(err, "--decide");
        out->at.E = f.E, out->at.M = f.M, out->at.block = f.block;
    }
    complete(fit, best, format, out);
    if (isnan(out->at.N) || isnan(out->at.D))
        return fpl_fail(err, FPL_INVALID, "--decide: N= and D= are expected, or a budget (--flops)");
    return FPL_OK;
}

double fpl_decision_value(const struct fpl_decision_of *d, const struct fpl_fit_vector *v) {
    struct fpl_plan_point first, second;
    switch (d->what) {
    case FPL_DECIDE_LOSS:
        return log(fpl_vector_loss(v, &d->at));
    case FPL_DECIDE_LR:
        return log(fpl_vector_lr(v, &d->at));
    case FPL_DECIDE_BATCH:
        return log(fpl_vector_batch(v, &d->at));
    case FPL_DECIDE_D_CRIT:
        return log(fpl_vector_dcrit(v, &d->at));
    case FPL_DECIDE_FORMAT:
    default:
        break;
    }
    const struct fpl_plan_row *row = d->plan->row;
    if (!fpl_plan_best(v, row[0].format, d->limits, d->plan->flop, row[0].at.N, &first) ||
        !fpl_plan_best(v, row[1].format, d->limits, d->plan->flop, row[1].at.N, &second))
        return (double)NAN;
    return log(first.loss / second.loss);
}

enum fpl_code fpl_decision_parse(const struct fpl_fit *fit, const char *text, const struct fpl_plan *plan,
                                 const struct fpl_plan_limits *limits, struct fpl_decision_of *out,
                                 struct fpl_error *err) {
    const size_t length = strcspn(text, "@");
    const struct fpl_plan_row *best =
        plan != NULL && plan->rows > 0 && plan->row[0].possible ? plan->row : NULL;
    const double none = (double)NAN;
    struct fpl_fit_vector own;
    *out = (struct fpl_decision_of){.at = {none, none, none, none, none, none, none}, .plan = plan};
    out->limits = limits;
    enum fpl_code code = find_name(text, length, &out->what, err);
    if (code != FPL_OK) return code;
    if (out->what != FPL_DECIDE_FORMAT)
        code = parse_place(fit, text[length] == '@' ? text + length + 1 : "", best, out, err);
    else if (text[length] == '@')
        code =
            fpl_fail(err, FPL_INVALID, "--decide best-format: the formats are those of --speed and --format");
    else if (best == NULL || plan->rows < 2 || !plan->row[1].possible)
        code = fpl_fail(
            err, FPL_INVALID,
            "--decide best-format: a budget (--flops) and two possible formats (--speed) are expected");
    if (code != FPL_OK) return code;
    fpl_fit_vector_at(fit, -1, &own);
    if (isfinite(fpl_decision_value(out, &own))) return FPL_OK;
    return fpl_fail(err, FPL_INVALID, "--decide %s: %s does not tell it%s", fpl_decide_names[out->what],
                    fpl_law_name(fpl_fit_law(fit)),
                    out->what == FPL_DECIDE_D_CRIT ? " (a format in blocks is needed)" : "");
}
