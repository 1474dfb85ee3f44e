/* test_yaml.c - the tree that is built, everything that is refused, and hostile input. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "../../sim/base/yaml.h"

static void test_tree(void **unused) {
    (void)unused;
    static const char text[] = "\xef\xbb\xbf# comment\n"
                               "name: demo # trailing\n"
                               "list: [1, 'two', \"th ree\"]\n"
                               "map:\n"
                               "  recipe: full:e2m1/1x32:e8m0\n"
                               "  empty:\n"
                               "  deep: [{a: [b]}]\n";
    struct fpl_yaml *root = NULL;
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_yaml_parse("t", text, strlen(text), &root, &err) != FPL_OK) fail_msg("%s", err.text);
    assert_int_equal(root->kind, FPL_YAML_MAP);
    assert_int_equal(root->count, 3);
    const struct fpl_yaml *name = fpl_yaml_get(root, "name"), *list = fpl_yaml_get(root, "list");
    assert_string_equal(name->text, "demo");
    assert_int_equal(name->line, 2);
    assert_int_equal(name->quoted, 0);
    assert_int_equal(list->kind, FPL_YAML_LIST);
    assert_int_equal(list->count, 3);
    assert_string_equal(list->item[1]->text, "two");
    assert_int_equal(list->item[1]->quoted, 1);
    assert_string_equal(list->item[2]->text, "th ree");
    const struct fpl_yaml *map = fpl_yaml_get(root, "map");
    assert_string_equal(fpl_yaml_get(map, "recipe")->text, "full:e2m1/1x32:e8m0");
    assert_string_equal(fpl_yaml_get(map, "empty")->text, "");
    const struct fpl_yaml *deep = fpl_yaml_get(map, "deep");
    assert_int_equal(deep->key_line, 7);
    assert_string_equal(deep->item[0]->item[0]->item[0]->text, "b");
    assert_null(fpl_yaml_get(root, "absent"));
    assert_null(fpl_yaml_get(list, "name"));
    assert_null(fpl_yaml_get(NULL, "name"));
    fpl_yaml_free(root);
}

static void expect_refusal(const char *text, size_t size, const char *part) {
    struct fpl_yaml *root = (struct fpl_yaml *)(uintptr_t)1;
    struct fpl_error err = {FPL_OK, ""};
    assert_int_equal(fpl_yaml_parse("t.yaml", text, size, &root, &err), FPL_INVALID);
    assert_null(root);
    if (strstr(err.text, part) == NULL) fail_msg("'%s' lacks '%s'", err.text, part);
    assert_null(strchr(err.text, '\n'));
}

static void test_refused(void **unused) {
    (void)unused;
    static const char *const cases[][2] = {
        {"a: 1\nb: 2\na: 3\n", "t.yaml:3: key 'a' is given twice, first in line 1"},
        {"x: {a: 1, a: 1}\n", "t.yaml:1: key 'a' is given twice"},
        {"a: &x 1\nb: *x\n", "t.yaml:1: anchors"},
        {"a: &x [1]\n", "anchors"},
        {"a: &x {b: 1}\n", "anchors"},
        {"b: *x\n", "aliases"},
        {"a: !!str 1\n", "tags"},
        {"a: !!map {}\n", "tags"},
        {"a: 1\n---\nb: 1\n", "t.yaml:2: a second document"},
        {"[a]: 1\n", "a key must be plain text"},
        {"? {a: 1}\n: 2\n", "a key must be plain text"},
        {"a: 'x\n", "not YAML"},
        {"a:\n\t- 1\n", "t.yaml:2: not YAML"},
        {"a: [1\n", "not YAML"},
        {"a: b: c\n", "not YAML"},
        {"a: \"\\0\"\n", "zero byte"},
        {"", "is empty"},
        {"# nothing\n", "is empty"},
        {"a: \xff\n", "not UTF-8"},
        {"a: \xed\xa0\x80\n", "not UTF-8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refusal(cases[i][0], strlen(cases[i][0]), cases[i][1]);
    expect_refusal("a: \0b\n", 6, "t.yaml");
}

/* n times `unit`: refused at once, not after minutes or with a blown stack. */
static void check_deep(const char *unit, int n, const char *part) {
    size_t each = strlen(unit), size = each * (size_t)n;
    char *text = malloc(size + 1);
    for (int i = 0; i < n; i++) memcpy(text + each * (size_t)i, unit, each);
    clock_t begun = clock();
    expect_refusal(text, size, part);
    assert_true(clock() - begun < 2 * CLOCKS_PER_SEC);
    free(text);
}

