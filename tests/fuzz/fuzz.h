/* fuzz.h - what every fuzz target offers, and how it complains.
 *
 * A target takes any bytes.  Refusing them is fine; accepting them obliges: what was parsed must
 * hold what the header of the parser promises.  The same targets run under libFuzzer
 * (-DFPLAW_FUZZ=ON with clang) and, over the seeds and mutations of them, in every test run
 * (replay.c).
 *
 *   cmake -S . -B /tmp/fuzz -G Ninja -DFPLAW_FUZZ=ON -DCMAKE_C_COMPILER=clang -DFPLAW_TESTS=ON
 *   ninja -C /tmp/fuzz fuzz && sh tests/fuzz/run.sh /tmp/fuzz 600
 */
#ifndef FPL_FUZZ_H
#define FPL_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CHECK(condition)                                                                                \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);                    \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

/* The input as text; NULL where it is too long to be of interest.  Names of codebook files are
 * left out: a parser that opens what it is told to would read from anywhere. */
static inline char *fuzz_text(const uint8_t *data, size_t size) {
    if (size > 4096) return NULL;
    char *text = malloc(size + 1);
    if (text == NULL) return NULL;
    if (size > 0) memcpy(text, data, size);
    text[size] = '\0';
    for (const char *p = text; *p != '\0'; p++) {
        if (*p != '(') continue;
        free(text);
        return NULL;
    }
    return text;
}

#endif
