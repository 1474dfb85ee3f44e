/* random.h - random bits as a pure function of (seed, stream, step, element).
 *
 * Philox 4x32-10 (Salmon et al., SC'11; Random123 supplies it for host and device).
 *   key     = the 64-bit seed, low word first
 *   counter = (block low, block high, step, stream)
 * Stochastic rounding with r <= 16 bits: element i takes 16-bit half i mod 8 (low half of
 * a word first) of block floor(i/8), its low r bits; with r > 16: word i mod 4 of block
 * floor(i/4), its low r bits.  Other consumers (initial weights, data order) use whole
 * blocks under streams of their own.
 *
 * Streams are 32 bits.  The table of what they mean is fixed for ever (changing it changes
 * `numerics`):
 *   bits 31..28  kind: 0 stochastic rounding, 1 initial weights, 2 data order,
 *                3 lexicon construction, 4 evaluation sample, 5 tests, 6 bootstrap,
 *                7 training data of generated sources, 8 stochastic rounding of the
 *                optimizer's tensors, 9 stochastic rounding of attention's operands, 10 stochastic
 *                rounding of accumulators
 *   kind 0: bits 27..8 layer*8 + linear layer within the block (0 qkv, 1 attention output,
 *           2 gate and up, 3 down, 4 head), bits 3..0 enum fpl_slot; standalone
 *           quantizers use stream 0.
 *   kind 8: bits 27..8 index of the tensor (the model's parameter order), bits 3..0 enum
 *           fpl_optimizer_slot (kernels.h: 0 first moment, 1 second moment, 2 master
 *           weights, 3 gradient); element: index in the tensor.
 *   kind 9: bits 27..8 layer, bits 3..0 enum fpl_attention_slot (kernels.h); element:
 *           (sequence of the step * heads + head) * size of the head's matrix + index in it.
 *   kind 10: bits 27..0 of operand a's stream, element as in accumulator.h.
 *   kinds 1..7: bits 27..0 are defined by the one file that uses the kind.
 */
#ifndef FPL_RANDOM_H
#define FPL_RANDOM_H

#include <stdint.h>

#include "round.h"

#if defined(__GNUC__) && !defined(__clang__) && !defined(__CUDACC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#endif
#include <Random123/philox.h>
#if defined(__GNUC__) && !defined(__clang__) && !defined(__CUDACC__)
#pragma GCC diagnostic pop
#endif

enum fpl_stream_kind {
    FPL_STREAM_ROUNDING = 0,
    FPL_STREAM_WEIGHTS = 1,
    FPL_STREAM_ORDER = 2,
    FPL_STREAM_LEXICON = 3,
    FPL_STREAM_EVAL = 4,
    FPL_STREAM_TEST = 5,
    FPL_STREAM_BOOTSTRAP = 6,
    FPL_STREAM_GENERATE = 7,
    FPL_STREAM_OPTIMIZER = 8,
    FPL_STREAM_ATTENTION = 9,
    FPL_STREAM_ACCUMULATE = 10
};

FPL_HD uint32_t fpl_stream(uint32_t kind, uint32_t low28) { return kind << 28 | (low28 & 0x0fffffffu); }

/* Stream of a GEMM operand's stochastic rounding. */
FPL_HD uint32_t fpl_rounding_stream(uint32_t layer, uint32_t linear, uint32_t slot) {
    return fpl_stream(FPL_STREAM_ROUNDING, (layer * 8u + linear) << 8 | slot);
}

/* One block: four 32-bit words. */
FPL_HD void fpl_random_block(uint64_t seed, uint64_t block, uint32_t step, uint32_t stream, uint32_t out[4]) {
    philox4x32_key_t key;
    philox4x32_ctr_t ctr;
    key.v[0] = (uint32_t)seed;
    key.v[1] = (uint32_t)(seed >> 32);
    ctr.v[0] = (uint32_t)block;
    ctr.v[1] = (uint32_t)(block >> 32);
    ctr.v[2] = step;
    ctr.v[3] = stream;
    ctr = philox4x32_R(10, ctr, key);
    out[0] = ctr.v[0];
    out[1] = ctr.v[1];
    out[2] = ctr.v[2];
    out[3] = ctr.v[3];
}

/* The random bits of stochastic rounding with r bits for one element. */
FPL_HD uint32_t fpl_random_bits(uint64_t seed, uint32_t step, uint32_t stream, uint64_t element, int r) {
    uint32_t w[4];
    if (r <= 16) {
        fpl_random_block(seed, element / 8u, step, stream, w);
        return (w[(element % 8u) / 2u] >> (16u * (uint32_t)(element & 1u)) & 0xffffu) & ((1u << r) - 1u);
    }
    fpl_random_block(seed, element / 4u, step, stream, w);
    return r == 32 ? w[element % 4u] : w[element % 4u] & ((1u << r) - 1u);
}

/* A double in [0, 1) from two words: 53 bits. */
FPL_HD double fpl_random_uniform(uint32_t high, uint32_t low) {
    return (double)((uint64_t)high << 21 ^ (uint64_t)(low >> 11)) * 0x1p-53;
}

#endif
