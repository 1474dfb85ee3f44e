/* predict.h - the NAME=VALUE of `fplaw predict` as a question to a law. */
#ifndef FPL_CLI_PREDICT_H
#define FPL_CLI_PREDICT_H

#include "../law/law.h"

struct predict_question {
    struct fpl_question question;
    unsigned char given[FPL_VARIABLES]; /* named on the command line */
    int flop_given, format_given, schedule_given;
    double *points; /* of the schedule: steps, then rates */
    struct fpl_schedule schedule;
};

void predict_question_clear(struct predict_question *p);
void predict_question_free(struct predict_question *p);
/* From "NAME=VALUE" texts. */
enum fpl_code predict_settings(const char *const *setting, int count, struct predict_question *out,
                               struct fpl_error *err);
/* Is everything there that the laws need, and does some law take what is given? */
enum fpl_code predict_check(const struct predict_question *p, const struct fpl_law *const *laws, size_t count,
                            struct fpl_error *err);

#endif
