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
    {"nvfp4",
     "nvfp4",
     {"e2m1/1x16:e4m3fn+t", "e2m1/16x16:e4m3fn+t", "e2m1:sr/1x16:e4m3fn+t", "e2m1/16x16:e4m3fn+t",
      "e2m1:sr/1x16:e4m3fn+t", "e2m1/1x16:e4m3fn+t"},
     NULL},
    {"deepseek_v3",
     "deepseek_v3",
     {"e4m3fn/1x128", "e4m3fn/128x128", "e4m3fn/1x128", "e4m3fn/128x128", "e4m3fn/1x128", "e4m3fn/1x128"},
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
        assert_true(p->fill == NULL || (p->weights == NULL && p->options == NULL));
        for (size_t i = 0; i < PRESETS; i++)
            tested |= strncmp(presets[i].canonical, p->name, strlen(p->name)) == 0;
        if (!tested) fail_msg("preset %s has no row in this test", p->name);
    }
    assert_int_equal(rows, 13);
}

/* Options: what is written, the canonical text, and that it means the same. */
static void test_options(void **state) {
    static const char *const rows[][2] = {
        {"mxfp4;last=0", "mxfp4"},
        {"mxfp4;first=0%;had=0;acc=fp32;ste=pass;opt.m=-;attn.qk=-", "mxfp4"},
        {"mxfp4;last=2;first=1", "mxfp4;first=1;last=2"},
        {"MXFP4;LAST=2;Had=16", "mxfp4;had=16;last=2"},
        {"mxfp4;had=16", "mxfp4;had=16"},
        {"mxfp4;fwd.had=16;dgrad.had=16;wgrad.had=16", "mxfp4;had=16"},
        {"mxfp4;wgrad.had=32;fwd.had=16", "mxfp4;fwd.had=16;wgrad.had=32"},
        {"mxfp4;wgrad.had=32;had=16", "mxfp4;fwd.had=16;dgrad.had=16;wgrad.had=32"},
        {"nvfp4;had=0", "nvfp4;wgrad.had=0"},
        {"nvfp4;wgrad.had=0;last=0", "nvfp4;wgrad.had=0;last=0"},
        {"nvfp4;had=16;last=15%", "nvfp4;had=16"},
        {"nvfp4;dgrad.had=16", "nvfp4;dgrad.had=16"},
        {"nvfp4;had=32", "nvfp4;had=32"},
        {"deepseek_v3;acc=fp32", "deepseek_v3;acc=fp32"},
        {"deepseek_v3;acc=align:32,13/128", "deepseek_v3"},
        {"deepseek_v3;fwd.acc=fp16/32", "deepseek_v3;fwd.acc=fp16/32"},
        {"full:E4M3/1x32;acc=fp16/32;wgrad.had=16;ste=clip;last=2",
         "full:e4m3/1x32;acc=fp16/32;wgrad.had=16;ste=clip;last=2"},
        {"capybara:e2m1;dgrad.acc=chunk:fp16/128", "capybara:e2m1;dgrad.acc=chunk:fp16/128"},
        {"ops:fwd.w=e2m1/row;post=bf16;ste=clip;first=10%",
         "ops:fwd.w=e2m1/row;post=bf16;ste=clip;first=10%"},
        {"ops:fwd.w=e2m1/row;wgrad.acc=bf16;wgrad.had=16", "ops:fwd.w=e2m1/row;wgrad.acc=bf16;wgrad.had=16"},
        {"bf16;attn.pv=e4m3fn/row;attn.grad=e5m2ieee/row;opt.grad=bf16;opt.master=bf16:sr;attn.qk=e4m3fn/row;"
         "opt.v=e5m2/1x128;opt.m=e4m3/1x128;attn.dp=e4m3fn/row",
         "bf16;opt.m=e4m3/1x128;opt.v=e5m2/1x128;opt.master=bf16:sr;opt.grad=bf16;attn.qk=e4m3fn/row;"
         "attn.pv=e4m3fn/row;attn.dp=e4m3fn/row;attn.grad=e5m2ieee/row"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct fpl_recipe r = parse(rows[i][0]), back = parse(r.text);
        assert_string_equal(r.text, rows[i][1]);
        assert_memory_equal(&r, &back, sizeof r);
    }
    struct fpl_recipe r = parse("full:e4m3/1x32;dgrad.acc=fp16;wgrad.had=32;ste=clip;first=1;last=12%;"
                                "opt.v=e5m2/1x64;attn.pv=int8/row");
    for (int role = 0; role < FPL_RECIPE_ROLES; role++) {
        char acc[FPL_ACCUMULATOR_TEXT];
        fpl_accumulator_print(&r.accumulator[role], acc, sizeof acc);
        assert_string_equal(acc, role == 1 ? "fp16" : "fp32");
        assert_int_equal(r.hadamard[role], role == 2 ? 32 : 0);
    }
    assert_true(r.ste_clip == 1 && r.first.count == 1 && !r.first.is_percent);
    assert_true(r.last.count == 12 && r.last.is_percent);
    for (int i = 0; i < FPL_STATE_SLOTS; i++) assert_int_equal(r.state[i].identity, i != FPL_STATE_V);
    for (int i = 0; i < FPL_ATTENTION_SLOTS; i++)
        assert_int_equal(r.attention[i].identity, i != FPL_ATTENTION_PV);
    assert_int_equal(r.state[FPL_STATE_V].block_cols, 64);
    r = parse("nvfp4");
    assert_true(r.hadamard[0] == 0 && r.hadamard[1] == 0 && r.hadamard[2] == 16);
    assert_true(r.last.count == 15 && r.last.is_percent && r.first.count == 0 && !r.ste_clip);
}

/* Every option's example parses, alone and for each role, and is printed back. */
static void test_option_registry(void **state) {
    int rows = 0;
    (void)state;
    for (const struct fpl_recipe_option *o = fpl_recipe_options; o->name != NULL; o++, rows++) {
        assert_true(strlen(o->meaning) > 0);
        for (int role = -1; role < (o->per_role ? FPL_RECIPE_ROLES : 0); role++) {
            char text[FPL_RECIPE_TEXT];
            snprintf(text, sizeof text, "mxfp4;%s%s%s=%s", role < 0 ? "" : fpl_role_names[role],
                     role < 0 ? "" : ".", o->name, o->example);
            assert_string_equal(parse(text).text, text);
        }
    }
    assert_int_equal(rows, 13);
}

static void test_exempt(void **state) {
    static const struct {
        const char *text;
        int layers;
        const char *blocks; /* one letter each: x exempt */
    } rows[] = {
        {"mxfp4", 3, "..."},
        {"mxfp4;last=1", 3, "..x"},
        {"mxfp4;first=2", 3, "xx."},
        {"mxfp4;first=1;last=1", 4, "x..x"},
        {"mxfp4;first=3;last=3", 4, "xxxx"},
        {"mxfp4;last=9", 2, "xx"},
        {"nvfp4", 1, "."},
        {"nvfp4", 2, ".x"},
        {"nvfp4", 6, ".....x"},
        {"nvfp4", 7, ".....xx"},
        {"mxfp4;last=100%", 3, ".xx"},
        {"mxfp4;first=50%", 4, "xx.."},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct fpl_recipe r = parse(rows[i].text);
        int count = 0;
        for (int l = 0; l < rows[i].layers; l++) {
            assert_int_equal(fpl_recipe_exempt(&r, l, rows[i].layers), rows[i].blocks[l] == 'x');
            count += rows[i].blocks[l] == 'x';
        }
        assert_int_equal(fpl_recipe_exempt_count(&r, rows[i].layers), count);
    }
    const struct fpl_recipe r = parse("nvfp4"); /* the paper's 12B model: 10 of 62 blocks in bf16 */
    assert_int_equal(fpl_recipe_exempt_count(&r, 62), 10);
}

#define LONG "e4m3b-100p3109ens:sr31:satp/2147483647x2147483647:e4m3b-100p3109ens+t"

static void test_longest_text_fits(void **state) {
    char text[2048] = "ops:";
    (void)state;
    for (int s = 0; s < FPL_SLOTS; s++) {
        strcat(text, s ? ";" : "");
        strcat(text, fpl_slot_names[s]);
        strcat(text, "=" LONG);
    }
    strcat(text, ";post=e4m3b-100p3109ens");
    const struct fpl_recipe r = parse(text), back = parse(r.text);
    assert_string_equal(r.text, text);
    assert_memory_equal(&r, &back, sizeof r);

    /* A text that fits, while its canonical form, which names two roles for "acc", does not. */
    static const char wide[] =
        "full:" LONG ";opt.m=" LONG ";opt.v=" LONG ";opt.master=" LONG ";opt.grad=" LONG ";attn.qk=" LONG
        ";attn.pv=" LONG ";attn.dp=" LONG ";attn.grad=e4m3/1x1048576:e8m0"
        ";acc=e5m10:sr31:satp/2147483647;wgrad.acc=bf16;had=16;wgrad.had=32";
    struct fpl_recipe out;
    struct fpl_error err = {FPL_OK, ""};
    assert_true(strlen(wide) < FPL_RECIPE_TEXT);
    assert_int_equal(fpl_recipe_parse(wide, &out, &err), FPL_INVALID);
    if (strstr(err.text, "canonical text is too long") == NULL) fail_msg("message: %s", err.text);
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
        {"full:nf4/1x64", "nf4", "1x64", -1, -1, 64},
        {"mxfp4;acc=fp16", "e2m1", "1x32", -1, -1, -1},
        {"mxfp4;wgrad.had=16", "e2m1", "1x32", -1, -1, -1},
        {"mxfp4;ste=clip", "e2m1", "1x32", -1, -1, -1},
        {"mxfp4;last=1", "e2m1", "1x32", -1, -1, -1},
        {"mxfp4;opt.m=e4m3/row", "e2m1", "1x32", -1, -1, -1},
        {"mxfp4;attn.qk=e4m3/row", "e2m1", "1x32", -1, -1, -1},
        {"fp32;opt.v=e4m3/row", "mixed", "", -1, -1, -1},
        {"bf16;acc=fp16", "mixed", "", -1, -1, -1},
        {"bf16;attn.pv=e4m3/row", "mixed", "", -1, -1, -1},
        {"bf16;opt.master=bf16;had=16;last=1;ste=clip", "", "", -1, -1, -1},
        {"nvfp4", "e2m1", "mixed", -1, -1, -1},
        {"nvfp4;wgrad.had=0;last=0", "e2m1", "mixed", 2, 1, -1},
        {"deepseek_v3", "e4m3fn", "mixed", -1, -1, -1},
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
        {"nvfp5", "did you mean nvfp4?"},
        {"deepseek_v4", "is unknown"},
        {"llama", "is unknown; accepted: fp32, bf16, capybara:..., full:..., qat:..., fp8"},
        {"nvfp4:e2m1", "takes nothing after it"},
        {"full;last=2", "expected ':' and what to use"},
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
        {"mxfp4;", "expected option=value"},
        {"mxfp4;last", "expected option=value"},
        {"mxfp4;last=", "last: found \"\"; accepted: a number of blocks"},
        {"mxfp4;last=2;", "expected option=value"},
        {"mxfp4;last=2;last=2", "given twice"},
        {"mxfp4;had=16;had=32", "given twice"},
        {"mxfp4;fwd.acc=fp16;FWD.ACC=fp16", "given twice"},
        {"mxfp4;last=-1", "0 to 1024"},
        {"mxfp4;last=1025", "0 to 1024"},
        {"mxfp4;last=101%", "0% to 100%"},
        {"mxfp4;last=999999999999", "0 to 1024"},
        {"mxfp4;first=1%%", "0 to 1024"},
        {"mxfp4;fwd.last=2", "unknown option \"fwd.last\""},
        {"mxfp4;lost=2", "did you mean last?"},
        {"mxfp4;fwd.x=e4m3", "unknown option \"fwd.x\"; accepted: acc, had, ste, first, last, opt.m"},
        {"mxfp4;post=bf16", "unknown option \"post\""},
        {"ops:fwd.x=e4m3;last=2;fwd.w=e4m3", "unknown option \"fwd.w\""},
        {"ops:last=2", "unknown operand \"last\""},
        {"mxfp4;had=8", "had: found \"8\"; accepted: 0 (no transform), 16 or 32"},
        {"mxfp4;wgrad.had=016", "wgrad.had: found"},
        {"mxfp4;dgrad.acc=fp17", "dgrad.acc"},
        {"mxfp4;acc=align:4", "acc"},
        {"mxfp4;ste=mask", "pass or clip"},
        {"mxfp4;opt.m=e4q3", "opt.m"},
        {"mxfp4;attn.qk=e4m3/1x0", "attn.qk"},
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
        cmocka_unit_test(test_presets), cmocka_unit_test(test_registry),
        cmocka_unit_test(test_options), cmocka_unit_test(test_option_registry),
        cmocka_unit_test(test_exempt),  cmocka_unit_test(test_longest_text_fits),
        cmocka_unit_test(test_lower),   cmocka_unit_test(test_summaries),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
