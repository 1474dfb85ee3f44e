/* What the model asks of the kernels for every quantized product, seen by a spy: a copy of
 * the CPU's table whose gemm writes down each call and then does it.  A recipe of six
 * different quantizers per replica makes every swap of slots, layers, linear layers or
 * replicas visible; which layer a call belongs to is told from where its weights, or their
 * gradients, lie. */
#include "training.h"

#include "../../formats/random.h"
#include "../../sim/model/model.h"

#define REPLICAS 3
#define LAYERS 2
#define WIDTH 24
#define FFN 40
#define V 19
#define T 8
#define MICRO 2 /* sequences; the second micro-batch of a step has one */
#define SEQUENCES 3
#define HEAD FPL_LINEARS /* pseudo linear layer */
#define MOST_CALLS 4096

/* The table of random.h: the number of a linear layer in its stream. */
static const char *const linear_names[FPL_LINEARS] = {"qkv", "attention_out", "gate_up", "down"};

/* The order of enum fpl_slot as recipe.h's grammar lists it. */
static const char *const slot_names[FPL_SLOTS] = {"fwd.x",   "fwd.w",    "dgrad.dy",
                                                  "dgrad.w", "wgrad.dy", "wgrad.x"};

static const char *const quantizers[][FPL_SLOTS] = {
    {"e4m3/1x8", "e2m1:sr/1x4:e8m0", "e5m2ieee/tensor", "e3m2:rtz/row", "e2m3:sr7/col", "int8/4x4"},
    {"e3m2:sr/row", "e5m2ieee:rup", "e2m1/1x16:e4m3fn+t", "e4m3fn:sr9/1x2", "-", "e2m3:rna/tensor:mul"},
    /* capybara:e4m3/8 */
    {"-", "e4m3:rna/1x8:mul", "-", "e4m3:rna/1x8:mul", "-", "e4m3:rna/1x8:mul"}};
static const uint64_t seeds[REPLICAS] = {UINT64_C(0x123456789abcdef0), 6, UINT64_C(0xffffffff00000001)};

/* ---- the spy ---------------------------------------------------------------------------------- */

struct call {
    struct fpl_gemm g;
    struct fpl_operand qa[REPLICAS], qb[REPLICAS];
};

static struct call calls[MOST_CALLS];
static size_t call_count;
static const struct fpl_kernels *real;

static void spy_gemm(struct fpl_device *dev, const struct fpl_gemm *g) {
    assert_true(call_count < MOST_CALLS && g->R <= REPLICAS);
    struct call *c = &calls[call_count++];
    c->g = *g;
    memcpy(c->qa, g->qa, (size_t)g->R * sizeof *g->qa);
    memcpy(c->qb, g->qb, (size_t)g->R * sizeof *g->qb);
    real->gemm(dev, g);
}

/* The model's operands are quantized inside products only. */
static void no_quantize(struct fpl_device *dev, int replicas, int64_t rows, int64_t cols,
                        const struct fpl_operand *q, const float *x, float *out, int64_t *nonfinite) {
    (void)dev, (void)replicas, (void)rows, (void)cols, (void)q, (void)x, (void)out, (void)nonfinite;
    fail_msg("the model called the standalone quantizer");
}

static struct fpl_kernels spy_table(void) {
    real = fpl_backend("cpu");
    struct fpl_kernels k = *real;
    k.gemm = spy_gemm;
    k.quantize = no_quantize;
    call_count = 0;
    return k;
}

/* ---- a model behind it ------------------------------------------------------------------------- */

struct fixture {
    struct fpl_kernels k;
    struct fpl_device *dev;
    struct fpl_model *m;
    struct fpl_recipe recipe[REPLICAS];
    int32_t inputs[REPLICAS * MICRO * T], targets[REPLICAS * MICRO * T];
    double losses[REPLICAS * MICRO * T];
};

static void parse_recipe(const char *text, struct fpl_recipe *out) {
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_recipe_parse(text, out, &err) != FPL_OK) fail_msg("%s: %s", text, err.text);
}

