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
    const unsigned char *described; /* per run: `curve` was fitted to such runs */
    double floor;                   /* entropy of the evaluation sample; NaN where unknown */
    const char *figures;            /* see fpl_report_options */
};

/* Each appends <figure> elements, or nothing when the runs cannot support the drawing. */
enum fpl_code fpl_figure_loss(struct fpl_text *t, const struct fpl_figure_input *in, struct fpl_error *err);
enum fpl_code fpl_figure_ranking(struct fpl_text *t, const struct fpl_figure_input *in,
                                 struct fpl_error *err);
enum fpl_code fpl_figure_gaps(struct fpl_text *t, const struct fpl_figure_input *in, struct fpl_error *err);
enum fpl_code fpl_figure_bowls(struct fpl_text *t, const struct fpl_figure_input *in, struct fpl_error *err);
enum fpl_code fpl_figure_residuals(struct fpl_text *t, const struct fpl_figure_input *in,
                                   struct fpl_error *err);

/* Any fitted law (figures_law.c): name of the drawing, and which runs the fit was given (chosen[i]). */
enum fpl_code fpl_figure_law(struct fpl_text *t, const struct fpl_figure_input *in, const struct fpl_fit *fit,
                             const char *name, const unsigned char *chosen, struct fpl_error *err);

/* A script drawn and framed with its caption; frees the script. */
enum fpl_code fpl_figure_finish(struct fpl_text *t, const char *name, const char *alt, const char *caption,
                                int width, int height, struct fpl_text *script, const char *figures,
                                struct fpl_error *err);
/* 1.5M, 250k; equal within 2 %. */
void fpl_figure_si(char buf[24], double v);
int fpl_figure_near(double a, double b);
/* NaN without a fit; E, M, block NaN: not quantized. */
double fpl_figure_loss_at(const struct fpl_fit *fit, double N, double D, double lr, double batch, double E,
                          double M, double block);
int fpl_run_is_reference(const struct fpl_run *r); /* fp32 */

/* A run can be used: finished with a finite loss. */
int fpl_run_usable(const struct fpl_run *r);
/* The fit's loss at a run's own point, NaN without a fit. */
double fpl_run_fitted(const struct fpl_fit *fit, const struct fpl_run *r);
/* The same without quantization. */
double fpl_run_fitted_high_precision(const struct fpl_fit *fit, const struct fpl_run *r);

#endif
