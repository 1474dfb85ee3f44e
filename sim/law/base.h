/* base.h - losses of unquantized runs at their best learning rate and batch: what `joint` stands on.
 *
 *   chinchilla      E + A/N^alpha + B/D^beta                               arXiv 2203.15556
 *   chinchilla-nd   E + A/N^alpha + B N^c/D^beta                           an N-D interaction
 *   capacity        E + (A/N^alpha + B/D^beta)^k                           arXiv 2505.14669, unquantized
 *   farseer         e^(a3 N^g3 + b3) + e^(a2 N^g2 + b2) D^(-e^(a1 N^g1 + b1))    arXiv 2506.10972
 *
 * Each is a row of fpl_bases with value, gradient and slope in ln D, in internal parameters t that
 * are levels and slopes at the data's centre, so that one step means much the same for all.
 */
#ifndef FPL_LAW_BASE_H
#define FPL_LAW_BASE_H

#include "block.h"
#include "problem.h"

#define FPL_BASE_PARAMS 9 /* at most */

struct fpl_base {
    const char *name, *citation, *formula;
    int params;
    int floor_at;          /* index of E; -1: none */
    int alpha_at, beta_at; /* exponents that the precision penalty shares; -1: it has its own */
    /* Losses in nats, gradients (params columns) and slopes in ln D of a block of rows; fpl_base_one: of one
     * (block.h). */
    void (*rows)(const double *t, const struct fpl_block *at, const struct fpl_values *out, lanes *by_d);
    void (*publish)(const double *t, const struct fpl_centre *centre, double *published);
    void (*internal)(const double *published, const struct fpl_centre *centre, double *t);
    /* From a Chinchilla form with interaction, fitted to levels. */
    void (*start)(const struct fpl_levels *levels, const struct fpl_centre *centre, double *t);
};

extern const struct fpl_base fpl_base_chinchilla, fpl_base_nd, fpl_base_capacity, fpl_base_farseer;

#endif
