/* A token shard above 2 GiB: a sparse file of zeros with marks beyond the 2^31st byte, in the
 * part that is trained on and in the held-out tail. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../formats/random.h"
#include "../../sim/data/data.h"
#include "../../sim/data/permute.h"

#define COUNT (((int64_t)1 << 30) + 3 * ((int64_t)1 << 20) + ((int64_t)1 << 22))
enum { T = 1 << 20 };

static int put(int fd, int64_t token, unsigned value) {
    unsigned char bytes[2] = {(unsigned char)value, (unsigned char)(value >> 8)};
    return pwrite(fd, bytes, 2, 1024 + 2 * token) == 2;
}

/* A sparse shard; 0 where the file system has none. */
static int make_shard(const char *path, int64_t trained, int64_t held) {
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0) return 0;
    unsigned char header[12] = {0x88, 0xd8, 0x34, 0x01, 1};
    for (int i = 0; i < 4; i++) header[8 + i] = (unsigned char)(COUNT >> 8 * i);
    struct stat st;
    int done = pwrite(fd, header, 12, 0) == 12 && ftruncate(fd, 1024 + 2 * COUNT) == 0 &&
               put(fd, trained, 50000) && put(fd, held, 40000) && fstat(fd, &st) == 0 &&
               st.st_blocks < 1 << 16;
    close(fd);
    return done;
}

static void tokens_beyond_two_gib(void **state) {
    (void)state;
    char path[64], text[80];
    snprintf(path, sizeof path, "/tmp/fplaw-large-%ld", (long)getpid());
    /* Held out are the last 2^22 tokens. */
    int64_t trained = ((int64_t)1 << 30) + T + 77, tail = COUNT - ((int64_t)1 << 22), held = tail + 2 * T + 5;
    if (!make_shard(path, trained, held)) {
        unlink(path);
        skip();
    }
    snprintf(text, sizeof text, "tokens:%s", path);
    struct fpl_data *d = NULL;
    struct fpl_error err = {FPL_OK, ""};
    enum fpl_code code = fpl_data_open(text, T, 0, &d, &err);
    unlink(path);
    if (code != FPL_OK) fail_msg("%s", err.text);
    struct fpl_data_info info;
    fpl_data_info(d, &info);
    assert_int_equal(info.vocab, 50001);
    uint64_t chunks = (uint64_t)((tail - 1) / T), g = 0;
    assert_int_equal(info.train_tokens, (int64_t)chunks * T);
    while ((int64_t)fpl_permute(g, chunks, 3, 0, fpl_stream(FPL_STREAM_ORDER, 0)) != trained / T) g++;
    int32_t *in = malloc(T * sizeof *in), *out = malloc(T * sizeof *out);
    fpl_data_train(d, 3, (int64_t)g, 1, 0, 1, in, out);
    assert_int_equal(in[trained % T], 50000);
    assert_int_equal(out[trained % T - 1], 50000);
    int64_t found = 0;
    for (int64_t i = 0; fpl_data_held_out(d, i, 1, in, out, NULL) == 1; i++)
        found += in[(held - tail) % T] == 40000;
    assert_int_equal(found, 1);
    free(in);
    free(out);
    fpl_data_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(tokens_beyond_two_gib)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
