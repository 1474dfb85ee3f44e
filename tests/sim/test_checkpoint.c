/* Damaged, truncated and foreign checkpoints: one clear line, FPL_INVALID, the file kept.
 * Failures of the disk: FPL_SYSTEM, the old file kept. */
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "training.h"

#define CHECKSUM 16

static struct fpl_data *data;
static struct fpl_config config;
static char *path;  /* of a checkpoint after 6 of 12 steps */
static char *sound; /* its bytes */
static size_t sound_size;

static int set_up(void **state) {
    (void)state;
    struct fpl_record r;
    struct fpl_error err = {FPL_OK, ""};
    config = tiny();
    set(&config, "eval_every", "2");
    data = open_data(&config);
    path = fresh_path();
    assert_int_equal(train(&config, 1, data, path, 6, 1, &r, &err), FPL_STOPPED);
    fpl_record_free(&r);
    sound = read_whole(path, &sound_size);
    return 0;
}

static int take_down(void **state) {
    (void)state;
    forget_path(path);
    free(sound);
    fpl_data_close(data);
    return 0;
}

static void put(const void *bytes, size_t size) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

/* Going on from these bytes is refused with a line that names the path and `what`, and the
 * bytes stay. */
static void refused(const void *bytes, size_t size, const char *what) {
    struct fpl_record r;
    struct fpl_error err = {FPL_OK, ""};
    put(bytes, size);
    assert_int_equal(train(&config, 1, data, path, 0, 1, &r, &err), FPL_INVALID);
    if (strstr(err.text, what) == NULL || strncmp(err.text, path, strlen(path)) != 0)
        fail_msg("\"%s\" does not name %s and the file", err.text, what);
    assert_null(strchr(err.text, '\n'));
    assert_null(r.canonical);
    fpl_record_free(&r);
    size_t kept;
    char *after = read_whole(path, &kept);
    assert_int_equal(kept, size);
    assert_memory_equal(after, bytes, size);
    free(after);
}

static void truncated(void **state) {
    (void)state;
    uint64_t configurations, body;
    memcpy(&configurations, sound + 24, 8);
    memcpy(&body, sound + 32, 8);
    const size_t lengths[] = {0,
                              1,
                              7,
                              8,
                              9,
                              15,
                              16,
                              24,
                              40,
                              47,
                              48,
                              49,
                              63,
                              64,
                              65,
                              48 + configurations / 2,
                              48 + configurations,
                              48 + configurations + 8,
                              48 + configurations + body,
                              48 + configurations + body + 4,
                              sound_size / 2,
                              sound_size - CHECKSUM - 1,
                              sound_size - CHECKSUM,
                              sound_size - CHECKSUM + 1,
                              sound_size - 1};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) refused(sound, lengths[i], "truncated");
}

static void lengthened(void **state) {
    (void)state;
    char *longer = calloc(sound_size + 8, 1);
    memcpy(longer, sound, sound_size);
    refused(longer, sound_size + 1, "damaged");
    refused(longer, sound_size + 8, "damaged");
    free(longer);
}

static void one_flipped_bit(void **state) {
    (void)state;
    char *bad = malloc(sound_size);
    for (size_t at = 16; at < sound_size; at += at < 64 ? 1 : 1009) {
        memcpy(bad, sound, sound_size);
        bad[at] = (char)(bad[at] ^ (1 << (at % 8)));
        refused(bad, sound_size, "checkpoint");
    }
    memcpy(bad, sound, sound_size);
    bad[sound_size - 1] = (char)(bad[sound_size - 1] ^ 1);
    refused(bad, sound_size, "damaged");
    free(bad);
}

/* A file with a right checksum whose contents lie: a hostile or buggy writer. */
static void false_sizes_under_a_true_checksum(void **state) {
    (void)state;
    char *bad = malloc(sound_size);
    static const size_t fields[] = {24, 32, 40};
    static const uint64_t values[] = {0, 1, UINT64_MAX, UINT64_MAX / 12, (uint64_t)1 << 40};
    for (size_t f = 0; f < 3; f++)
        for (size_t v = 0; v < sizeof values / sizeof values[0]; v++) {
            memcpy(bad, sound, sound_size);
            memcpy(bad + fields[f], &values[v], 8);
            struct fpl_error err = {FPL_OK, ""};
            char hex[33];
            fpl_hash_text(bad, sound_size - CHECKSUM, hex);
            for (size_t i = 0; i < CHECKSUM; i++) {
                unsigned byte;
                sscanf(hex + 2 * i, "%2x", &byte);
                bad[sound_size - CHECKSUM + i] = (char)byte;
            }
            (void)err;
            refused(bad, sound_size, "damaged");
        }
    free(bad);
}

