/* test_host_sum_step.cc - the short ways of one product (kernels/cuda/accumulate_step.h) against the
 * definition (formats/accumulator.h), where rounding is hard: sums at a tie and next to it, at the smallest
 * normal and below, at the largest value and beyond, of cancelling terms, of terms far apart.
 *
 * Where a way says that it does not take a result, nothing is compared, but of sums well inside the format it
 * must take all: so a way that leaves everything to the definition fails.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../../kernels/cuda/accumulate_step.h"

static int failures;
static uint64_t state = 1;

static uint32_t draw(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(state >> 33);
}

static struct fpl_accumulator_plan plan_of(const char *text) {
    struct fpl_accumulator a;
    struct fpl_accumulator_plan plan;
    struct fpl_error err;
    if (fpl_accumulator_parse(text, &a, &err) != FPL_OK) {
        printf("%s\n", err.text);
        exit(1);
    }
    fpl_accumulator_lower(&a, &plan);
    return plan;
}

/* acc, a value of F, and a b near half a quantum of it or of the sum; all exact. */
struct sum {
    float acc, a, b;
    int inside; /* certainly a finite result of ordinary size */
};

static struct sum make(const struct fpl_round *f) {
    struct sum s;
    const int emax = fpl_exponent(f->largest), emin = f->emin;
    /* near the ends, or anywhere between */
    const int where = static_cast<int>(draw() % 4), span = emax - emin > 0 ? emax - emin : 1;
    int e = where == 0   ? emin - static_cast<int>(draw() % 3)
            : where == 1 ? emax - static_cast<int>(draw() % 3)
                         : emin + static_cast<int>(draw() % (uint32_t)span);
    e = e > 127 ? 127 : e < -140 ? -140 : e;
    const double x = ldexp(1.0 + (draw() & 0xffffff) * 0x1p-24, e) * (draw() & 1 ? 1 : -1);
    struct fpl_round nearest = *f;
    nearest.mode = FPL_RNE;
    nearest.overflow = FPL_SAT;
    s.acc = fpl_round_double(&nearest, x, 0);
    const int qe = (fpl_exponent(s.acc) > emin ? fpl_exponent(s.acc) : emin) - f->mbits;
    const int kind = static_cast<int>(draw() % 7), m = static_cast<int>(draw() % 8);
    double t = (m + 0.5) + (kind == 0   ? 0
                            : kind == 1 ? 0x1p-18
                            : kind == 2 ? -0x1p-18
                            : kind == 3 ? 0.25
                                        : 0.5);
    t = ldexp(t, qe) * (draw() & 1 ? 1 : -1);
    if (kind == 4) t = -static_cast<double>(s.acc) * (draw() & 1 ? 1.0 : 1.0 + 0x1p-20);
    if (kind == 5) t = ldexp(1.0 + (draw() & 0xfff) * 0x1p-12, qe - static_cast<int>(draw() % 60));
    if (kind == 6) t = copysign(ldexp(1.0 + (draw() & 0xfff) * 0x1p-12, emax), static_cast<double>(s.acc));
    const int half = static_cast<int>(draw() % 20) - (kind == 6 ? 0 : 10);
    /* A product with more bits than float32 has, sometimes. */
    s.b = static_cast<float>(ldexp(draw() % 3 ? 1.0 : 1.0 + 0x1p-11, half));
    s.a = static_cast<float>(ldexp(t, -half));
    s.inside = e > emin + 1 && e < emax - 2 && e < 120 && kind < 4;
    return s;
}

template <int WAY> static float by_way(const struct fpl_sum_fast *v, const struct sum *s, uint32_t *worst) {
    return fpl_sum_step<WAY>(v, s->acc, s->a, s->b, worst);
}

