/* main.c - the program `fplaw`: one row per command, dispatch, --help and --version. */
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../../kernels/kernels.h"
#include "../base/config.h"
#include "cli.h"
#include "revision.h"

const char *const fpl_cli_version = FPL_VERSION;
const char *const fpl_cli_revision = FPL_REVISION;

const struct fpl_command fpl_commands[] = {
    {"formats", "list number formats, or describe some", fpl_cmd_formats},
    {"quantize", "round a file of float32 values", fpl_cmd_quantize},
    {"data", "turn text into token shards", fpl_cmd_data},
    {"train", "train one model", fpl_cmd_train},
    {"study", "run what is missing of a study, or export its table", fpl_cmd_study},
    {"fit", "fit scaling laws to a study or a table", fpl_cmd_fit},
    {"predict", "ask a fitted or published law", fpl_cmd_predict},
    {"plan", "size, data, format, learning rate and batch for a budget; which runs next", fpl_cmd_plan},
    {"report", "draw a study and its fits as one HTML file", fpl_cmd_report},
    {"bench", "measure speed against limits and peers", fpl_cmd_bench},
    {NULL, NULL, NULL},
};

static void print_help(void) {
    printf("Usage: fplaw COMMAND [ARGUMENT...]\n\n"
           "What does a number format cost in training, and what should I run?\n"
           "fplaw trains small transformers in emulated number formats, sweeps them, fits the\n"
           "floating-point quantization scaling law with its learning-rate and batch optima,\n"
           "and answers from the fit.\n\nCommands:\n");
    for (const struct fpl_command *c = fpl_commands; c->name != NULL; c++)
        printf("  %-10s %s\n", c->name, c->summary);
    printf("\n`fplaw COMMAND --help` describes a command; `fplaw --version` this build.\n");
}

static void print_version(void) {
    printf("fplaw %s (revision %s), numerics %d\nbackends:", FPL_VERSION, FPL_REVISION, FPL_NUMERICS);
    for (const char *const *b = fpl_backend_names; *b != NULL; b++) printf(" %s", *b);
    for (const char *const *b = fpl_backend_names; *b != NULL; b++) {
        const struct fpl_kernels *k = fpl_backend(*b);
        char text[512];
        if (k->about == NULL) continue;
        k->about(text, sizeof text);
        printf("\n%s: %s", *b, text);
    }
    printf(
        "\nSIMD level: %s\nBLAS core: own (fused-multiply-add chains; OpenBLAS is a peer of `bench` only)\n",
        fpl_simd_level());
}

static int unknown_command(const char *name) {
    const char *names[32];
    size_t count = 0;
    for (const struct fpl_command *c = fpl_commands; c->name != NULL && count < 31; c++)
        names[count++] = c->name;
    names[count] = NULL;
    const char *near = fpl_nearest_word(name, names);
    struct fpl_error err = {FPL_OK, ""};
    if (near != NULL)
        fpl_fail(&err, FPL_INVALID, "unknown command '%s'; did you mean '%s'?", name, near);
    else
        fpl_fail(&err, FPL_INVALID, "unknown command '%s'; `fplaw --help` lists them", name);
    return fpl_cli_fail(&err);
}

/* A closed standard descriptor would be given to the first file that is opened, and output
 * meant for a screen would land in a study's database.  It is opened the wrong way round, so
 * that its use still fails. */
static void hold_standard_descriptors(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0) (void)!open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

int main(int argc, char **argv) {
    hold_standard_descriptors();
    signal(SIGXFSZ, SIG_IGN); /* a file beyond the limit is an error of the write */
    setlocale(LC_ALL, "C");
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_simd_check(&err) != FPL_OK) return fpl_cli_fail(&err);
    if (argc < 2) {
        fpl_fail(&err, FPL_INVALID, "no command given; `fplaw --help` lists them");
        return fpl_cli_fail(&err);
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help();
        return fpl_cli_flush(0);
    }
    if (strcmp(name, "--version") == 0) {
        print_version();
        return fpl_cli_flush(0);
    }
    if (strcmp(name, "worker") == 0) return fpl_cmd_worker(argc - 1, argv + 1);
    for (const struct fpl_command *c = fpl_commands; c->name != NULL; c++)
        if (strcmp(name, c->name) == 0) return fpl_cli_flush(c->run(argc - 1, argv + 1));
    return unknown_command(name);
}