static void test_deep(void **unused) {
    (void)unused;
    check_deep("[", 100000, "t.yaml:1: lists and maps are nested more than 32 deep");
    check_deep("{a: ", 100000, "nested more than 32 deep");
    check_deep("- ", 100000, "nested more than 32 deep");
    check_deep("[\n", 100000, "nested more than 32 deep");
    check_deep("{", 100000, "a key must be plain text");
    check_deep("? ", 100000, "a key must be plain text");
    check_deep("a: 1\n", 300000, "longer than the 1000000 bytes");
    check_deep("a: 1\n", 150000, "given twice");
    /* 32 levels are accepted. */
    char text[80];
    memset(text, '[', 32);
    memset(text + 32, ']', 32);
    struct fpl_yaml *root = NULL;
    assert_int_equal(fpl_yaml_parse("t", text, 64, &root, NULL), FPL_OK);
    fpl_yaml_free(root);
    memset(text, '[', 33);
    memset(text + 33, ']', 33);
    expect_refusal(text, 66, "32 deep");
}

/* 180,000 distinct keys: sorting, not comparing all pairs. */
static void test_many_keys(void **unused) {
    (void)unused;
    char *text = malloc(1000000);
    size_t size = 0;
    int n = 0;
    while (size < 990000) size += (size_t)sprintf(text + size, "k%x:\n", n++);
    struct fpl_yaml *root = NULL;
    clock_t begun = clock();
    assert_int_equal(fpl_yaml_parse("t", text, size, &root, NULL), FPL_OK);
    assert_true(clock() - begun < 5 * CLOCKS_PER_SEC);
    assert_int_equal(root->count, n);
    fpl_yaml_free(root);
    free(text);
}

/* Damaged text is either read or refused; the sanitizers watch. */
static void test_damaged(void **unused) {
    (void)unused;
    static const char sample[] =
        "name: x\nstages:\n  - {name: a, grid: {lr: [1e-3, 2e-3]}}\n  - name: \"b\"\n"
        "    zip:\n      tokens: [1M, 2M]\n      width: [16, 32]\n";
    static const char alphabet[] = "[]{}:,-?&*!|>'\"%@` \n\t#a1\\\xff";
    uint64_t state = 7;
    int read = 0;
    for (int i = 0; i < 3000; i++) {
        char text[sizeof sample];
        memcpy(text, sample, sizeof sample);
        for (int k = 0; k < 1 + i % 4; k++) {
            state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            text[(state >> 33) % (sizeof sample - 1)] = alphabet[(state >> 20) % (sizeof alphabet - 1)];
        }
        struct fpl_yaml *root = NULL;
        struct fpl_error err = {FPL_OK, ""};
        enum fpl_code code = fpl_yaml_parse("t", text, sizeof sample - 1, &root, &err);
        assert_true(code == FPL_OK ? root != NULL
                                   : code == FPL_INVALID && root == NULL && err.text[0] != '\0');
        read += code == FPL_OK;
        fpl_yaml_free(root);
    }
    assert_true(read > 0 && read < 3000);
}

static void test_files(void **unused) {
    (void)unused;
    struct fpl_yaml *root = NULL;
    struct fpl_error err = {FPL_OK, ""};
    assert_int_equal(fpl_yaml_read("/no/such/file.yaml", &root, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "/no/such/file.yaml"));
    assert_int_equal(fpl_yaml_read("/tmp", &root, &err), FPL_INVALID);
    assert_int_equal(fpl_yaml_read("/dev/zero", &root, &err), FPL_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tree),    cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_deep),    cmocka_unit_test(test_many_keys),
                                       cmocka_unit_test(test_damaged), cmocka_unit_test(test_files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