static float by(enum fpl_sum_way way, const struct fpl_sum_fast *v, const struct sum *s, uint32_t random,
                uint32_t *worst) {
    switch (way) {
    case FPL_SUM_TRUNCATED:
        return by_way<FPL_SUM_TRUNCATED>(v, s, worst);
    case FPL_SUM_BITS:
        return by_way<FPL_SUM_BITS>(v, s, worst);
    case FPL_SUM_CLAMPED:
        return by_way<FPL_SUM_CLAMPED>(v, s, worst);
    case FPL_SUM_WATCHED:
        return by_way<FPL_SUM_WATCHED>(v, s, worst);
    case FPL_SUM_DOWN:
        return by_way<FPL_SUM_DOWN>(v, s, worst);
    case FPL_SUM_RANDOM_BITS:
        return fpl_sum_random_bits(v, s->acc, s->a, s->b, random, worst);
    case FPL_SUM_RANDOM_DOUBLE:
        return static_cast<float>(fpl_sum_random_double(v, s->acc, s->a, s->b, random, worst));
    default:
        return by_way<FPL_SUM_CHAIN>(v, s, worst);
    }
}

static void compare(const char *text, enum fpl_sum_way want) {
    const struct fpl_accumulator_plan p = plan_of(text);
    struct fpl_sum_fast v;
    const enum fpl_sum_way way = fpl_sum_way_of(&p, 64, &v);
    if (way != want && failures++ < 10) printf("%s: way %d, expected %d\n", text, way, want);
    for (int i = 0; i < 40000; i++) {
        const struct sum s = make(&p.round);
        const uint32_t random = draw() & 0xffffu, used = random & ((1u << (p.round.sr_bits & 31)) - 1u);
        uint32_t worst = 0;
        const float got = by(way, &v, &s, random, &worst),
                    right = fpl_accumulate_each(&p.round, s.acc, s.a, s.b, used);
        const int taken = worst <= v.most;
        if ((taken && fpl_float_bits(got) == fpl_float_bits(right)) || (!taken && !s.inside)) continue;
        if (failures++ < 10)
            printf("%s: %a + %a * %a, random %x: %a (%s), by definition %a\n", text, (double)s.acc,
                   (double)s.a, (double)s.b, used, (double)got, taken ? "taken" : "not taken", (double)right);
    }
}

/* Groups of align in the two types of number, as one thread of the kernel makes them. */
template <typename T>
static float align(const struct fpl_accumulator_plan *p, float acc, const float *a, const float *b, int n,
                   uint32_t *worst) {
    const uint32_t bias = sizeof(T) == 4 ? 127u << 23 : 1023u << 20;
    T sum = acc;
    uint32_t most = sum == 0 ? 0u : fpl_sum_field(sum) + bias;
    for (int i = 0; i < n; i++)
        most =
            fpl_sum_larger(most, fpl_sum_field(static_cast<T>(a[i])) + fpl_sum_field(static_cast<T>(b[i])));
    const T c = fpl_sum_align_constant(most, p->fraction, T(0));
    sum = fpl_sum_align_term(c, sum, T(1), fpl_sum_sign(sum), 0u);
    for (int i = 0; i < n; i++) {
        const T x = a[i], y = b[i];
        sum += fpl_sum_align_term(c, x, y, fpl_sum_sign(x), fpl_sum_sign(y));
    }
    return static_cast<float>(fpl_sum_align_result(sum, p->fraction < 23 ? p->fraction : 23, worst));
}