/* "ops:" of the six, named in reverse so that their order in the text does not matter. */
static void ops_recipe(const char *const *q, struct fpl_recipe *out) {
    char text[FPL_RECIPE_TEXT];
    size_t used = (size_t)snprintf(text, sizeof text, "ops:");
    for (int s = FPL_SLOTS - 1; s >= 0; s--)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s=%s%s", slot_names[s], q[s],
                                 s > 0 ? ";" : "");
    parse_recipe(text, out);
}

static void open_model(struct fixture *f, int layers) {
    const struct fpl_device_options options = {.threads = 1};
    const struct fpl_model_shape shape = {.R = REPLICAS,
                                          .layers = layers,
                                          .width = WIDTH,
                                          .heads = 3,
                                          .ffn = FFN,
                                          .vocab = V,
                                          .seq = T,
                                          .micro_sequences = MICRO};
    struct fpl_model_replica replica[REPLICAS];
    struct fpl_error err = {FPL_OK, ""};
    memset(f, 0, sizeof *f);
    f->k = spy_table();
    ops_recipe(quantizers[0], &f->recipe[0]);
    ops_recipe(quantizers[1], &f->recipe[1]);
    parse_recipe("capybara:e4m3/8", &f->recipe[2]);
    for (int r = 0; r < REPLICAS; r++) replica[r] = (struct fpl_model_replica){&f->recipe[r], seeds[r]};
    assert_int_equal(f->k.open(&f->dev, &options, &err), FPL_OK);
    if (fpl_model_create(&shape, replica, &f->k, f->dev, &f->m, &err) != FPL_OK) fail_msg("%s", err.text);
    memset(f->recipe, 0xff, sizeof f->recipe); /* "read during creation only" */
    for (int i = 0; i < REPLICAS * MICRO * T; i++) {
        f->inputs[i] = i * 7 % V;
        f->targets[i] = i * 5 % V;
    }
}

static void close_model(struct fixture *f) {
    struct fpl_error err = {FPL_OK, ""};
    assert_int_equal(f->k.check(f->dev, &err), FPL_OK);
    fpl_model_destroy(f->m);
    f->k.close(f->dev);
}

static struct fpl_batch batch(const struct fixture *f, int64_t first, uint32_t step) {
    const struct fpl_batch b = {.sequences = SEQUENCES - first < MICRO ? SEQUENCES - first : MICRO,
                                .inputs = f->inputs,
                                .targets = f->targets,
                                .step = step,
                                .first_row = first * T,
                                .scale = 1.0 / (SEQUENCES * T)};
    return b;
}

static void update(struct fixture *f) {
    const float lr[REPLICAS] = {1e-2f, 1e-2f, 1e-2f}, decay[REPLICAS] = {0};
    double sqnorm[REPLICAS];
    struct fpl_adamw a = {
        .lr = lr, .decay = decay, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .step = 1, .clip = 1};
    fpl_model_gradient_norm(f->m, sqnorm);
    fpl_model_update(f->m, &a);
}

/* ---- what a call is, and what it should hold --------------------------------------------------- */

struct place {
    int layer, linear; /* of the head: -1, HEAD */
    int64_t O, I;
};

/* Layer and linear layer of a call, from its weights or their gradients. */
static struct place place_of(const struct fpl_model *m, const struct fpl_gemm *g) {
    const struct fpl_model_state state = fpl_model_state(m);
    const ptrdiff_t offset = g->role == FPL_WGRAD ? g->out - state.gradients : g->b - state.parameters;
    for (int p = 0; p < fpl_model_parameter_count(m); p++) {
        const struct fpl_parameter *q = fpl_model_parameter(m, p);
        if (q->segment.offset != offset) continue;
        struct place found = {-1, -1, q->rows, q->cols};
        if (strcmp(q->name, "head") == 0) found.linear = HEAD;
        for (int l = 0; l < FPL_LINEARS; l++)
            for (int layer = 0; layer < LAYERS; layer++) {
                char name[48];
                snprintf(name, sizeof name, "block%d.%s", layer, linear_names[l]);
                if (strcmp(name, q->name) == 0) found = (struct place){layer, l, q->rows, q->cols};
            }
        if (found.linear < 0) fail_msg("a product with %s", q->name);
        return found;
    }
    fail_msg("a product with no parameter of the model");
    return (struct place){0};
}

