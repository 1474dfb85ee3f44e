/* test_file.c - whole-file reading and writing: limits, failures that leave the old file. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../sim/base/file.h"

static char directory[64];

static const char *path_of(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static int enter(void **unused) {
    (void)unused;
    strcpy(directory, "/tmp/test_file.XXXXXX");
    return mkdtemp(directory) == NULL;
}

static int leave(void **unused) {
    (void)unused;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command);
}

static int entries(const char *path) {
    int n = 0;
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void expect(const char *path, const char *text) {
    char *data = NULL;
    size_t size = 0;
    assert_int_equal(fpl_file_read(path, 1 << 20, &data, &size, NULL), FPL_OK);
    assert_int_equal(size, strlen(text));
    assert_string_equal(data, text);
    free(data);
}

static void test_round_trip(void **unused) {
    (void)unused;
    const char *path = path_of("a");
    assert_int_equal(fpl_file_write(path, "one", 3, NULL), FPL_OK);
    expect(path, "one");
    assert_int_equal(fpl_file_write(path, "", 0, NULL), FPL_OK);
    expect(path, "");
    size_t size = 3000000, got = 0;
    char *large = malloc(size), *back = NULL;
    for (size_t i = 0; i < size; i++) large[i] = (char)(i * 7);
    assert_int_equal(fpl_file_write(path, large, size, NULL), FPL_OK);
    assert_int_equal(fpl_file_read(path, size, &back, &got, NULL), FPL_OK);
    assert_int_equal(got, size);
    assert_memory_equal(back, large, size);
    assert_int_equal(back[size], '\0');
    free(back);
    struct fpl_error err;
    assert_int_equal(fpl_file_read(path, size - 1, &back, &got, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "longer than"));
    free(large);
    /* Of unknown length: a device. */
    assert_int_equal(fpl_file_read("/dev/zero", 5000, &back, &got, &err), FPL_INVALID);
    assert_int_equal(fpl_file_read("/dev/null", 5000, &back, &got, &err), FPL_OK);
    assert_int_equal(got, 0);
    free(back);
    assert_int_equal(unlink(path), 0);
}

static void test_read_failures(void **unused) {
    (void)unused;
    char *data;
    size_t size;
    struct fpl_error err;
    assert_int_equal(fpl_file_read(path_of("missing"), 10, &data, &size, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "missing"));
    assert_int_equal(fpl_file_read(directory, 10, &data, &size, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "directory"));
}

