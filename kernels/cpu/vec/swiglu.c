/* swiglu.c - the gated feed-forward activation (arXiv 2002.05202).
 *
 *   out = g s u,  s = sigmoid(g) = 1 / (1 + exp(-g)),  gate_up = [g | u] in each row
 *   du  = dout g s
 *   dg  = dout u s (1 + g (1 - s))
 *
 * Every element stands alone: one exponential and one division each way; no order to keep.
 * For g < -88.7 the sigmoid is 0 where the exact product would be subnormal.  Tails are
 * masked; missing lanes are computed from zeros.
 */
#include "ops.h"
#include "parallel.h"
#include "vexp.h"

enum { TILE_ROWS = 64 };

struct swiglu {
    int64_t rows, F;
    const float *gate_up, *dout;
    float *out;
};

VINLINE nf sigmoid(nf g) { return nset(1.0f) / (nset(1.0f) + nexp(-g)); }

static void forward_tile(const void *job, int64_t tile, int thread) {
    (void)thread;
    const struct swiglu *s = job;
    const int64_t F = s->F, begin = tile * TILE_ROWS, end = smaller(begin + TILE_ROWS, s->rows);
    for (int64_t i = begin; i < end; i++) {
        const float *gate = s->gate_up + i * 2 * F, *up = gate + F;
        float *out = s->out + i * F;
        int64_t f = 0;
        for (; f + NL <= F; f += NL) {
            nf g = nload(gate + f);
            nstore(out + f, g * nload(up + f) * sigmoid(g));
        }
        if (f < F) {
            nf g = nload_n(gate + f, F - f);
            nstore_n(out + f, g * nload_n(up + f, F - f) * sigmoid(g), F - f);
        }
    }
}

void FPL_VEC(swiglu_forward)(struct fpl_device *dev, int R, int64_t n, int64_t F, const float *gate_up,
                             float *out) {
    if (dev->error.code != FPL_OK) return;
    struct swiglu s = {.rows = R * n, .F = F, .gate_up = gate_up, .out = out};
    for_tiles(dev, tiles_of(s.rows, TILE_ROWS), forward_tile, &s);
}

VINLINE void gradients(nf g, nf u, nf d, nf *dg, nf *du) {
    nf s = sigmoid(g), ds = d * s;
    *du = ds * g;
    *dg = ds * u * nfma(g, nset(1.0f) - s, nset(1.0f));
}

static void backward_tile(const void *job, int64_t tile, int thread) {
    (void)thread;
    const struct swiglu *s = job;
    const int64_t F = s->F, begin = tile * TILE_ROWS, end = smaller(begin + TILE_ROWS, s->rows);
    nf dg, du;
    for (int64_t i = begin; i < end; i++) {
        const float *gate = s->gate_up + i * 2 * F, *up = gate + F, *dout = s->dout + i * F;
        float *dgate = s->out + i * 2 * F, *dup = dgate + F;
        int64_t f = 0;
        for (; f + NL <= F; f += NL) {
            gradients(nload(gate + f), nload(up + f), nload(dout + f), &dg, &du);
            nstore(dgate + f, dg);
            nstore(dup + f, du);
        }
        if (f < F) {
            int64_t rest = F - f;
            gradients(nload_n(gate + f, rest), nload_n(up + f, rest), nload_n(dout + f, rest), &dg, &du);
            nstore_n(dgate + f, dg, rest);
            nstore_n(dup + f, du, rest);
        }
    }
}

void FPL_VEC(swiglu_backward)(struct fpl_device *dev, int R, int64_t n, int64_t F, const float *gate_up,
                              const float *dout, float *dgate_up) {
    if (dev->error.code != FPL_OK) return;
    struct swiglu s = {.rows = R * n, .F = F, .gate_up = gate_up, .dout = dout, .out = dgate_up};
    for_tiles(dev, tiles_of(s.rows, TILE_ROWS), backward_tile, &s);
}