static void slots_of(enum fpl_role role, int *a, int *b) {
    *a = role == FPL_FORWARD ? FPL_FWD_X : role == FPL_DGRAD ? FPL_DGRAD_DY : FPL_WGRAD_DY;
    *b = role == FPL_FORWARD ? FPL_FWD_W : role == FPL_DGRAD ? FPL_DGRAD_W : FPL_WGRAD_X;
}

static struct fpl_quantizer_plan plan_of(const char *quantizer, const char *post) {
    struct fpl_quantizer q;
    struct fpl_format f;
    struct fpl_quantizer_plan plan;
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_quantizer_parse(quantizer, &q, &err) != FPL_OK) fail_msg("%s", err.text);
    if (post != NULL) assert_int_equal(fpl_format_parse(post, &f, &err), FPL_OK);
    memset(&plan, 0, sizeof plan);
    fpl_quantizer_lower(&q, post != NULL ? &f : NULL, &plan);
    return plan;
}

/* Replica r's operand of a slot: plan and coordinates of its random bits. */
static void check_operand(const struct fpl_operand *o, const struct place *at, int slot, int r,
                          const struct fpl_batch *b) {
    const struct fpl_quantizer_plan plan = plan_of(quantizers[r][slot], r == 2 ? "bf16" : NULL);
    const int64_t columns = slot == FPL_FWD_X || slot == FPL_WGRAD_X       ? at->I
                            : slot == FPL_DGRAD_DY || slot == FPL_WGRAD_DY ? at->O
                                                                           : 0;
    if (memcmp(&o->plan, &plan, sizeof plan) != 0)
        fail_msg("block%d.%s %s of replica %d has another plan than %s", at->layer, linear_names[at->linear],
                 slot_names[slot], r, quantizers[r][slot]);
    assert_int_equal(o->plan.post.identity, r != 2);
    assert_true(o->at.seed == seeds[r]);
    assert_int_equal(o->at.step, b->step);
    assert_true(o->at.element == (uint64_t)(b->first_row * columns));
    const uint32_t stream = ((uint32_t)at->layer * 8u + (uint32_t)at->linear) << 8 | (uint32_t)slot;
    assert_int_equal(o->at.stream, stream);
    assert_int_equal(stream, fpl_rounding_stream((uint32_t)at->layer, (uint32_t)at->linear, (uint32_t)slot));
}

static void check_identity(const struct fpl_operand *o) {
    assert_int_equal(o->plan.identity, 1);
    assert_int_equal(o->plan.post.identity, 1);
}

/* One call of a pass over batch b; returns where it belongs. */
static struct place check_call(const struct fpl_model *m, const struct call *c, const struct fpl_batch *b) {
    const struct place at = place_of(m, &c->g);
    int slot_a, slot_b;
    assert_int_equal(c->g.R, REPLICAS);
    assert_int_equal(c->g.n, b->sequences * T);
    assert_int_equal(c->g.O, at.O);
    assert_int_equal(c->g.I, at.I);
    slots_of(c->g.role, &slot_a, &slot_b);
    for (int r = 0; r < REPLICAS; r++) {
        if (at.linear == HEAD) {
            check_identity(&c->qa[r]);
            check_identity(&c->qb[r]);
        } else {
            check_operand(&c->qa[r], &at, slot_a, r, b);
            check_operand(&c->qb[r], &at, slot_b, r, b);
        }
    }
    assert_true(at.linear == HEAD || c->g.nonfinite != NULL);
    return at;
}