static void test_mode_and_link(void **unused) {
    (void)unused;
    char target[300], name[300];
    struct stat st;
    snprintf(target, sizeof target, "%s", path_of("target"));
    snprintf(name, sizeof name, "%s", path_of("link"));
    assert_int_equal(fpl_file_write(target, "x", 1, NULL), FPL_OK);
    mode_t mask = umask(022);
    umask(mask);
    assert_int_equal(stat(target, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0666 & ~mask);
    assert_int_equal(chmod(target, 0640), 0);
    assert_int_equal(symlink("target", name), 0);
    assert_int_equal(fpl_file_write(name, "yy", 2, NULL), FPL_OK);
    assert_int_equal(lstat(name, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    expect(target, "yy");
    assert_int_equal(stat(target, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    assert_int_equal(entries(directory), 2);
    unlink(name);
    unlink(target);
}

static void test_dangling_links(void **unused) {
    (void)unused;
    char target[300], first[300], second[300], loop[300];
    struct fpl_error err = {FPL_OK, ""};
    struct stat st;
    snprintf(target, sizeof target, "%s", path_of("new"));
    snprintf(first, sizeof first, "%s", path_of("first"));
    snprintf(second, sizeof second, "%s", path_of("second"));
    snprintf(loop, sizeof loop, "%s", path_of("loop"));
    /* What the links end at is made; the links stay. One is relative, one absolute. */
    assert_int_equal(symlink(second, first), 0);
    assert_int_equal(symlink("new", second), 0);
    assert_int_equal(fpl_file_write(first, "made", 4, NULL), FPL_OK);
    assert_true(lstat(first, &st) == 0 && S_ISLNK(st.st_mode));
    assert_true(lstat(second, &st) == 0 && S_ISLNK(st.st_mode));
    assert_true(lstat(target, &st) == 0 && S_ISREG(st.st_mode));
    expect(target, "made");
    assert_int_equal(symlink("loop", loop), 0);
    assert_int_equal(fpl_file_write(loop, "x", 1, &err), FPL_SYSTEM);
    assert_non_null(strstr(err.text, strerror(ELOOP)));
    assert_int_equal(entries(directory), 4);
    unlink(target);
    unlink(first);
    unlink(second);
    unlink(loop);
}

static void test_writer(void **unused) {
    (void)unused;
    struct fpl_error err = {FPL_OK, ""};
    struct fpl_writer w;
    const char *path = path_of("pieces");
    assert_int_equal(fpl_file_write(path, "old", 3, NULL), FPL_OK);
    /* Out of order, and nothing of it to be seen before the end. */
    assert_int_equal(fpl_writer_open(&w, path, &err), FPL_OK);
    assert_int_equal(fpl_writer_put_at(&w, 3, "def", 3, &err), FPL_OK);
    assert_int_equal(fpl_writer_put(&w, "abc", 3, &err), FPL_OK);
    expect(path, "old");
    assert_int_equal(fpl_writer_commit(&w, &err), FPL_OK);
    expect(path, "abcdef");
    fpl_writer_abandon(&w); /* harmless now */
    assert_int_equal(fpl_writer_open(&w, path, &err), FPL_OK);
    assert_int_equal(fpl_writer_put(&w, "half", 4, &err), FPL_OK);
    assert_int_equal(fpl_writer_put_at(&w, UINT64_MAX, "x", 1, &err), FPL_SYSTEM);
    fpl_writer_abandon(&w);
    expect(path, "abcdef");
    assert_int_equal(entries(directory), 1);
    /* A device is written as it comes, in order only. */
    assert_int_equal(fpl_writer_open(&w, "/dev/null", &err), FPL_OK);
    assert_true(w.direct);
    assert_int_equal(fpl_writer_put(&w, "x", 1, &err), FPL_OK);
    assert_int_equal(fpl_writer_put_at(&w, 0, "x", 1, &err), FPL_SYSTEM);
    assert_int_equal(fpl_writer_commit(&w, &err), FPL_OK);
    unlink(path);
}

static void test_write_failures(void **unused) {
    (void)unused;
    struct fpl_error err = {FPL_OK, ""};
    assert_int_equal(fpl_file_write("/dev/full", "x", 1, &err), FPL_SYSTEM);
    assert_non_null(strstr(err.text, "No space left"));
    assert_int_equal(fpl_file_write(path_of("no/such/file"), "x", 1, &err), FPL_SYSTEM);
    assert_int_equal(fpl_file_write(directory, "x", 1, &err), FPL_INVALID);
    /* A disk that fills up half-way, by a limit on file sizes: the old file stays, nothing else. */
    const char *path = path_of("kept");
    assert_int_equal(fpl_file_write(path, "old", 3, NULL), FPL_OK);
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 1000;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    static const char zeros[5000];
    enum fpl_code code = fpl_file_write(path, zeros, sizeof zeros, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    assert_int_equal(code, FPL_SYSTEM);
    assert_non_null(strstr(err.text, "kept"));
    expect(path, "old");
    assert_int_equal(entries(directory), 1);
    unlink(path);
}

/* Permissions do not bind root, so an unprivileged child tries. */
static void test_read_only_directory(void **unused) {
    (void)unused;
    assert_int_equal(fpl_file_write(path_of("kept"), "old", 3, NULL), FPL_OK);
    assert_int_equal(chmod(directory, 0555), 0);
    pid_t child = fork();
    if (child == 0) {
        if (geteuid() == 0 && seteuid(65534) != 0) _exit(3);
        struct fpl_error err = {FPL_OK, ""};
        char made[300];
        snprintf(made, sizeof made, "%s", path_of("sub/dir"));
        int good =
            fpl_file_write(path_of("kept"), "new", 3, &err) == FPL_SYSTEM && strstr(err.text, "kept") != NULL;
        good = good && fpl_make_directory(made, &err) == FPL_SYSTEM && strstr(err.text, "sub/dir") != NULL;
        _exit(good ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    assert_int_equal(chmod(directory, 0755), 0);
    assert_int_equal(status, 0);
    expect(path_of("kept"), "old");
    unlink(path_of("kept"));
}

static void test_directories(void **unused) {
    (void)unused;
    struct fpl_error err;
    struct stat st;
    assert_int_equal(fpl_make_directory(path_of("a/b/c"), NULL), FPL_OK);
    assert_int_equal(fpl_make_directory(path_of("a/b/c/"), NULL), FPL_OK);
    assert_true(stat(path_of("a/b/c"), &st) == 0 && S_ISDIR(st.st_mode));
    assert_int_equal(fpl_file_write(path_of("a/file"), "", 0, NULL), FPL_OK);
    assert_int_equal(fpl_make_directory(path_of("a/file"), &err), FPL_INVALID);
    assert_int_equal(fpl_make_directory(path_of("a/file/b"), &err), FPL_INVALID);
    assert_int_equal(fpl_make_directory("", &err), FPL_INVALID);
    assert_int_equal(fpl_make_directory("/proc/no", &err), FPL_SYSTEM);
}

static void test_hash_and_text(void **unused) {
    (void)unused;
    char hex[33];
    fpl_hash_text("", 0, hex);
    assert_string_equal(hex, "99aa06d3014798d86001c324468d497f"); /* XXH3's published value */
    struct fpl_text t = {0};
    for (int i = 0; i < 1000; i++) fpl_text_add(&t, "%d,", i);
    fpl_text_append(&t, "\0z", 2);
    assert_int_equal(t.failed, 0);
    assert_int_equal(t.size, 10 * 2 + 90 * 3 + 900 * 4 + 2);
    assert_memory_equal(t.text, "0,1,2,3,", 8);
    assert_memory_equal(t.text + t.size - 2, "\0z", 3);
    fpl_text_free(&t);
    assert_null(t.text);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip),
                                       cmocka_unit_test(test_read_failures),
                                       cmocka_unit_test(test_mode_and_link),
                                       cmocka_unit_test(test_dangling_links),
                                       cmocka_unit_test(test_writer),
                                       cmocka_unit_test(test_write_failures),
                                       cmocka_unit_test(test_read_only_directory),
                                       cmocka_unit_test(test_directories),
                                       cmocka_unit_test(test_hash_and_text)};
    return cmocka_run_group_tests(tests, enter, leave);
}
