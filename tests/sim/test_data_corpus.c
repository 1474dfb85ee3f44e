/* The sources that read files (bytes, tokens) and the writer of token shards.
 *
 * Most tests use a shard whose token at position p is p itself (n <= 65536), so that a
 * sequence says where it was cut.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../formats/random.h"
#include "../../sim/data/data.h"
#include "../../sim/data/permute.h"

static char directory[] = "/tmp/fplaw-data-XXXXXX";

static char *in_directory(const char *name) {
    static char paths[8][320];
    static int turn;
    char *path = paths[turn++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

static char *spec(const char *format, ...) FPL_PRINTF(1, 2);
static char *spec(const char *format, ...) {
    static char text[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return text;
}

static void write_file(const char *path, const void *data, size_t size) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static void put32(unsigned char *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (unsigned char)(v >> 8 * i);
}

/* A shard of tokens begin, begin + 1, ...; header words and a cut or a tail can be wrong. */
static char *write_shard(const char *name, int begin, int count, uint32_t magic, uint32_t version,
                         uint32_t claimed, long extra) {
    size_t size = (size_t)(1024 + 2 * count + extra);
    unsigned char *bytes = calloc(1, 1024 + 2 * (size_t)count + 16);
    put32(bytes, magic);
    put32(bytes + 4, version);
    put32(bytes + 8, claimed);
    for (int i = 0; i < count; i++) {
        bytes[1024 + 2 * i] = (unsigned char)(begin + i);
        bytes[1025 + 2 * i] = (unsigned char)((begin + i) >> 8);
    }
    char *path = in_directory(name);
    write_file(path, bytes, size);
    free(bytes);
    return path;
}

static char *ramp(const char *name, int begin, int count) {
    return write_shard(name, begin, count, 20240520, 1, (uint32_t)count, 0);
}

static struct fpl_data *open_data(const char *text, int64_t T, uint64_t seed) {
    struct fpl_data *d = NULL;
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_data_open(text, T, seed, &d, &err) != FPL_OK) fail_msg("%s: %s", text, err.text);
    return d;
}

static void check_refused(const char *text, int64_t T, enum fpl_code code, const char *says) {
    struct fpl_data *d = NULL;
    struct fpl_error err = {FPL_OK, ""};
    assert_int_equal(fpl_data_open(text, T, 0, &d, &err), code);
    assert_null(d);
    if (strstr(err.text, says) == NULL) fail_msg("%s gave '%s', expected '%s'", text, err.text, says);
    assert_null(strchr(err.text, '\n'));
}

/* ---- permutation ----------------------------------------------------------------------------- */

static void permutation_is_a_bijection(void **state) {
    (void)state;
    static unsigned char seen[5000];
    for (uint64_t n = 1; n < 5000; n = n < 40 ? n + 1 : n * 2 + 1)
        for (uint64_t seed = 0; seed < 2; seed++) {
            memset(seen, 0, sizeof seen);
            uint64_t fixed = 0;
            for (uint64_t i = 0; i < n; i++) {
                uint64_t j = fpl_permute(i, n, seed, 3, fpl_stream(FPL_STREAM_TEST, 0));
                assert_true(j < n);
                assert_int_equal(seen[j]++, 0);
                fixed += j == i;
            }
            /* a random permutation has 1 +- 1 fixed points */
            if (n >= 100) assert_true(fixed < 9);
        }
    uint64_t large = (UINT64_C(1) << 40) + 12345;
    assert_true(fpl_permute(large - 1, large, 1, 0, fpl_stream(FPL_STREAM_TEST, 0)) < large);
}

/* ---- order of training and held-out data ------------------------------------------------------- */

/* The chunk of a sequence of a ramp, after checking that it is one run of tokens. */
static int64_t chunk_of(const int32_t *in, const int32_t *out, int64_t T) {
    for (int64_t t = 0; t < T; t++) {
        assert_int_equal(in[t], in[0] + t);
        assert_int_equal(out[t], in[0] + t + 1);
    }
    return in[0] / T;
}

