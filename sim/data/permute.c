/* permute.c - see permute.h.  The halves may differ by one bit; after an even number of
 * rounds each is back in its place. */
#include "permute.h"

#include "../../formats/random.h"

enum { ROUNDS = 8 };

uint64_t fpl_permute(uint64_t index, uint64_t n, uint64_t seed, uint32_t epoch, uint32_t stream) {
    int bits = 2;
    while (n > (uint64_t)1 << bits) bits++;
    int low_bits = bits / 2, high_bits = bits - low_bits;
    do {
        uint64_t low = index & (((uint64_t)1 << low_bits) - 1), high = index >> low_bits;
        for (uint32_t k = 0; k < ROUNDS; k++) {
            uint32_t block[4];
            fpl_random_block(seed, low, epoch, stream + k, block);
            int width = k % 2 == 0 ? high_bits : low_bits;
            uint64_t mixed = high ^ (block[0] & (((uint64_t)1 << width) - 1));
            high = low;
            low = mixed;
        }
        index = high << low_bits | low;
    } while (index >= n);
    return index;
}
