/* test_recipe.c - recipes: presets operand by operand, text round trips, covariates, refusals.
 *
 * The expected operands are written out from formats.md, section 3.  The registry is walked,
 * so a new preset without a row here is noticed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "../../formats/recipe.h"

static struct fpl_recipe parse(const char *text) {
    struct fpl_recipe r;
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_recipe_parse(text, &r, &err) != FPL_OK) fail_msg("\"%s\" refused: %s", text, err.text);
    return r;
}

/* Operands in the order fwd.x fwd.w dgrad.dy dgrad.w wgrad.dy wgrad.x. */
static const struct {
    const char *text, *canonical, *slot[FPL_SLOTS], *post;
} presets[] = {
    {"fp32", "fp32", {"-", "-", "-", "-", "-", "-"}, NULL},
    {"BF16", "bf16", {"bf16", "bf16", "bf16", "bf16", "bf16", "bf16"}, NULL},
    {"capybara:e4m3/32",
     "capybara:e4m3/32",
     {"-", "e4m3:rna/1x32:mul", "-", "e4m3:rna/1x32:mul", "-", "e4m3:rna/1x32:mul"},
     "bf16"},
    {"capybara:E2M1",
     "capybara:e2m1",
     {"-", "e2m1:rna/row:mul", "-", "e2m1:rna/row:mul", "-", "e2m1:rna/row:mul"},
     "bf16"},
    {"capybara:e2m1/row",
     "capybara:e2m1",
     {"-", "e2m1:rna/row:mul", "-", "e2m1:rna/row:mul", "-", "e2m1:rna/row:mul"},
     "bf16"},
    {"capybara:int8/tensor",
     "capybara:int8/tensor",
     {"-", "int8:rna/tensor:mul", "-", "int8:rna/tensor:mul", "-", "int8:rna/tensor:mul"},
     "bf16"},
    {"full:e2m1/1x32:floor",
     "full:e2m1/1x32:e8m0",
     {"e2m1/1x32:e8m0", "e2m1/1x32:e8m0", "e2m1/1x32:e8m0", "e2m1/1x32:e8m0", "e2m1/1x32:e8m0",
      "e2m1/1x32:e8m0"},
     NULL},
    {"full:-", "full:-", {"-", "-", "-", "-", "-", "-"}, NULL},
    {"qat:int4/row", "qat:int4/row", {"int4/row", "int4/row", "-", "-", "-", "-"}, NULL},
    {"fp8",
     "fp8",
     {"e4m3fn/tensor", "e4m3fn/tensor", "e5m2ieee/tensor", "e4m3fn/tensor", "e5m2ieee/tensor",
      "e4m3fn/tensor"},
     NULL},
    {"mxfp8",
     "mxfp8",
     {"e4m3fn/1x32:rceil", "e4m3fn/1x32:rceil", "e4m3fn/1x32:rceil", "e4m3fn/1x32:rceil", "e4m3fn/1x32:rceil",
      "e4m3fn/1x32:rceil"},
     NULL},
    {"mxfp6_e3m2",
     "mxfp6_e3m2",
     {"e3m2/1x32:e8m0", "e3m2/1x32:e8m0", "e3m2/1x32:e8m0", "e3m2/1x32:e8m0", "e3m2/1x32:e8m0",
      "e3m2/1x32:e8m0"},
     NULL},
    {"mxfp6_e2m3",
     "mxfp6_e2m3",
     {"e2m3/1x32:e8m0", "e2m3/1x32:e8m0", "e2m3/1x32:e8m0", "e2m3/1x32:e8m0", "e2m3/1x32:e8m0",
      "e2m3/1x32:e8m0"},
     NULL},
    {"mxfp4",
     "mxfp4",
     {"e2m1/1x32:e8m0", "e2m1/1x32:e8m0", "e2m1/1x32:e8m0", "e2m1/1x32:e8m0", "e2m1/1x32:e8m0",
      "e2m1/1x32:e8m0"},
     NULL},
    {"ops:wgrad.dy=E5M2IEEE:sr/tensor;fwd.w=e2m1/row;fwd.x=-",
     "ops:fwd.w=e2m1/row;wgrad.dy=e5m2ieee:sr/tensor",
     {"-", "e2m1/row", "-", "-", "e5m2ieee:sr/tensor", "-"},
     NULL},
    {"ops:dgrad.w=bf16;post=tf32", "ops:dgrad.w=bf16;post=tf32", {"-", "-", "-", "bf16", "-", "-"}, "tf32"},
    {"ops:fwd.x=-;post=bf16", "ops:wgrad.x=-;post=bf16", {"-", "-", "-", "-", "-", "-"}, "bf16"},
};
enum { PRESETS = sizeof presets / sizeof presets[0] };