static void an_epoch_takes_every_chunk_once(void **state) {
    (void)state;
    enum { N = 50000, T = 50, B = 7 };
    struct fpl_data *d = open_data(spec("tokens:%s", ramp("epoch", 0, N)), T, 4);
    struct fpl_data_info info;
    fpl_data_info(d, &info);
    assert_int_equal(info.vocab, N);
    assert_true(isnan(info.entropy_rate));
    assert_true(fabs(info.unigram_entropy - log(N)) < 1e-10);
    int64_t held = N / 20, train = N - held, chunks = (train - 1) / T;
    assert_int_equal(info.train_tokens, chunks * T);
    assert_int_equal(info.held_tokens, (held - 1) / T * T);
    int32_t in[T], out[T];
    int64_t *order[2] = {calloc((size_t)chunks, 8), calloc((size_t)chunks, 8)}, same = 0;
    unsigned char *seen = malloc((size_t)chunks);
    for (int64_t g = 0; g < 2 * chunks; g++) {
        if (g % chunks == 0) memset(seen, 0, (size_t)chunks);
        fpl_data_train(d, 21, g / B, B, g % B, 1, in, out);
        int64_t k = chunk_of(in, out, T);
        assert_int_equal(in[0] % T, 0);
        assert_true(k < chunks && out[T - 1] < train);
        assert_int_equal(seen[k]++, 0);
        order[g / chunks][g % chunks] = k;
    }
    for (int64_t g = 0; g < chunks; g++) same += order[0][g] == order[1][g];
    assert_true(same < 12); /* the next epoch has another order: 1 +- 1 agreements by chance */
    same = 0;
    for (int64_t g = 0; g < chunks; g++) {
        fpl_data_train(d, 22, g / B, B, g % B, 1, in, out);
        same += chunk_of(in, out, T) == order[0][g];
    }
    assert_true(same < 12); /* and so has another seed */
    free(order[0]);
    free(order[1]);
    free(seen);
    fpl_data_close(d);
}

static void held_out_is_the_tail(void **state) {
    (void)state;
    enum { N = 50000, T = 32 };
    struct fpl_data *d = open_data(spec("tokens:%s", ramp("tail", 0, N)), T, 4);
    struct fpl_data *e = open_data(spec("tokens:%s", in_directory("tail")), T, 5);
    struct fpl_data_info info;
    fpl_data_info(d, &info);
    int64_t chunks = info.held_tokens / T, first = N - N / 20, agree = 0;
    int32_t *in = malloc((size_t)chunks * T * 4), *out = malloc((size_t)chunks * T * 4), one[T], next[T];
    double *oracle = malloc((size_t)chunks * 8);
    unsigned char *seen = calloc((size_t)chunks, 1);
    assert_int_equal(fpl_data_held_out(d, 0, chunks + 10, in, out, oracle), chunks);
    for (int64_t i = 0; i < chunks; i++) {
        chunk_of(in + i * T, out + i * T, T);
        int64_t k = (in[i * T] - first) / T;
        assert_true(in[i * T] >= first && (in[i * T] - first) % T == 0 && k < chunks);
        assert_int_equal(seen[k]++, 0);
        assert_true(isnan(oracle[i]));
        assert_int_equal(fpl_data_held_out(d, i, 1, one, next, NULL), 1);
        assert_memory_equal(one, in + i * T, sizeof one);
        assert_int_equal(fpl_data_held_out(e, i, 1, one, next, NULL), 1);
        agree += one[0] == in[i * T];
    }
    assert_true(agree < 12); /* data_seed orders it */
    assert_int_equal(fpl_data_held_out(d, chunks, 5, in, out, NULL), 0);
    assert_int_equal(fpl_data_held_out(d, chunks + 99, 5, in, out, NULL), 0);
    assert_int_equal(fpl_data_held_out(d, chunks - 2, 5, in, out, NULL), 2);
    free(in);
    free(out);
    free(oracle);
    free(seen);
    fpl_data_close(d);
    fpl_data_close(e);
}