/* Calls [first, last): every linear layer and the head once in each of the roles. */
static void check_pass(const struct fixture *f, size_t first, size_t last, const struct fpl_batch *b,
                       int accumulate, int roles) {
    int seen[3][LAYERS][FPL_LINEARS] = {{{0}}}, heads[3] = {0};
    const fpl_real *x[LAYERS][FPL_LINEARS] = {{NULL}}, *dy[LAYERS][FPL_LINEARS] = {{NULL}};
    for (size_t i = first; i < last; i++) {
        const struct fpl_gemm *g = &calls[i].g;
        const struct place at = check_call(f->m, &calls[i], b);
        assert_int_equal(g->accumulate, g->role == FPL_WGRAD && accumulate);
        if (at.linear == HEAD) {
            heads[g->role]++;
            continue;
        }
        seen[g->role][at.layer][at.linear]++;
        /* x and dy of a layer are one tensor each in the products that read them. */
        const fpl_real **own_x = &x[at.layer][at.linear], **own_dy = &dy[at.layer][at.linear];
        if (g->role == FPL_FORWARD) *own_x = g->a;
        if (g->role == FPL_WGRAD) assert_ptr_equal(g->b, *own_x);
        if (g->role != FPL_FORWARD && *own_dy == NULL) *own_dy = g->a;
        if (g->role != FPL_FORWARD) assert_ptr_equal(g->a, *own_dy);
    }
    for (int role = 0; role < roles; role++) {
        assert_int_equal(heads[role], 1);
        for (int layer = 0; layer < LAYERS; layer++)
            for (int l = 0; l < FPL_LINEARS; l++) assert_int_equal(seen[role][layer][l], 1);
    }
    assert_int_equal(last - first, roles * (LAYERS * FPL_LINEARS + 1));
}

/* ---- tests ------------------------------------------------------------------------------------ */

static void every_operand_is_its_slot_of_the_recipe(void **state) {
    (void)state;
    struct fixture f;
    open_model(&f, LAYERS);
    for (uint32_t step = 7; step < 9; step++) {
        for (int64_t first = 0; first < SEQUENCES; first += MICRO) {
            const struct fpl_batch b = batch(&f, first, step);
            const size_t begin = call_count;
            fpl_model_forward(f.m, &b, f.losses);
            fpl_model_backward(f.m, &b, first > 0);
            check_pass(&f, begin, call_count, &b, first > 0, 3);
        }
        update(&f);
    }
    close_model(&f);
}

/* Before, between and after training calls: its own step's counter and the rows from 0. */
static void an_evaluation_draws_its_own_bits(void **state) {
    (void)state;
    struct fixture f;
    open_model(&f, LAYERS);
    const struct fpl_batch train_batch = batch(&f, MICRO, 3), held = batch(&f, 0, FPL_EVAL_STEP + 3);
    fpl_model_forward(f.m, &train_batch, f.losses);
    size_t begin = call_count;
    fpl_model_evaluate(f.m, &held, f.losses);
    check_pass(&f, begin, call_count, &held, 0, 1);
    begin = call_count;
    fpl_model_forward(f.m, &train_batch, f.losses);
    fpl_model_backward(f.m, &train_batch, 1);
    check_pass(&f, begin, call_count, &train_batch, 1, 3);
    close_model(&f);
}

