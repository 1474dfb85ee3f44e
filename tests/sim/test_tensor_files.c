/* test_tensor_files.c - containers in memory: what is read, what is refused and why, and the
 * float types against definitions written in double.  The hostile headers of tests/fuzz/seeds
 * are run there; here each refusal's reason is checked. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../formats/round.h"
#include "../../sim/tensor/tensor.h"

static struct fpl_error err;

/* A .safetensors file of a header and so many zero bytes of data. */
static size_t safetensors(const char *header, size_t data, uint8_t *out) {
    const size_t n = strlen(header);
    memset(out, 0, 8 + n + data);
    for (int i = 0; i < 8; i++) out[i] = (uint8_t)(n >> 8 * i);
    memcpy(out + 8, header, n);
    return 8 + n + data;
}

static void refused(const char *header, size_t data, const char *why) {
    static uint8_t file[1 << 16];
    struct fpl_container c;
    const size_t size = safetensors(header, data, file);
    if (fpl_container_parse(&c, "f.safetensors", file, size, -1, &err) != FPL_INVALID)
        fail_msg("accepted: %s", header);
    if (strstr(err.text, why) == NULL) fail_msg("'%s' lacks '%s'", err.text, why);
    if (strstr(err.text, "f.safetensors") == NULL) fail_msg("'%s' names no file", err.text);
}

#define ONE(dtype, shape, offsets)                                                                           \
    "{\"a\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static void test_safetensors_refusals(void **unused) {
    (void)unused;
    refused("[]", 0, "does not begin with a brace");
    refused("{", 0, "byte");
    refused("{\"a\":1}", 0, "no dtype");
    refused(ONE("F32", "[1]", "[0,4,8]"), 4, "no data_offsets");
    refused(ONE("F99", "[1]", "[0,4]"), 4, "dtype 'F99' is not known");
    refused(ONE("F32", "3", "[0,4]"), 4, "no shape");
    refused(ONE("F32", "[-1]", "[0,4]"), 4, "lengths of 0 or more");
    refused(ONE("F32", "[1.5]", "[0,4]"), 4, "lengths of 0 or more");
    refused(ONE("F32", "[4294967296,4294967296]", "[0,4]"), 4, "overflows");
    refused(ONE("F64", "[2305843009213693952]", "[0,0]"), 0, "does not take");
    refused(ONE("F32", "[2]", "[0,4]"), 4, "does not take");
    refused(ONE("F4", "[3]", "[0,2]"), 2, "does not take");
    refused(ONE("F32", "[1]", "[4,0]"), 4, "do not lie in");
    refused(ONE("F32", "[1]", "[-4,0]"), 4, "do not lie in");
    refused(ONE("F32", "[2]", "[0,8]"), 4, "do not lie in");
    refused(ONE("F32", "[1]", "[9223372036854775807,9223372036854775807]"), 4, "do not lie in");
    refused(ONE("F32", "[99999999999999999999]", "[0,4]"), 4, "byte");
    refused(ONE("F32", "[1]", "[4,8]"), 8, "gap");
    refused(ONE("F32", "[1]", "[0,4]"), 8, "belong to none");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
            "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[2,6]}}",
            6, "overlaps");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},"
            "\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}",
            0, "duplicate");
    refused("{\"\xff\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0,
            "unable to decode byte");
    refused("{\"__metadata__\":{\"a\":1}}", 0, "is no string");
    char deep[9000] = "{\"a\":";
    memset(deep + 5, '[', 4000);
    refused(deep, 0, "depth");

    uint8_t file[64];
    struct fpl_container c;
    (void)safetensors("{}", 0, file);
    file[5] = 1; /* 2^40 and 2 bytes */
    assert_int_equal(fpl_container_parse(&c, "f.safetensors", file, 10, -1, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "at most 100000000"));
    file[5] = 0;
    file[0] = 3;
    assert_int_equal(fpl_container_parse(&c, "f.safetensors", file, 10, -1, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "truncated"));
    assert_int_equal(fpl_container_parse(&c, "f.safetensors", file, 7, -1, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "too few"));
}