static void batches_split_anywhere(void **state) {
    (void)state;
    enum { T = 16, B = 24 };
    struct fpl_data *d = open_data(spec("tokens:%s", ramp("split", 0, 9000)), T, 0);
    static int32_t in[B * T], out[B * T], in2[B * T], out2[B * T];
    fpl_data_train(d, 3, 5, B, 0, B, in, out);
    for (int64_t first = B - 8; first >= 0; first -= 8)
        fpl_data_train(d, 3, 5, B, first, 8, in2 + first * T, out2 + first * T);
    assert_memory_equal(in, in2, sizeof in);
    assert_memory_equal(out, out2, sizeof out);
    /* The same positions, whatever batch counts them. */
    fpl_data_train(d, 3, 10, B / 2, 0, B / 2, in2, out2);
    assert_memory_equal(in, in2, sizeof in / 2);
    fpl_data_close(d);
}

/* One stream, however it is cut into files: identity and sequences. */
static void files_are_one_stream(void **state) {
    (void)state;
    enum { T = 64, B = 100 };
    static int32_t in[2][B * T], out[2][B * T];
    struct fpl_data_info info[2];
    ramp("whole", 0, 8000);
    char a[256], b[256], c[256];
    snprintf(a, sizeof a, "%s", ramp("a", 0, 37));
    snprintf(b, sizeof b, "%s", ramp("b", 37, 1));
    snprintf(c, sizeof c, "%s", ramp("c", 38, 8000 - 38));
    for (int k = 0; k < 2; k++) {
        struct fpl_data *d = k == 0 ? open_data(spec("tokens:%s", in_directory("whole")), T, 1)
                                    : open_data(spec("tokens:%s:%s:%s", a, b, c), T, 1);
        fpl_data_info(d, &info[k]);
        fpl_data_train(d, 6, 0, B, 0, B, in[k], out[k]);
        for (int64_t i = 0; i < B; i++) chunk_of(in[k] + i * T, out[k] + i * T, T);
        fpl_data_close(d);
    }
    assert_string_equal(info[0].fingerprint, info[1].fingerprint);
    assert_memory_equal(in[0], in[1], sizeof in[0]);
    assert_memory_equal(out[0], out[1], sizeof out[0]);
    struct fpl_data *d = open_data(spec("tokens:vocab=10000,%s", in_directory("whole")), T, 1);
    fpl_data_info(d, &info[1]);
    fpl_data_close(d);
    assert_int_equal(info[1].vocab, 10000);
    assert_string_not_equal(info[0].fingerprint, info[1].fingerprint);
    ramp("whole", 1, 8000);
    d = open_data(spec("tokens:vocab=10000,%s", in_directory("whole")), T, 1);
    fpl_data_info(d, &info[0]);
    fpl_data_close(d);
    assert_string_not_equal(info[0].fingerprint, info[1].fingerprint);
}

static void bytes_are_bytes(void **state) {
    (void)state;
    enum { N = 5000, T = 100 };
    unsigned char text[N];
    double count[256] = {0}, entropy = 0.0;
    for (int i = 0; i < N; i++) text[i] = (unsigned char)(i * i / 7), count[text[i]]++;
    for (int i = 0; i < 256; i++)
        if (count[i] > 0) entropy -= count[i] / N * log(count[i] / N);
    write_file(in_directory("text"), text, N);
    struct fpl_data *d = open_data(spec("bytes:%s", in_directory("text")), T, 0);
    struct fpl_data_info info;
    fpl_data_info(d, &info);
    assert_int_equal(info.vocab, 256);
    assert_true(fabs(info.unigram_entropy - entropy) < 1e-12);
    assert_int_equal(info.train_tokens, (N - N / 20 - 1) / T * T);
    assert_int_equal(strncmp(info.fingerprint, "bytes:", 6), 0);
    int32_t in[T], out[T];
    uint64_t chunks = (uint64_t)(info.train_tokens / T);
    for (int64_t i = 0; i < 2 * (int64_t)chunks; i++) {
        fpl_data_train(d, 8, i, 1, 0, 1, in, out);
        size_t at = T * fpl_permute((uint64_t)i % chunks, chunks, 8, (uint32_t)((uint64_t)i / chunks),
                                    fpl_stream(FPL_STREAM_ORDER, 0));
        for (size_t t = 0; t < T; t++) {
            assert_int_equal(in[t], text[at + t]);
            assert_int_equal(out[t], text[at + t + 1]);
        }
    }
    fpl_data_close(d);
}