static void foreign(void **state) {
    (void)state;
    static const char text[] = "This is a letter to my aunt, about nothing in particular.\n";
    char *zeros = calloc(sound_size, 1);
    refused(text, sizeof text, "no fplaw checkpoint");
    refused(zeros, sound_size, "no fplaw checkpoint");
    refused("FPLCKP", 5, "truncated");
    refused("{}", 2, "no fplaw checkpoint");
    memcpy(zeros, sound, sound_size);
    zeros[8] = 9;
    refused(zeros, sound_size, "version 9");
    free(zeros);
}

static void another_configuration(void **state) {
    (void)state;
    static const char *const changes[][3] = {{"lr", "2e-2", "lr="},
                                             {"seed", "5", "seed=5"},
                                             {"steps", "13", "steps=13"},
                                             {"width", "32", "width=32"},
                                             {"recipe", "bf16", "recipe=bf16"},
                                             {"data_seed", "2", "data=lexicon:"},
                                             {"eval_every", "3", "eval_every=3"}};
    const struct fpl_config keep = config;
    struct fpl_data *const keep_data = data;
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        set(&config, changes[i][0], changes[i][1]);
        data = open_data(&config);
        refused(sound, sound_size, changes[i][2]);
        refused(sound, sound_size, "another configuration");
        fpl_data_close(data);
        data = keep_data;
        config = keep;
    }
    /* a pack goes on from one step only */
    struct fpl_config two[2] = {config, config};
    struct fpl_record r[2];
    struct fpl_error err = {FPL_OK, ""};
    two[1].seed++;
    put(sound, sound_size);
    assert_int_equal(train(two, 2, data, path, 0, 1, r, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "at step 6"));
}

static void the_sound_file_is_taken(void **state) {
    (void)state;
    put(sound, sound_size);
    struct fpl_record whole = train_one(&config, data, NULL), rest = train_one(&config, data, path);
    assert_same_run(&whole, &rest);
    fpl_record_free(&whole);
    fpl_record_free(&rest);
}

static void a_directory_that_is_not_there(void **state) {
    (void)state;
    struct fpl_record r;
    struct fpl_error err = {FPL_OK, ""};
    assert_int_equal(train(&config, 1, data, "/tmp/fplaw-nowhere/at/all/checkpoint.bin", 2, 1, &r, &err),
                     FPL_SYSTEM);
    assert_non_null(strstr(err.text, "/tmp/fplaw-nowhere"));
    assert_null(r.canonical);
}

static void a_path_that_is_a_directory(void **state) {
    (void)state;
    struct fpl_record r;
    struct fpl_error err = {FPL_OK, ""};
    assert_int_not_equal(train(&config, 1, data, "/tmp", 2, 1, &r, &err), FPL_OK);
    assert_non_null(strstr(err.text, "/tmp"));
}

/* A file-size limit stands for a full disk. */
static void a_full_disk_keeps_the_old_file(void **state) {
    (void)state;
    struct fpl_record r;
    struct fpl_error err = {FPL_OK, ""};
    struct rlimit keep, small = {0};
    put(sound, sound_size);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &keep), 0);
    small.rlim_cur = sound_size / 2;
    small.rlim_max = keep.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const enum fpl_code code = train(&config, 1, data, path, 9, 1, &r, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &keep), 0);
    assert_int_equal(code, FPL_SYSTEM);
    assert_non_null(strstr(err.text, path));
    fpl_record_free(&r);
    size_t size;
    char *after = read_whole(path, &size);
    assert_int_equal(size, sound_size);
    assert_memory_equal(after, sound, size);
    free(after);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(truncated),
                                       cmocka_unit_test(lengthened),
                                       cmocka_unit_test(one_flipped_bit),
                                       cmocka_unit_test(false_sizes_under_a_true_checksum),
                                       cmocka_unit_test(foreign),
                                       cmocka_unit_test(another_configuration),
                                       cmocka_unit_test(the_sound_file_is_taken),
                                       cmocka_unit_test(a_directory_that_is_not_there),
                                       cmocka_unit_test(a_path_that_is_a_directory),
                                       cmocka_unit_test(a_full_disk_keeps_the_old_file)};
    return cmocka_run_group_tests(tests, set_up, take_down);
}
