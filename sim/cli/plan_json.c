/* plan_json.c - a plan as one JSON object (plan.h). */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "plan.h"

static json_t *number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

static json_t *estimate(const struct fpl_estimate *e) {
    if (isnan(e->value)) return json_null();
    json_t *o = json_object();
    json_object_set_new(o, "value", isinf(e->value) ? json_string("none") : number(e->value));
    json_object_set_new(o, "lo", number(e->lo));
    json_object_set_new(o, "hi", number(e->hi));
    return o;
}

static json_t *row_of(const struct plan_asked *a, const struct fpl_plan_row *r) {
    json_t *o = json_object();
    json_object_set_new(o, "format", json_string(r->format->name));
    json_object_set_new(o, "block", number(r->format->block));
    json_object_set_new(o, "speed", number(r->format->speed));
    json_object_set_new(o, "possible", json_boolean(r->possible));
    json_object_set_new(o, "note", json_string(r->note));
    if (!r->possible) return o;
    const struct {
        const char *name;
        const struct fpl_estimate *value;
    } rows[] = {{"N", &r->N},
                {"D", &r->D},
                {"loss", &r->loss},
                {"lr", &r->lr},
                {"batch_tokens", &r->batch_tokens},
                {"D_crit", &r->D_crit},
                {"log_loss_above_best", &r->gap},
                {"log_loss_above_best_one_run_each", &r->gap_run},
                {"exponent_N", &r->exponent_N},
                {"break_even_speed", &r->break_even},
                {"same_N", &r->same_N},
                {"same_D", &r->same_D},
                {"same_compute", &r->same_C}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        json_object_set_new(o, rows[i].name, estimate(rows[i].value));
    json_object_set_new(o, "tokens_per_parameter", number(r->at.D / r->at.N));
    json_object_set_new(o, "share_best", number(r->share_best));
    json_object_set_new(o, "within_noise", json_boolean(r->within_noise));
    json_object_set_new(o, "within_run_noise", json_boolean(r->within_run_noise));
    json_object_set_new(o, "N_under_quarter_percent",
                        json_pack("[o,o]", number(r->flat_N[0]), number(r->flat_N[1])));
    json_object_set_new(o, "spent", number(r->at.spent));
    json_object_set_new(o, "memory", number(fpl_plan_memory(r->format, &a->limits, r->at.N)));
    json_object_set_new(o, "outside", number(r->outside));
    return o;
}

static json_t *plans(const struct plan_asked *a, const struct plan_answer *p) {
    json_t *list = json_array();
    for (size_t k = 0; k < p->plans; k++) {
        json_t *o = json_object(), *rows = json_array();
        json_object_set_new(o, "flop", number(p->plan[k].flop));
        for (size_t i = 0; i < p->plan[k].rows; i++)
            json_array_append_new(rows, row_of(a, &p->plan[k].row[i]));
        json_object_set_new(o, "formats", rows);
        if (p->has_bits) {
            const struct fpl_plan_bits *b = &p->bits[k];
            json_object_set_new(o, "bits",
                                json_pack("{s:o,s:o,s:o}", "bits", estimate(&b->bits), "N", estimate(&b->N),
                                          "D", estimate(&b->D)));
        }
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *isoflops(const struct plan_answer *p) {
    json_t *list = json_array();
    for (size_t i = 0; i < p->isoflops; i++) {
        const struct fpl_isoflop *r = &p->isoflop[i];
        json_array_append_new(list,
                              json_pack("{s:o,s:o,s:o,s:o}", "N", number(r->N), "D", number(r->D), "loss",
                                        estimate(&r->loss), "log_loss_above_best", estimate(&r->above)));
    }
    return list;
}

static json_t *others(const struct plan_answer *p) {
    json_t *list = json_array();
    for (size_t i = 0; i < p->others; i++)
        json_array_append_new(list, json_pack("{s:s,s:o,s:o,s:o}", "law", p->other[i].law, "N",
                                              number(p->other[i].at.N), "D", number(p->other[i].at.D), "loss",
                                              number(p->other[i].at.loss)));
    return list;
}

static json_t *splits(const struct fpl_fit *fit) {
    struct fpl_split s;
    json_t *list = json_array();
    for (int bits = 2; bits <= 16 && fpl_fit_split(fit, bits, &s); bits++)
        json_array_append_new(list, json_pack("{s:i,s:i,s:i,s:o,s:o}", "bits", bits, "E", s.E, "M", s.M,
                                              "E_opt", estimate(&s.E_opt), "share", number(s.share)));
    return list;
}

enum fpl_code plan_print_json(const struct plan_asked *a, const struct plan_answer *p,
                              struct fpl_error *err) {
    json_t *o = json_object(), *cannot = json_array();
    const char *sentence;
    for (size_t i = 0; (sentence = plan_cannot(p, i)) != NULL; i++)
        json_array_append_new(cannot, json_string(sentence));
    json_object_set_new(o, "schema", json_string("fplaw-plan/1"));
    json_object_set_new(o, "law", json_string(fpl_law_name(fpl_fit_law(p->fit))));
    json_object_set_new(o, "resamples", json_integer(fpl_fit_vectors(p->fit)));
    json_object_set_new(o, "budgets", plans(a, p));
    if (p->has_allocation)
        json_object_set_new(
            o, "allocation",
            json_pack("{s:o,s:o}", "N", estimate(&p->allocation.N), "D", estimate(&p->allocation.D)));
    if (p->others > 0) json_object_set_new(o, "other_laws", others(p));
    if (p->isoflops > 0) json_object_set_new(o, "isoflop", isoflops(p));
    if (p->has_bits) json_object_set_new(o, "best_split", splits(p->fit));
    json_object_set_new(o, "cannot", cannot);
    char *text = json_dumps(o, JSON_REAL_PRECISION(17) | JSON_PRESERVE_ORDER);
    json_decref(o);
    if (text == NULL) return fpl_fail(err, FPL_SYSTEM, "plan: out of memory");
    printf("%s\n", text);
    free(text);
    return FPL_OK;
}