static void test_safetensors_reading(void **unused) {
    (void)unused;
    static uint8_t file[4096];
    struct fpl_container c;
    float x[4];
    /* Out of order, odd offsets, a dtype that is only carried along, an empty tensor. */
    const char *header = "{\"__metadata__\":{\"format\":\"pt\"},"
                         "\"w\":{\"dtype\":\"F16\",\"shape\":[2,2],\"data_offsets\":[3,11]},"
                         "\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
                         "\"e\":{\"dtype\":\"F32\",\"shape\":[4,0],\"data_offsets\":[3,3]},"
                         "\"h\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[11,13]}}   ";
    const size_t size = safetensors(header, 13, file);
    const uint16_t halves[4] = {0x3c00, 0xc000, 0x0001, 0x7bff}, one = 0x3f80;
    memcpy(file + size - 10, halves, 8);
    memcpy(file + size - 2, &one, 2);
    /* Recognised by content too. */
    assert_int_equal(fpl_container_parse(&c, "model", file, size, -1, &err), FPL_OK);
    assert_int_equal(c.kind, FPL_SAFETENSORS);
    assert_int_equal(c.count, 4);
    assert_string_equal(c.tensors[0].name, "b");
    assert_string_equal(c.tensors[1].name, "e");
    assert_string_equal(c.tensors[2].name, "w");
    assert_string_equal(c.tensors[3].name, "h");
    assert_string_equal(c.metadata, "{\"format\":\"pt\"}");
    assert_int_equal(c.tensors[2].rows, 2);
    assert_int_equal(c.tensors[3].elements, 1);
    fpl_tensor_read(&c, &c.tensors[2], 0, 4, x);
    assert_true(x[0] == 1.0f && x[1] == -2.0f && x[2] == 0x1p-24f && x[3] == 65504.0f);
    fpl_tensor_read(&c, &c.tensors[3], 0, 1, x);
    assert_true(x[0] == 1.0f);

    /* The header that is written is one that is read: the same tensors back. */
    struct fpl_text text = {0};
    struct fpl_tensor copy[4];
    memcpy(copy, c.tensors, sizeof copy);
    assert_int_equal(fpl_safetensors_header(copy, 4, c.metadata, &text, &err), FPL_OK);
    assert_int_equal(text.size % 8, 0);
    fpl_text_append(&text, (const char *)file + size - 13, 13);
    struct fpl_container again;
    assert_int_equal(fpl_container_parse(&again, "again", text.text, text.size, -1, &err), FPL_OK);
    assert_int_equal(again.count, 4);
    for (size_t k = 0; k < 4; k++) {
        assert_string_equal(again.tensors[k].name, c.tensors[k].name);
        assert_string_equal(again.tensors[k].dtype_name, c.tensors[k].dtype_name);
        assert_int_equal(again.tensors[k].at - again.data_at, c.tensors[k].at - c.data_at);
        assert_int_equal(again.tensors[k].at, copy[k].at);
    }
    fpl_container_close(&again);
    copy[1].name = copy[0].name;
    assert_int_equal(fpl_safetensors_header(copy, 2, NULL, &text, &err), FPL_INVALID);
    fpl_text_free(&text);
    fpl_container_close(&c);
}

static enum fpl_code npy(const char *header, size_t data, int raw, struct fpl_container *c) {
    static uint8_t file[8192];
    const size_t n = strlen(header);
    memset(file, 0, sizeof file);
    memcpy(file, "\x93NUMPY\x01", 8);
    file[8] = (uint8_t)n;
    file[9] = (uint8_t)(n >> 8);
    memcpy(file + 10, header, n);
    return fpl_container_parse(c, "f.npy", file, 10 + n + data, raw, &err);
}

static void npy_refused(const char *header, size_t data, const char *why) {
    struct fpl_container c;
    if (npy(header, data, -1, &c) != FPL_INVALID) fail_msg("accepted: %s", header);
    if (strstr(err.text, why) == NULL) fail_msg("'%s' lacks '%s'", err.text, why);
}

#define NPY(descr, order, shape) "{'descr': '" descr "', 'fortran_order': " order ", 'shape': " shape ", }\n"

