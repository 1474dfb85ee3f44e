/* figures_bowl.c - the landscapes of learning rate and batch, a panel for each of the cells with most runs.
 */
#include <math.h>
#include <stdio.h>

#include "figures.h"

/* One (N, D) cell: contours of the fit at +0.25, 1, 3, 10 % and its runs coloured by excess. */
static void bowl_panel(struct fpl_text *s, const struct fpl_figure_input *in, double N, double D,
                       size_t cell) {
    const struct fpl_point_at at = {N, D, (double)NAN, (double)NAN, (double)NAN, (double)NAN, (double)NAN};
    struct fpl_answer best;
    struct fpl_error ignored = {FPL_OK, ""};
    if (fpl_fit_predict(in->bowl, &at, &best, &ignored) != FPL_OK || !(best.lr.value > 0.0) ||
        !(best.batch_tokens.value > 0.0))
        return;
    const double u0 = log2(best.lr.value), v0 = log2(best.batch_tokens.value);
    double ulo = u0 - 2.5, uhi = u0 + 2.5, vlo = v0 - 2.5, vhi = v0 + 2.5;
    fpl_text_add(s, "$q%zu << EOD\n", cell);
    for (size_t i = 0; i < in->runs->count; i++) {
        const struct fpl_run *r = &in->runs->run[i];
        if (!fpl_run_usable(r) || !fpl_run_is_reference(r) || !fpl_figure_near(r->N, N) ||
            !fpl_figure_near(r->D, D))
            continue;
        const double u = log2(r->lr), v = log2(r->batch_tokens);
        fpl_text_add(s, "%.17g %.17g %.17g\n", r->lr, r->batch_tokens,
                     100.0 * (r->loss / best.loss.value - 1.0));
        ulo = fmin(ulo, u - 0.5), uhi = fmax(uhi, u + 0.5), vlo = fmin(vlo, v - 0.5),
        vhi = fmax(vhi, v + 0.5);
    }
    fpl_text_add(s, "EOD\n$z%zu << EOD\n", cell);
    for (int i = 0; i <= 36; i++) {
        for (int j = 0; j <= 36; j++) {
            const double lr = exp2(ulo + (uhi - ulo) * i / 36.0), batch = exp2(vlo + (vhi - vlo) * j / 36.0);
            const double l =
                fpl_figure_loss_at(in->bowl, N, D, lr, batch, (double)NAN, (double)NAN, (double)NAN);
            fpl_text_add(s, "%.9g %.9g %.9g\n", lr, batch, 100.0 * (l / best.loss.value - 1.0));
        }
        fpl_text_add(s, "\n");
    }
    char n[24], d[24];
    fpl_figure_si(n, N);
    fpl_figure_si(d, D);
    fpl_text_add(
        s,
        "EOD\nset contour base\nset cntrparam levels discrete 0.25,1,3,10\nunset surface\nset table $k%zu\n"
        "splot $z%zu using 1:2:3\nunset table\nset title 'N = %s, D = %s'\n"
        "plot $k%zu using 1:2 with lines lc rgb '#9aa5b1' lw 1 notitle, "
        "$q%zu using 1:2:3 with points pt 7 ps 0.8 palette notitle, "
        "'-' using 1:2 with points pt 2 ps 1.4 lw 2 lc rgb '#d55e00' notitle\n%.17g %.17g\ne\n",
        cell, cell, n, d, cell, cell, best.lr.value, best.batch_tokens.value);
}

enum fpl_code fpl_figure_bowls(struct fpl_text *t, const struct fpl_figure_input *in, struct fpl_error *err) {
    if (in->bowl == NULL) return FPL_OK;
    struct {
        double N, D;
        size_t n;
    } cell[512];
    size_t count = 0;
    for (size_t i = 0; i < in->runs->count; i++) {
        const struct fpl_run *r = &in->runs->run[i];
        if (!fpl_run_usable(r) || !fpl_run_is_reference(r)) continue;
        size_t c = 0;
        while (c < count && !(fpl_figure_near(r->N, cell[c].N) && fpl_figure_near(r->D, cell[c].D))) c++;
        if (c == count && count == 512) continue;
        if (c == count) cell[count].N = r->N, cell[count].D = r->D, cell[count++].n = 0;
        cell[c].n++;
    }
    /* the nine cells with most runs, in order of appearance among equals */
    for (size_t i = 0; i < count; i++)
        for (size_t j = i + 1; j < count; j++)
            if (cell[j].n > cell[i].n ||
                (cell[j].n == cell[i].n && cell[j].N * 1e3 + cell[j].D < cell[i].N * 1e3 + cell[i].D)) {
                const double N = cell[i].N, D = cell[i].D;
                const size_t n = cell[i].n;
                cell[i] = cell[j];
                cell[j].N = N, cell[j].D = D, cell[j].n = n;
            }
    while (count > 0 && cell[count - 1].n < 3) count--;
    if (count == 0) return FPL_OK;
    if (count > 9) count = 9;
    const int rows = (int)(count + 2) / 3;
    struct fpl_text s = {0};
    fpl_text_add(
        &s,
        "set multiplot layout %d,3\nset logscale xy\nset format x '%%.0e'\nset xlabel 'peak learning rate'\n"
        "set ylabel 'batch, tokens'\nset palette defined (0 '#0072b2', 1 '#56b4e9', 3 '#e69f00', 10 "
        "'#d55e00')\n"
        "set cbrange [0:10]\nunset colorbox\nset xtics rotate by -35 font ',11'\n",
        rows);
    for (size_t c = 0; c < count; c++) bowl_panel(&s, in, cell[c].N, cell[c].D, c);
    fpl_text_add(&s, "unset multiplot\n");
    return fpl_figure_finish(
        t, "bowls", "Learning rate and batch landscapes",
        "fp32 runs of the cells with most runs, coloured by their loss above the fit's optimum "
        "(blue 0 to red 10 %); "
        "grey: the fitted bowl at 0.25, 1, 3 and 10 %; cross: the optimum.",
        1000, 40 + 300 * rows, &s, in->figures, err);
}
