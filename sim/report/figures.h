/* figures.h - the drawings of a report, each a gnuplot script made from runs and a fit. */
#ifndef FPL_FIGURES_H
#define FPL_FIGURES_H

#include "../law/law.h"
#include "report.h"

struct fpl_figure_input {
    const struct fpl_runs *runs;
    const struct fpl_ranking *ranking;
    const struct fpl_fit *curve; /* joint if there is one, else capybara or chinchilla; NULL: none */
    const struct fpl_fit *bowl;  /* joint; NULL: no bowls are drawn */
    const char *curve_name;
    double floor;        /* entropy of the evaluation sample; NaN where unknown */
    const char *figures; /* see fpl_report_options */
};

/* Each appends <figure> elements, or nothing when the runs cannot support the drawing. */
enum fpl_code fpl_figure_loss(struct fpl_text *t, const struct fpl_figure_input *in, struct fpl_error *err);
enum fpl_code fpl_figure_ranking(struct fpl_text *t, const struct fpl_figure_input *in,
                                 struct fpl_error *err);
enum fpl_code fpl_figure_gaps(struct fpl_text *t, const struct fpl_figure_input *in, struct fpl_error *err);
enum fpl_code fpl_figure_bowls(struct fpl_text *t, const struct fpl_figure_input *in, struct fpl_error *err);
enum fpl_code fpl_figure_residuals(struct fpl_text *t, const struct fpl_figure_input *in,
                                   struct fpl_error *err);

/* A run can be used: finished with a finite loss. */
int fpl_run_usable(const struct fpl_run *r);
/* The fit's loss at a run's own point, NaN without a fit. */
double fpl_run_fitted(const struct fpl_fit *fit, const struct fpl_run *r);
/* The same without quantization. */
double fpl_run_fitted_high_precision(const struct fpl_fit *fit, const struct fpl_run *r);

#endif
