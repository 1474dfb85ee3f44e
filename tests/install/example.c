/* example.c - libfplaw from outside: parse a quantizer, quantize an array, print the measures. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fplaw/formats/measure.h>
#include <fplaw/kernels/kernels.h>

int main(int argc, char **argv) {
    enum { ROWS = 64, COLS = 512 };
    struct fpl_error err;
    struct fpl_quantizer q;
    struct fpl_operand operand;
    struct fpl_quantizer_measure m;
    struct fpl_device *dev;
    const struct fpl_kernels *cpu = fpl_backend("cpu");
    const struct fpl_device_options options = {.threads = 2};
    memset(&operand, 0, sizeof operand);
    if (fpl_quantizer_parse(argc > 1 ? argv[1] : "e2m1/1x32:e8m0", &q, &err) != FPL_OK ||
        cpu->open(&dev, &options, &err) != FPL_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 2;
    }
    float *x = cpu->alloc(dev, ROWS * COLS * sizeof *x), *out = cpu->alloc(dev, ROWS * COLS * sizeof *out);
    if (cpu->check(dev, &err) != FPL_OK) return 1;
    for (int i = 0; i < ROWS * COLS; i++) x[i] = (float)(i * 2654435761u % 20011u) / 10000.0f - 1.0f;
    fpl_quantizer_lower(&q, NULL, &operand.plan);
    cpu->quantize(dev, 1, ROWS, COLS, &operand, x, out, NULL);
    fpl_quantizer_measure(&q, ROWS, COLS, x, out, &m);
    printf("%.17g bits, SQNR %.17g dB, underflow %.17g\n", m.bits_per_value, m.sqnr_db, m.underflow);
    cpu->release(dev, x), cpu->release(dev, out), cpu->close(dev);
    return 0;
}