/* The least that holds a sequence of each kind. */
static void smallest_corpus(void **state) {
    (void)state;
    struct fpl_data *d = open_data(spec("tokens:%s", ramp("least", 0, 22)), 10, 0);
    struct fpl_data_info info;
    fpl_data_info(d, &info);
    assert_true(info.train_tokens == 10 && info.held_tokens == 10);
    int32_t in[10], out[10];
    fpl_data_train(d, 0, 5, 3, 2, 1, in, out);
    assert_true(in[0] == 0 && out[9] == 10);
    assert_int_equal(fpl_data_held_out(d, 0, 4, in, out, NULL), 1);
    assert_true(in[0] == 11 && out[9] == 21);
    fpl_data_close(d);
    check_refused(spec("tokens:%s", ramp("less", 0, 21)), 10, FPL_INVALID, "need at least 22");
}

/* ---- bad input ---------------------------------------------------------------------------------- */

static void bad_files_are_refused(void **state) {
    (void)state;
    check_refused("bytes", 8, FPL_INVALID, "names no file");
    check_refused("bytes:", 8, FPL_INVALID, "names no file");
    check_refused("tokens:vocab=100", 8, FPL_INVALID, "names no file");
    check_refused("tokens:vocab=1,x", 8, FPL_INVALID, "2 to 65536");
    check_refused("tokens:vocab=many,x", 8, FPL_INVALID, "vocab=many");
    check_refused(spec("bytes:%s/missing", directory), 8, FPL_INVALID, "cannot be opened");
    check_refused(spec("bytes:%s", directory), 8, FPL_INVALID, "is a directory");
    check_refused("bytes:/dev/zero", 8, FPL_INVALID, "device or a pipe");
    assert_int_equal(mkfifo(in_directory("pipe"), 0600), 0);
    check_refused(spec("bytes:%s", in_directory("pipe")), 8, FPL_INVALID, "device or a pipe");
    write_file(in_directory("empty"), "", 0);
    check_refused(spec("bytes:%s", in_directory("empty")), 8, FPL_INVALID, "is empty");
    write_file(in_directory("short"), "seventeen letters", 17);
    check_refused(spec("bytes:%s", in_directory("short")), 8, FPL_INVALID, "17 tokens");
    check_refused(spec("bytes:%s:", in_directory("short")), 8, FPL_INVALID, "empty file name");
    check_refused(spec("bytes::%s", in_directory("short")), 8, FPL_INVALID, "empty file name");
    check_refused(spec("tokens:%s", in_directory("short")), 8, FPL_INVALID, "not a token shard: 17 bytes");
    check_refused(spec("tokens:%s", write_shard("magic", 0, 99, 20240801, 7, 99, 0)), 8, FPL_INVALID,
                  "begins with 20240801");
    check_refused(spec("tokens:%s", write_shard("version", 0, 99, 20240520, 2, 99, 0)), 8, FPL_INVALID,
                  "version 2");
    check_refused(spec("tokens:%s", write_shard("cut", 0, 99, 20240520, 1, 99, -1)), 8, FPL_INVALID,
                  "truncated");
    check_refused(spec("tokens:%s", write_shard("tail", 0, 99, 20240520, 1, 99, 2)), 8, FPL_INVALID,
                  "overlong");
    check_refused(spec("tokens:%s", write_shard("claim", 0, 99, 20240520, 1, UINT32_MAX, 0)), 8, FPL_INVALID,
                  "truncated");
    check_refused(spec("tokens:%s", write_shard("none", 0, 0, 20240520, 1, 0, 0)), 8, FPL_INVALID,
                  "without tokens");
    ramp("good", 0, 200);
    check_refused(spec("tokens:vocab=150,%s", in_directory("good")), 8, FPL_INVALID,
                  "token 150 (counted from 0) is 150; accepted is below 150");
    check_refused(spec("tokens:%s:%s", in_directory("good"), in_directory("magic")), 8, FPL_INVALID,
                  "/magic");
    fpl_data_close(open_data(spec("tokens:vocab=200,%s", in_directory("good")), 8, 0));
    assert_int_equal(chmod(in_directory("good"), 0), 0);
    if (geteuid() != 0)
        check_refused(spec("tokens:%s", in_directory("good")), 8, FPL_SYSTEM, "cannot be opened");
}