static void test_npy(void **unused) {
    (void)unused;
    struct fpl_container c;
    assert_int_equal(npy(NPY("<f4", "False", "(2, 3, 5)"), 120, -1, &c), FPL_OK);
    assert_true(c.tensors[0].rows == 6 && c.tensors[0].cols == 5 && c.tensors[0].dtype == FPL_DTYPE_F32);
    fpl_container_close(&c);
    assert_int_equal(npy(NPY("<f2", "False", "(7,)"), 14, -1, &c), FPL_OK);
    assert_true(c.tensors[0].rows == 1 && c.tensors[0].cols == 7 && c.tensors[0].dtype == FPL_DTYPE_F16);
    fpl_container_close(&c);
    assert_int_equal(npy(NPY("<V2", "False", "()"), 2, -1, &c), FPL_OK);
    assert_true(c.tensors[0].elements == 1 && c.tensors[0].dtype == FPL_DTYPE_BF16);
    fpl_container_close(&c);
    assert_int_equal(npy(NPY("<u2", "False", "(1,)"), 2, FPL_DTYPE_F16, &c), FPL_OK);
    fpl_container_close(&c);
    assert_int_equal(npy(NPY("<f4", "True", "(1, 4, 1)"), 16, -1, &c), FPL_OK);
    fpl_container_close(&c);
    assert_int_equal(npy(NPY("<f4", "False", "(3, 0)"), 0, -1, &c), FPL_OK);
    fpl_container_close(&c);

    npy_refused(NPY("<f4", "True", "(2, 2)"), 16, "Fortran order");
    npy_refused(NPY("<f8", "False", "(2,)"), 16, "'<f4'");
    npy_refused(NPY(">f4", "False", "(2,)"), 8, "'<f4'");
    npy_refused(NPY("<u2", "False", "(2,)"), 4, "with a dtype given");
    npy_refused(NPY("<f4", "False", "(2)"), 8, "unreadable shape");
    npy_refused(NPY("<f4", "False", "(-2,)"), 8, "unreadable shape");
    npy_refused(NPY("<f4", "False", "(4294967296, 4294967296)"), 8, "overflows");
    npy_refused(NPY("<f4", "False", "(4611686018427387904,)"), 8, "do not hold");
    npy_refused(NPY("<f4", "False", "(3,)"), 8, "do not hold");
    npy_refused("{'descr': '<f4', 'fortran_order': False, }", 8, "lacks");
    npy_refused("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 8, "repeated");
    npy_refused("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'more': 1}", 8, "unknown");
    npy_refused("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}", 8, "structured");
    npy_refused("{'descr': '<f4', 'fortran_order': Maybe, 'shape': (2,)}", 8, "neither True nor False");
    npy_refused("('descr')", 8, "no dictionary");
    npy_refused(NPY("<f4", "False", "(2,)") "junk", 8, "goes on");
}

/* Round to nearest even onto multiples of 2^k in double: exact for every float32. */
static double nearest(double x, int k) {
    const double scaled = ldexp(x, -k), low = floor(scaled), rest = scaled - low;
    const int odd = fmod(low, 2.0) != 0.0;
    return ldexp(low + (rest > 0.5 || (rest == 0.5 && odd) ? 1.0 : 0.0), k);
}

static void check_narrowing(float x, enum fpl_dtype dtype, int mantissa, int emin, double largest) {
    uint8_t bytes[2];
    float back;
    const int64_t changed = fpl_dtype_write(dtype, 1, &x, bytes);
    fpl_dtype_read(dtype, 1, bytes, &back);
    if (isnan(x)) {
        assert_true(isnan(back) && changed == 0);
        return;
    }
    int e = x == 0.0f || isinf(x) ? 0 : ilogb((double)x);
    double want = isinf(x) ? (double)x : nearest((double)x, (e < emin ? emin : e) - mantissa);
    if (!isinf(x) && fabs(want) > largest) want = copysign(largest, want);
    if ((double)back != want || signbit(back) != signbit(x))
        fail_msg("%a as %s is %a, expected %a", (double)x, fpl_dtype_names[dtype], (double)back, want);
    assert_int_equal(changed, (double)x != want);
}

static void test_dtypes(void **unused) {
    (void)unused;
    for (uint32_t high = 0; high < 0x10000u; high++) {
        static const uint32_t low[] = {0, 1, 0x0fff, 0x1000, 0x1001, 0x2000, 0x7fff, 0x8000, 0x8001, 0xffff};
        for (size_t k = 0; k < sizeof low / sizeof low[0]; k++) {
            const float x = fpl_bits_float(high << 16 | low[k]);
            check_narrowing(x, FPL_DTYPE_F16, 10, -14, 65504.0);
            check_narrowing(x, FPL_DTYPE_BF16, 7, -126, 0x1.fep127);
        }
        /* Widening is the inverse of narrowing. */
        const uint16_t code = (uint16_t)high;
        uint8_t bytes[2], back[2];
        float x;
        for (int dtype = FPL_DTYPE_F16; dtype <= FPL_DTYPE_BF16; dtype++) {
            memcpy(bytes, &code, 2);
            fpl_dtype_read((enum fpl_dtype)dtype, 1, bytes, &x);
            fpl_dtype_write((enum fpl_dtype)dtype, 1, &x, back);
            if (!isnan(x)) assert_memory_equal(bytes, back, 2);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_safetensors_refusals),
        cmocka_unit_test(test_safetensors_reading),
        cmocka_unit_test(test_npy),
        cmocka_unit_test(test_dtypes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
