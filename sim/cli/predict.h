/* predict.h - the NAME=VALUE of `fplaw predict` as a question to a law. */
#ifndef FPL_CLI_PREDICT_H
#define FPL_CLI_PREDICT_H

#include "../law/law.h"

struct predict_question {
    struct fpl_question question;
    unsigned char given[FPL_VARIABLES]; /* named on the command line */
    int flop_given, format_given, schedule_given;
    int at_optimum;            /* of the budget: N and D are not given */
    const char *schedule_name; /* as asked; NULL: none */
    int schedule_drawn;        /* 0: lr= or steps= is missing, which only laws of loss curves need */
    double *points;            /* of the schedule: steps, then rates */
    struct fpl_schedule schedule;
};

void predict_question_clear(struct predict_question *p);
void predict_question_free(struct predict_question *p);
/* From "NAME=VALUE" texts. */
enum fpl_code predict_settings(const char *const *setting, int count, struct predict_question *out,
                               struct fpl_error *err);
/* The question to one fit: with a budget alone, at its optimum. */
enum fpl_code predict_at_optimum(const struct predict_question *asked, const struct fpl_fit *fit,
                                 struct fpl_question *question, struct fpl_error *err);
/* Does the schedule asked for differ from that of the fit's runs?  A sentence, or "". */
void predict_schedule_warning(const struct predict_question *p, const struct fpl_fit *fit, char *text,
                              size_t size);

/* Losses of the forms in a file that fit about as well as the best of those that answer (predict_forms.c). */
#define PREDICT_FORMS 16
struct predict_forms {
    size_t count;
    const char *law[PREDICT_FORMS];
    double loss[2]; /* least and largest */
};
void predict_ask_forms(struct fpl_fit *const *fits, size_t count, const struct fpl_question *question,
                       struct predict_forms *out);

/* Is everything there that the laws need, and does some law take what is given? */
enum fpl_code predict_check(const struct predict_question *p, const struct fpl_law *const *laws, size_t count,
                            struct fpl_error *err);

#endif