static int ascending(const void *a, const void *b) {
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* One stream per (layer, linear layer, slot), shared by the replicas, whose seeds differ. */
static void no_two_operands_share_a_stream(void **state) {
    (void)state;
    enum { OPERANDS = LAYERS * FPL_LINEARS * FPL_SLOTS };
    uint32_t streams[OPERANDS];
    size_t count = 0;
    struct fixture f;
    open_model(&f, LAYERS);
    const struct fpl_batch b = batch(&f, 0, 1);
    fpl_model_forward(f.m, &b, f.losses);
    fpl_model_backward(f.m, &b, 0);
    for (size_t i = 0; i < call_count; i++) {
        if (place_of(f.m, &calls[i].g).linear == HEAD) continue;
        assert_true(count + 2 <= OPERANDS);
        streams[count++] = calls[i].qa[0].at.stream;
        streams[count++] = calls[i].qb[0].at.stream;
    }
    assert_int_equal(count, OPERANDS);
    qsort(streams, count, sizeof *streams, ascending);
    for (size_t i = 1; i < count; i++) assert_true(streams[i] != streams[i - 1]);
    close_model(&f);
}

/* Q(w) may be kept between calls of one version: versions follow the weights. */
static void the_version_changes_with_the_weights_only(void **state) {
    (void)state;
    struct fixture f, other;
    uint64_t before = 0;
    open_model(&f, LAYERS);
    for (uint32_t step = 0; step < 3; step++) {
        const size_t begin = call_count;
        for (int64_t first = 0; first < SEQUENCES; first += MICRO) {
            const struct fpl_batch b = batch(&f, first, step);
            fpl_model_forward(f.m, &b, f.losses);
            fpl_model_backward(f.m, &b, first > 0);
        }
        for (size_t i = begin; i < call_count; i++)
            assert_true(calls[i].g.weights_version == calls[begin].g.weights_version);
        assert_true(calls[begin].g.weights_version != 0 && calls[begin].g.weights_version > before);
        before = calls[begin].g.weights_version;
        update(&f);
    }
    const struct fpl_batch b = batch(&f, 0, 3);
    fpl_model_evaluate(f.m, &b, f.losses);
    assert_true(calls[call_count - 1].g.weights_version > before);
    before = calls[call_count - 1].g.weights_version;
    fpl_model_changed(f.m);
    fpl_model_evaluate(f.m, &b, f.losses);
    assert_true(calls[call_count - 1].g.weights_version > before);
    before = calls[call_count - 1].g.weights_version;
    /* a device serves several models, whose weights may get the addresses of a closed one's */
    open_model(&other, 1);
    fpl_model_evaluate(other.m, &b, f.losses);
    assert_true(calls[call_count - 1].g.weights_version > before);
    close_model(&other);
    close_model(&f);
}

/* The trainer's part: seeds, steps, rows of the step and the evaluation's counter. */
static void the_trainer_counts_steps_and_rows(void **state) {
    (void)state;
    const struct fpl_kernels k = spy_table();
    const struct fpl_train_options o = {.kernels = &k, .threads = 1};
    struct fpl_config c[2] = {tiny(), tiny()};
    struct fpl_record records[2];
    struct fpl_error err = {FPL_OK, ""};
    for (int r = 0; r < 2; r++) {
        set(&c[r], "steps", "3");
        set(&c[r], "recipe", r == 0 ? "full:e4m3:sr/1x8" : "bf16");
        set(&c[r], "seed", r == 0 ? "41" : "42");
    }
    struct fpl_data *d = open_data(c);
    if (fpl_train(c, 2, d, &o, records, &err) != FPL_OK) fail_msg("%s", err.text);
    size_t forward = 0;
    /* Block products of the trainer's batch: 3 steps of 2 micro-batches of 32 rows, then the
     * evaluation's 512 rows at once. 8 forward calls and the head's in each. */
    for (size_t i = 0; i < call_count; i++) {
        if (calls[i].g.role != FPL_FORWARD || calls[i].qa[0].plan.identity) continue;
        const size_t pass = forward++ / 8;
        const uint32_t step = pass < 6 ? (uint32_t)(pass / 2) : FPL_EVAL_STEP + 3;
        const int64_t row = pass < 6 ? (int64_t)(pass % 2) * 32 : 0;
        assert_int_equal(calls[i].g.n, pass < 6 ? 32 : 512);
        for (int r = 0; r < 2; r++) {
            assert_true(calls[i].qa[r].at.seed == (r == 0 ? 41u : 42u));
            assert_int_equal(calls[i].qa[r].at.step, step);
            assert_true(calls[i].qa[r].at.element == (uint64_t)(row * calls[i].g.I));
            assert_true(calls[i].qb[r].at.element == 0);
            assert_int_equal(calls[i].qa[r].plan.round.mode, r == 0 ? FPL_SR : FPL_RNE);
        }
    }
    assert_int_equal(forward, 7 * 8);
    for (int r = 0; r < 2; r++) fpl_record_free(&records[r]);
    fpl_data_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_operand_is_its_slot_of_the_recipe),
                                       cmocka_unit_test(an_evaluation_draws_its_own_bits),
                                       cmocka_unit_test(no_two_operands_share_a_stream),
                                       cmocka_unit_test(the_version_changes_with_the_weights_only),
                                       cmocka_unit_test(the_trainer_counts_steps_and_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
