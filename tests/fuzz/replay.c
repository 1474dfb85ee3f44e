/* replay.c - a fuzz target without a fuzzer: every seed, then a fixed number of mutations.
 *
 * Mutations come from a small generator with a fixed start, so a failure comes back every time:
 * bytes flipped, replaced by telling ones, cut out, doubled, or swapped with another seed's.
 * Each input is an allocation of its exact size, so that sanitizers see one byte too many.
 * Usage: replay MUTATIONS SEEDS-DIRECTORY
 */
#include <dirent.h>

#include "fuzz.h"

enum { MOST_SEEDS = 256, MOST_BYTES = 1 << 16 };

struct seed {
    uint8_t *data;
    size_t size;
};

static struct seed seeds[MOST_SEEDS];
static size_t seed_count;
static uint64_t state = 88172645463325252u;

/* xorshift64 (Marsaglia 2003). */
static size_t draw(size_t below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return below == 0 ? 0 : (size_t)(state % below);
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int load(const char *directory) {
    char *names[MOST_SEEDS];
    size_t count = 0;
    DIR *d = opendir(directory);
    if (d == NULL) return -1;
    for (struct dirent *e = readdir(d); e != NULL && count < MOST_SEEDS; e = readdir(d))
        if (e->d_name[0] != '.') names[count++] = strdup(e->d_name);
    closedir(d);
    qsort(names, count, sizeof names[0], by_name);
    for (size_t i = 0; i < count; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        FILE *f = fopen(path, "rb");
        struct seed *s = &seeds[seed_count];
        s->data = malloc(MOST_BYTES);
        if (f == NULL || s->data == NULL) return -1;
        s->size = fread(s->data, 1, MOST_BYTES, f);
        fclose(f);
        free(names[i]);
        seed_count++;
    }
    return seed_count > 0 ? 0 : -1;
}

static void run(const uint8_t *data, size_t size) {
    uint8_t *exact = malloc(size > 0 ? size : 1);
    FUZZ_CHECK(exact != NULL);
    memcpy(exact, data, size);
    (void)LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

static size_t mutate(uint8_t *data, size_t size) {
    static const uint8_t telling[] = {0,   1,   9,   10,  ' ', '"', '\'', '{', '}',  '[',  ']',  ',', ':',
                                      '0', '9', '-', 'e', '/', '+', ';',  '=', 0x7f, 0x80, 0xfe, 0xff};
    if (size == 0) return 0;
    const size_t at = draw(size), n = draw(size - at < 16 ? size - at : 16) + 1;
    switch (draw(6)) {
    case 0:
        data[at] ^= (uint8_t)(1u << draw(8));
        return size;
    case 1:
    case 2:
        data[at] = telling[draw(sizeof telling)];
        return size;
    case 3: /* cut out */
        memmove(data + at, data + at + n, size - at - n);
        return size - n;
    case 4: { /* double */
        if (size + n > MOST_BYTES) return size;
        memmove(data + at + n, data + at, size - at);
        return size + n;
    }
    default: { /* another seed's */
        const struct seed *s = &seeds[draw(seed_count)];
        if (s->size < n) return size;
        memcpy(data + at, s->data + draw(s->size - n + 1), n);
        return size;
    }
    }
}

int main(int argc, char **argv) {
    static uint8_t data[2 * MOST_BYTES];
    const long mutations = argc > 1 ? atol(argv[1]) : 0;
    if (argc != 3 || load(argv[2]) != 0) {
        fprintf(stderr, "usage: replay MUTATIONS SEEDS-DIRECTORY (with seeds in it)\n");
        return 2;
    }
    for (size_t i = 0; i < seed_count; i++) run(seeds[i].data, seeds[i].size);
    for (long i = 0; i < mutations; i++) {
        const struct seed *s = &seeds[draw(seed_count)];
        size_t size = s->size;
        memcpy(data, s->data, size);
        for (size_t k = draw(6) + 1; k > 0; k--) size = mutate(data, size);
        run(data, size);
    }
    printf("%zu seeds and %ld mutations\n", seed_count, mutations);
    return 0;
}