/* ---- writing shards -------------------------------------------------------------------------------- */

static int entries(void) {
    DIR *d = opendir(directory);
    assert_non_null(d);
    int n = 0;
    while (readdir(d) != NULL) n++;
    closedir(d);
    return n;
}

static void text_becomes_a_shard(void **state) {
    (void)state;
    enum { N = 70001, T = 50 };
    unsigned char *text = malloc(N);
    for (int i = 0; i < N; i++) text[i] = (unsigned char)(i * 31 ^ i >> 5);
    text[17] = 255;
    char first[256], second[256], out[256];
    snprintf(first, sizeof first, "%s", in_directory("first"));
    snprintf(second, sizeof second, "%s", in_directory("second"));
    snprintf(out, sizeof out, "%s", in_directory("shard"));
    write_file(first, text, 123);
    write_file(second, text + 123, 60000);
    /* the rest through a pipe */
    int ends[2], saved = dup(STDIN_FILENO);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], text + 60123, N - 60123), N - 60123);
    close(ends[1]);
    assert_int_equal(dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
    close(ends[0]);
    struct fpl_error err = {FPL_OK, ""};
    const char *const files[] = {first, second, "-"};
    assert_int_equal(fpl_data_tokenize_bytes(files, 3, out, NULL, &err), FPL_OK);
    dup2(saved, STDIN_FILENO);
    close(saved);
    struct stat st;
    assert_int_equal(stat(out, &st), 0);
    assert_int_equal(st.st_size, 1024 + 2 * N);
    mode_t mask = umask(0);
    umask(mask);
    assert_int_equal(st.st_mode & 0777, 0666 & ~mask);
    FILE *f = fopen(out, "rb");
    unsigned char *bytes = malloc(1024 + 2 * N);
    assert_int_equal(fread(bytes, 1, 1024 + 2 * N, f), 1024 + 2 * N);
    fclose(f);
    static const unsigned char header[12] = {0x88, 0xd8, 0x34,    0x01,         1,       0,
                                             0,    0,    N & 255, N >> 8 & 255, N >> 16, 0};
    assert_memory_equal(bytes, header, 12);
    for (int i = 12; i < 1024; i++) assert_int_equal(bytes[i], 0);
    for (int i = 0; i < N; i++) assert_true(bytes[1024 + 2 * i] == text[i] && bytes[1025 + 2 * i] == 0);
    /* The same sequences as from the bytes themselves. */
    write_file(first, text, N);
    struct fpl_data *a = open_data(spec("tokens:%s", out), T, 2),
                    *b = open_data(spec("bytes:%s", first), T, 2);
    struct fpl_data_info ia, ib;
    fpl_data_info(a, &ia);
    fpl_data_info(b, &ib);
    assert_true(ia.vocab == 256 && ia.unigram_entropy == ib.unigram_entropy);
    static int32_t in[2][40 * T], target[2][40 * T];
    fpl_data_train(a, 1, 2, 40, 0, 40, in[0], target[0]);
    fpl_data_train(b, 1, 2, 40, 0, 40, in[1], target[1]);
    assert_memory_equal(in[0], in[1], sizeof in[0]);
    assert_memory_equal(target[0], target[1], sizeof target[0]);
    fpl_data_close(a);
    fpl_data_close(b);
    free(text);
    free(bytes);
}

