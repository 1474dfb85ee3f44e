/* permute.h - a random permutation of [0, n) evaluated at one point, without a table.
 *
 * A Feistel network over the smallest power of two not below n, walked until it lands below
 * n (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002): a bijection of
 * [0, n) for every key.  Eight rounds, their function Philox: round k maps a half word h to
 * the first word of the block (seed, h, epoch, stream + k).
 */
#ifndef FPL_DATA_PERMUTE_H
#define FPL_DATA_PERMUTE_H

#include <stdint.h>

/* index < n, n >= 1, n <= 2^62; the low 3 bits of stream are zero. */
uint64_t fpl_permute(uint64_t index, uint64_t n, uint64_t seed, uint32_t epoch, uint32_t stream);

#endif