static void compare_align(const char *text, enum fpl_sum_way want) {
    const struct fpl_accumulator_plan p = plan_of(text);
    struct fpl_sum_fast v;
    if (fpl_sum_way_of(&p, 64, &v) != want && failures++ < 10) printf("%s: not way %d\n", text, want);
    for (int i = 0; i < 20000; i++) {
        float a[32], b[32], acc = 0;
        const int spread = static_cast<int>(draw() % 30),
                  far = want == FPL_SUM_ALIGN_DOUBLE && draw() % 4 == 0;
        for (int j = 0; j < p.terms; j++) {
            a[j] = ldexpf(static_cast<float>(draw() % 4097) - 2048.0f,
                          -11 - static_cast<int>(draw() % (uint32_t)(spread + 1)));
            b[j] = draw() % 5 == 0 ? 0.0f : ldexpf(static_cast<float>(draw() & 0xffffff) - 0x1p23f, -23);
            if (far) a[j] = ldexpf(a[j], (i & 8 ? 60 : -100)), b[j] = ldexpf(b[j], (i & 8 ? 60 : -40));
        }
        if (draw() % 2) acc = fpl_accumulate_align(p.fraction, 0.0f, 1, a, 1, b, 1);
        if (draw() % 4 == 0) b[0] = 0.0f; /* the accumulator alone has the largest exponent, or nothing has */
        uint32_t worst = 0;
        const float got = want == FPL_SUM_ALIGN_FLOAT ? align<float>(&p, acc, a, b, p.terms, &worst)
                                                      : align<double>(&p, acc, a, b, p.terms, &worst),
                    right = fpl_accumulate_align(p.fraction, acc, p.terms, a, 1, b, 1);
        if (worst == 0 ? fpl_float_bits(got) == fpl_float_bits(right) : far) continue;
        if (failures++ < 10) printf("%s: %a, by definition %a\n", text, (double)got, (double)right);
    }
}

int main(void) {
    static const struct {
        const char *text;
        enum fpl_sum_way way;
    } cases[] = {{"fp32:rtz", FPL_SUM_TRUNCATED},
                 {"bf16:rtz", FPL_SUM_TRUNCATED},
                 {"bf16", FPL_SUM_BITS},
                 {"tf32", FPL_SUM_BITS},
                 {"e8m21ieee:ovf", FPL_SUM_BITS},
                 {"e5m10", FPL_SUM_CLAMPED},
                 {"e4m3fn", FPL_SUM_CLAMPED},
                 {"e2m1", FPL_SUM_CLAMPED},
                 {"e5m10:satp", FPL_SUM_CLAMPED},
                 {"e6m21", FPL_SUM_CLAMPED},
                 {"fp16", FPL_SUM_WATCHED},
                 {"e4m3fn:ovf", FPL_SUM_WATCHED},
                 {"e6m9ieee", FPL_SUM_CLAMPED},
                 {"fp16:rtz", FPL_SUM_DOWN},
                 {"fp16:rna", FPL_SUM_DOWN},
                 {"e5m10:rna", FPL_SUM_DOWN},
                 {"e2m1:rtz", FPL_SUM_DOWN},
                 {"bf16:sr", FPL_SUM_RANDOM_BITS},
                 {"tf32:sr8", FPL_SUM_RANDOM_BITS},
                 {"fp16:sr", FPL_SUM_RANDOM_DOUBLE},
                 {"e5m10:sr8", FPL_SUM_RANDOM_DOUBLE},
                 {"fp32:sr", FPL_SUM_RANDOM_DOUBLE},
                 {"fp32/4", FPL_SUM_CHAIN},
                 {"e7m22", FPL_SUM_EACH},
                 {"fp16:rup", FPL_SUM_EACH},
                 {"e4m3fnuz", FPL_SUM_EACH}};
    for (const auto &c : cases)
        if (c.way == FPL_SUM_EACH) {
            struct fpl_sum_fast v;
            const struct fpl_accumulator_plan p = plan_of(c.text);
            failures += fpl_sum_way_of(&p, 64, &v) != FPL_SUM_EACH;
        } else {
            compare(c.text, c.way);
        }
    for (const char *text : {"align:32,13", "align:16,13", "align:4,19", "align:1,1", "align:1,21"})
        compare_align(text, FPL_SUM_ALIGN_FLOAT);
    for (const char *text :
         {"align:8,24", "align:16,25", "align:32,25", "align:4,23", "align:32,38", "align:4,22"})
        compare_align(text, FPL_SUM_ALIGN_DOUBLE);
    printf("%d differences\n", failures);
    return failures != 0;
}
