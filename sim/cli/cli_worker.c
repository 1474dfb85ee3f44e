/* cli_worker.c - `fplaw worker DEVICE PARENT`: the child process of a study (study/worker.c).
 * Not for people: it speaks lines on standard input and output. */
#include <stdio.h>
#include <stdlib.h>

#include "../study/study.h"
#include "cli.h"

int fpl_cmd_worker(int argc, char **argv) {
    struct fpl_error err = {FPL_OK, ""};
    int number = -1;
    if (argc != 3) {
        fpl_fail(&err, FPL_INVALID, "worker: started by `fplaw study` only");
        return fpl_cli_fail(&err);
    }
    fpl_cli_catch_signals();
    struct fpl_worker_options options = {.parent = atoi(argv[2]),
                                         .train = fpl_train,
                                         .measure = fpl_train_measure,
                                         .revision = fpl_cli_revision,
                                         .stop = &fpl_cli_signal};
    enum fpl_code code = fpl_backend_choose(argv[1], &options.kernels, &number, &err);
    if (code != FPL_OK) return fpl_cli_fail(&err);
    code = fpl_study_serve(stdin, stdout, &options, &err);
    if (code == FPL_STOPPED) return fpl_cli_signal == SIGTERM ? 143 : 130;
    return code == FPL_OK ? 0 : fpl_cli_fail(&err);
}