static void check_unwritten(const char *const *files, int count, const char *out, enum fpl_code code,
                            const char *says) {
    struct fpl_error err = {FPL_OK, ""};
    int before = entries();
    assert_int_equal(fpl_data_tokenize_bytes(files, count, out, NULL, &err), code);
    if (strstr(err.text, says) == NULL) fail_msg("%s: '%s', expected '%s'", out, err.text, says);
    assert_int_equal(entries(), before); /* no temporary file stays */
}

static void shards_are_whole_or_not_at_all(void **state) {
    (void)state;
    char text[256], old[256], empty[256], missing[256];
    snprintf(text, sizeof text, "%s", in_directory("text"));
    snprintf(old, sizeof old, "%s", in_directory("old"));
    snprintf(empty, sizeof empty, "%s", in_directory("nothing"));
    snprintf(missing, sizeof missing, "%s", in_directory("missing"));
    char *filler = calloc(1, 200000);
    write_file(text, filler, 200000);
    write_file(empty, "", 0);
    write_file(old, "kept", 4);
    const char *const one[] = {text}, *const gone[] = {text, missing}, *const none[] = {empty},
                      *const folder[] = {directory}, *const twice[] = {"-", "-"};
    check_unwritten(gone, 2, old, FPL_INVALID, "missing: cannot be opened");
    check_unwritten(none, 1, old, FPL_INVALID, "texts are empty");
    check_unwritten(folder, 1, old, FPL_INVALID, "cannot be read");
    check_unwritten(twice, 2, old, FPL_INVALID, "only once");
    check_unwritten(one, 1, directory, FPL_INVALID, "a file name is expected");
    check_unwritten(one, 1, "-", FPL_INVALID, "a file name is expected");
    check_unwritten(one, 1, "/dev/full", FPL_INVALID, "a file name is expected");
    check_unwritten(one, 1, spec("%s/no/where", directory), FPL_SYSTEM, "cannot be written");
    /* A full disk, played by a limit on the size of files. */
    struct rlimit limit, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small = limit;
    small.rlim_cur = 100000;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    check_unwritten(one, 1, old, FPL_SYSTEM, "cannot be written");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    char kept[5] = {0};
    FILE *f = fopen(old, "rb");
    assert_int_equal(fread(kept, 1, 5, f), 4);
    fclose(f);
    assert_string_equal(kept, "kept");
    /* A link is written through. */
    char link[256];
    snprintf(link, sizeof link, "%s", in_directory("link"));
    assert_int_equal(symlink("old", link), 0);
    struct fpl_error err = {FPL_OK, ""};
    struct stat st;
    assert_int_equal(fpl_data_tokenize_bytes(one, 1, link, NULL, &err), FPL_OK);
    assert_true(lstat(link, &st) == 0 && S_ISLNK(st.st_mode));
    assert_true(stat(old, &st) == 0 && st.st_size == 401024);
    free(filler);
}

/* ---- scaffolding ----------------------------------------------------------------------------------- */

static int make_directory(void **state) {
    (void)state;
    return mkdtemp(directory) == NULL;
}

static int remove_directory(void **state) {
    (void)state;
    DIR *d = opendir(directory);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.') unlink(in_directory(e->d_name));
    closedir(d);
    return rmdir(directory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(permutation_is_a_bijection),
        cmocka_unit_test(an_epoch_takes_every_chunk_once),
        cmocka_unit_test(held_out_is_the_tail),
        cmocka_unit_test(batches_split_anywhere),
        cmocka_unit_test(files_are_one_stream),
        cmocka_unit_test(bytes_are_bytes),
        cmocka_unit_test(smallest_corpus),
        cmocka_unit_test(bad_files_are_refused),
        cmocka_unit_test(text_becomes_a_shard),
        cmocka_unit_test(shards_are_whole_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