static void test_presets(void **state) {
    (void)state;
    for (size_t i = 0; i < PRESETS; i++) {
        const struct fpl_recipe r = parse(presets[i].text);
        assert_string_equal(r.text, presets[i].canonical);
        for (int s = 0; s < FPL_SLOTS; s++) {
            char q[FPL_QUANTIZER_TEXT];
            fpl_quantizer_print(&r.slot[s], q, sizeof q);
            if (strcmp(q, presets[i].slot[s]) != 0)
                fail_msg("%s, %s: got %s, expected %s", presets[i].text, fpl_slot_names[s], q,
                         presets[i].slot[s]);
        }
        assert_int_equal(r.has_post, presets[i].post != NULL);
        if (r.has_post) {
            char post[48];
            fpl_format_print(&r.post, post, sizeof post);
            assert_string_equal(post, presets[i].post);
        }
        const struct fpl_recipe back = parse(r.text);
        assert_memory_equal(&r, &back, sizeof r);
    }
}

static void test_registry(void **state) {
    (void)state;
    int rows = 0;
    for (const struct fpl_recipe_preset *p = fpl_recipe_presets; p->name != NULL; p++, rows++) {
        int tested = 0;
        const struct fpl_recipe r = parse(p->example), back = parse(r.text);
        assert_memory_equal(&r, &back, sizeof r);
        assert_true(strlen(p->meaning) > 0);
        assert_true((p->fill == NULL) == (p->values != NULL && p->gradients != NULL));
        for (size_t i = 0; i < PRESETS; i++)
            tested |= strncmp(presets[i].canonical, p->name, strlen(p->name)) == 0;
        if (!tested) fail_msg("preset %s has no row in this test", p->name);
    }
    assert_int_equal(rows, 11);
}

static void test_longest_text_fits(void **state) {
    char text[2048] = "ops:";
    (void)state;
    for (int s = 0; s < FPL_SLOTS; s++) {
        strcat(text, s ? ";" : "");
        strcat(text, fpl_slot_names[s]);
        strcat(text, "=e4m3b-100p3109ens:sr31:satp/2147483647x2147483647:e4m3b-100p3109ens+t");
    }
    strcat(text, ";post=e4m3b-100p3109ens");
    const struct fpl_recipe r = parse(text), back = parse(r.text);
    assert_string_equal(r.text, text);
    assert_memory_equal(&r, &back, sizeof r);
}

static void test_lower(void **state) {
    struct fpl_quantizer_plan plans[FPL_SLOTS];
    (void)state;
    struct fpl_recipe r = parse("capybara:e2m1/16");
    fpl_recipe_lower(&r, plans);
    for (int s = 0; s < FPL_SLOTS; s++) {
        const int quantized = s == FPL_FWD_W || s == FPL_DGRAD_W || s == FPL_WGRAD_X;
        assert_int_equal(plans[s].identity, !quantized);
        assert_int_equal(plans[s].post.identity, 0);
        assert_int_equal(plans[s].post.mbits, 7);
        if (quantized) assert_true(plans[s].block_cols == 16 && plans[s].largest == 6.0f);
    }
    r = parse("fp32");
    fpl_recipe_lower(&r, plans);
    for (int s = 0; s < FPL_SLOTS; s++) assert_true(plans[s].identity && plans[s].post.identity);
    r = parse("bf16");
    fpl_recipe_lower(&r, plans);
    for (int s = 0; s < FPL_SLOTS; s++)
        assert_true(!plans[s].identity && plans[s].granularity == FPL_UNSCALED);
}

static void test_summaries(void **state) {
    static const struct {
        const char *text, *format, *granularity;
        int E, M, block;
    } rows[] = {
        {"fp32", "", "", -1, -1, -1},
        {"bf16", "", "", -1, -1, -1},
        {"full:-", "", "", -1, -1, -1},
        {"full:fp32", "", "", -1, -1, -1},
        {"capybara:e4m3/32", "e4m3", "1x32", 4, 3, 32},
        {"capybara:e4m3", "e4m3", "row", 4, 3, -1},
        {"full:e2m1/tensor", "e2m1", "tensor", 2, 1, -1},
        {"full:e4m3fn/128x128", "e4m3fn", "128x128", 4, 3, -1},
        {"full:tf32", "tf32", "none", 8, 10, -1},
        {"qat:int4/1x64", "int4", "1x64", 0, 3, 64},
        {"mxfp4", "e2m1", "1x32", 2, 1, 32},
        {"fp8", "mixed", "tensor", -1, -1, -1},
        {"ops:fwd.x=e4m3fn/1x32;dgrad.dy=e4m3/1x32", "mixed", "1x32", 4, 3, 32},
        {"ops:fwd.x=e4m3/1x32;dgrad.dy=e4m3/row;wgrad.x=bf16", "e4m3", "mixed", 4, 3, -1},
        {"ops:fwd.x=e4m3/1x32;dgrad.dy=e3m3/1x16", "mixed", "mixed", -1, 3, -1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct fpl_recipe r = parse(rows[i].text);
        struct fpl_recipe_summary s;
        fpl_recipe_summarize(&r, &s);
        assert_string_equal(s.format, rows[i].format);
        assert_string_equal(s.granularity, rows[i].granularity);
        assert_int_equal(s.E, rows[i].E);
        assert_int_equal(s.M, rows[i].M);
        assert_int_equal(s.block, rows[i].block);
    }
}

static void test_refused(void **state) {
    static const char *const rows[][2] = {
        {"", "accepted: fp32, bf16, capybara:..."},
        {"nvfp4", "mxfp4"},
        {"deepseek_v3", "is unknown; accepted: fp32, bf16, capybara:..., full:..., qat:..., fp8"},
        {"fulll:e4m3", "did you mean full?"},
        {"fp32:e4m3", "takes nothing after it"},
        {"full", "as in full:e2m1/1x32:e8m0"},
        {"full:", "character 1"},
        {"full:e4m3/1x0", "a granularity"},
        {"qat:e4q3", "character 3"},
        {"capybara:e4m3fn", "accepted: a signed finite format"},
        {"capybara:bf16/32", "accepted: a signed finite format"},
        {"capybara:ue4m3", "accepted: a signed finite format"},
        {"capybara:e4m3/", "found granularity \"\""},
        {"capybara:e4m3/0", "expected 1 to 2147483647"},
        {"capybara:e4m3/32x2", "found granularity \"32x2\""},
        {"capybara:e4m3/1x32", "found granularity \"1x32\""},
        {"capybara:e4m3/column", "a block length as in e4m3/32, row or tensor"},
        {"capybara:e4m3/99999999999", "expected 1 to 2147483647"},
        {"capybara:e4m3/row:mul", "found granularity"},
        {"ops:", "expected slot=quantizer"},
        {"ops:fwd.x", "expected slot=quantizer"},
        {"ops:fwd.y=e4m3", "unknown operand \"fwd.y\""},
        {"ops:fwd.x=e4m3;", "expected slot=quantizer"},
        {"ops:fwd.x=e4m3;fwd.x=e4m3", "named twice"},
        {"ops:post=bf16", "at least one operand"},
        {"ops:fwd.x=e4m3;post=bf16;fwd.w=e4m3", "post last"},
        {"ops:fwd.x=e4m3;post=bf17", "character 1"},
        {"ops:fwd.x=e4m3;post=bf16/row", "format"},
        {"ops:fwd.x=e4m3/1x32:e8m0+t", "two-level"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct fpl_recipe r;
        struct fpl_error err = {FPL_OK, ""};
        if (fpl_recipe_parse(rows[i][0], &r, &err) != FPL_INVALID)
            fail_msg("\"%s\" was accepted", rows[i][0]);
        if (strstr(err.text, rows[i][1]) == NULL || strncmp(err.text, "recipe \"", 8) != 0)
            fail_msg("\"%s\": message \"%s\" lacks \"%s\"", rows[i][0], err.text, rows[i][1]);
    }
    static char longest[5000];
    struct fpl_recipe r;
    for (size_t n = 90; n < sizeof longest; n += 311) {
        memset(longest, 'e', sizeof longest);
        memcpy(longest, n % 2 ? "capybara:" : "ops:fwd.x", 9);
        longest[n] = '\0';
        assert_int_equal(fpl_recipe_parse(longest, &r, NULL), FPL_INVALID);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_presets),           cmocka_unit_test(test_registry),
        cmocka_unit_test(test_longest_text_fits), cmocka_unit_test(test_lower),
        cmocka_unit_test(test_summaries),         cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
