/* host.cc - executes CUDA kernels on the host: blocks in turn, threads as fibres.
 *
 * A fibre is a stack and a saved stack pointer; switching saves the six registers that the
 * System V ABI preserves, which costs a few nanoseconds where ucontext's system calls cost
 * hundreds.  The scheduler passes over the block's threads in the chosen order and runs each that
 * may run, until all have ended; a pass in which none could is a deadlock.
 *
 * A barrier is passed when every thread that has not ended waits at it.  A warp collective is
 * passed when every lane of the mask waits in it; the lane that comes last computes for all
 * (fpl_host_warp), so that no lane can run ahead and overwrite what another has yet to read.
 */
#include "cuda_on_host.h"

#include <stdio.h>
#include <stdlib.h>

#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define FIBRE_ASAN 1
#else
#define FIBRE_ASAN 0
#endif

fpl_host_thread fpl_host_now;

/* ---- fibres ------------------------------------------------------------------------------------ */

#if !defined(__x86_64__)
#error "host execution needs a fibre switch for this processor: System V x86-64 is written"
#endif

extern "C" void fpl_fibre_switch(void **save, void *load);
asm(".text\n"
    ".globl fpl_fibre_switch\n"
    ".type fpl_fibre_switch,@function\n"
    "fpl_fibre_switch:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n"
    "  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
    "  ret\n"
    ".size fpl_fibre_switch, .-fpl_fibre_switch\n");

namespace {

const size_t stack_bytes = FIBRE_ASAN ? 256 * 1024 : 64 * 1024;

enum state { READY, AT_BARRIER, IN_WARP, ENDED };

struct fibre {
    state what = READY;
    void *sp = nullptr;
    char *stack = nullptr; /* nullptr: not started */
    uint3 thread;
    unsigned mask = 0; /* of the collective it waits in */
    fpl_host_together *together = nullptr;
    void *mine = nullptr;
    void *fake = nullptr; /* the sanitizer's */
};

struct shared_memory {
    const void *declaration;
    void *data;
};

/* The block that runs. */
struct block_run {
    const char *kernel = "";
    std::vector<fibre> fibres;
    std::vector<unsigned> order;
    std::vector<unsigned> waiting; /* in a collective, per warp */
    std::vector<char *> free_stacks;
    std::vector<shared_memory> shared;
    std::function<void()> *body = nullptr;
    unsigned now = 0, ended = 0, at_barrier = 0;
    int any = 0, any_last = 0; /* of __syncthreads_or */
    void *scheduler_sp = nullptr, *scheduler_fake = nullptr;
    const void *scheduler_stack = nullptr;
    size_t scheduler_size = 0;
    ~block_run() {
        for (char *s : free_stacks) free(s);
    }
} run;

int order_kind = FPL_HOST_FORWARD;
uint64_t order_seed = 1;
void (*on_failure)(const char *) = nullptr;

void before_switch(void **fake, const void *bottom, size_t size) {
#if FIBRE_ASAN
    __sanitizer_start_switch_fiber(fake, bottom, size);
#else
    (void)fake, (void)bottom, (void)size;
#endif
}

void after_switch(void *fake, const void **bottom, size_t *size) {
#if FIBRE_ASAN
    __sanitizer_finish_switch_fiber(fake, bottom, size);
#else
    (void)fake, (void)bottom, (void)size;
#endif
}

/* From the fibre that runs back to the scheduler. */
void leave(int for_ever) {
    fibre *f = &run.fibres[run.now];
    before_switch(for_ever ? nullptr : &f->fake, run.scheduler_stack, run.scheduler_size);
    fpl_fibre_switch(&f->sp, run.scheduler_sp);
    after_switch(f->fake, &run.scheduler_stack, &run.scheduler_size);
}

extern "C" void fpl_fibre_main(void) {
    after_switch(nullptr, &run.scheduler_stack, &run.scheduler_size);
    (*run.body)();
    run.fibres[run.now].what = ENDED;
    leave(1);
}

void start(fibre *f) {
    if (run.free_stacks.empty()) {
        f->stack = static_cast<char *>(aligned_alloc(64, stack_bytes));
        if (f->stack == nullptr) fpl_host_fail("out of memory for fibres");
    } else {
        f->stack = run.free_stacks.back();
        run.free_stacks.pop_back();
    }
    /* At entry a function's stack pointer is 8 below a multiple of 16. */
    void **top = reinterpret_cast<void **>(f->stack + stack_bytes) - 3;
    *top = nullptr;
    *--top = reinterpret_cast<void *>(&fpl_fibre_main);
    top -= 6;
    memset(top, 0, 6 * sizeof *top);
    f->sp = top;
}

void resume(unsigned i) {
    fibre *f = &run.fibres[i];
    if (f->stack == nullptr) start(f);
    run.now = i;
    fpl_host_now.thread = f->thread;
    before_switch(&run.scheduler_fake, f->stack, stack_bytes);
    fpl_fibre_switch(&run.scheduler_sp, f->sp);
    after_switch(run.scheduler_fake, nullptr, nullptr);
    if (f->what == ENDED) {
        run.free_stacks.push_back(f->stack);
        f->stack = nullptr;
        run.ended++;
    }
}

/* ---- one block ------------------------------------------------------------------------------------ */

uint64_t next_random(void) {
    order_seed += 0x9e3779b97f4a7c15u;
    uint64_t z = order_seed;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* FPLAW_HOST_ORDER=forward|reversed|shuffled: the order of a program that does not choose one. */
void order_from_environment(void) {
    static int asked = 0;
    const char *wish = getenv("FPLAW_HOST_ORDER");
    if (asked++ || wish == nullptr) return;
    if (strcmp(wish, "reversed") == 0)
        order_kind = FPL_HOST_REVERSED;
    else if (strcmp(wish, "shuffled") == 0)
        order_kind = FPL_HOST_SHUFFLED;
    else if (strcmp(wish, "forward") != 0)
        fpl_host_fail("FPLAW_HOST_ORDER is none of forward, reversed, shuffled");
}

/* 0 .. count-1 in the chosen order. */
void arrange(std::vector<unsigned> &out, unsigned count) {
    out.resize(count);
    for (unsigned i = 0; i < count; i++) out[i] = order_kind == FPL_HOST_REVERSED ? count - 1 - i : i;
    if (order_kind != FPL_HOST_SHUFFLED) return;
    for (unsigned i = count; i > 1; i--) std::swap(out[i - 1], out[next_random() % i]);
}

/* Warps in the chosen order, and inside each its lanes: a shuffle of all threads at once would
 * rarely let one warp run far ahead of another. */
void arrange_threads(unsigned threads) {
    const unsigned warps = (threads + 31) / 32;
    std::vector<unsigned> warp, lane;
    arrange(warp, warps);
    run.order.clear();
    for (unsigned w : warp) {
        const unsigned lanes = threads - w * 32 < 32 ? threads - w * 32 : 32;
        arrange(lane, lanes);
        for (unsigned l : lane) run.order.push_back(w * 32 + l);
    }
}

void release_barrier(void) {
    if (run.at_barrier == 0 || run.at_barrier + run.ended < run.fibres.size()) return;
    for (fibre &f : run.fibres)
        if (f.what == AT_BARRIER) f.what = READY;
    run.at_barrier = 0;
    run.any_last = run.any;
    run.any = 0;
}

/* Warps stay together: all lanes of a warp that can run do so, again and again, before the next
 * warp's first, so that a missing block barrier shows. */
int pass_over_warps(void) {
    int progress = 0;
    for (size_t first = 0; first < run.order.size();) {
        size_t end = first;
        const unsigned warp = run.order[first] / 32;
        while (end < run.order.size() && run.order[end] / 32 == warp) end++;
        for (int again = 1; again;) {
            again = 0;
            for (size_t k = first; k < end; k++)
                if (run.fibres[run.order[k]].what == READY) {
                    resume(run.order[k]);
                    progress = again = 1;
                }
        }
        first = end;
    }
    return progress;
}

void free_shared(void) {
    for (shared_memory &s : run.shared) free(s.data);
    run.shared.clear();
}

void add_shared(const void *declaration, size_t bytes) {
    void *data = malloc(bytes == 0 ? 1 : bytes);
    if (data == nullptr) fpl_host_fail("out of memory for shared memory");
    memset(data, 0xff, bytes);
    run.shared.push_back({declaration, data});
}

void run_block(size_t shared, std::function<void()> &body) {
    const dim3 t = fpl_host_now.threads;
    const unsigned threads = t.x * t.y * t.z;
    run.fibres.assign(threads, fibre());
    run.waiting.assign((threads + 31) / 32, 0);
    for (unsigned i = 0; i < threads; i++) run.fibres[i].thread = {i % t.x, i / t.x % t.y, i / t.x / t.y};
    run.body = &body;
    run.ended = run.at_barrier = 0;
    run.any = 0;
    add_shared(nullptr, shared);
    arrange_threads(threads);
    while (run.ended < threads) {
        const int progress = pass_over_warps();
        release_barrier();
        if (!progress) fpl_host_fail("deadlock: threads wait for others that ended or wait elsewhere");
    }
    free_shared();
}

} // namespace

void fpl_host_run_grid(const char *kernel, dim3 grid, dim3 block, size_t shared, std::function<void()> body) {
    std::vector<unsigned> blocks;
    order_from_environment();
    arrange(blocks, grid.x * grid.y * grid.z);
    run.kernel = kernel;
    fpl_host_now.threads = block;
    fpl_host_now.blocks = grid;
    for (unsigned b : blocks) {
        fpl_host_now.block = {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
        run_block(shared, body);
    }
    run.kernel = "";
}

void fpl_host_order(int order, uint64_t seed) {
    order_kind = order;
    order_seed = seed;
}

void fpl_host_on_failure(void (*handler)(const char *)) { on_failure = handler; }

void fpl_host_fail(const char *what) {
    char text[512];
    snprintf(text, sizeof text, "host execution: kernel %s, block (%u, %u, %u): %s", run.kernel,
             fpl_host_now.block.x, fpl_host_now.block.y, fpl_host_now.block.z, what);
    if (on_failure != nullptr) on_failure(text);
    fprintf(stderr, "%s\n", text);
    abort();
}

void *fpl_host_shared(const void *declaration, size_t bytes) {
    for (shared_memory &s : run.shared)
        if (s.declaration == declaration) return s.data;
    add_shared(declaration, bytes);
    return run.shared.back().data;
}

/* ---- barriers and collectives ------------------------------------------------------------------------ */

void __syncthreads(void) {
    run.fibres[run.now].what = AT_BARRIER;
    run.at_barrier++;
    leave(0);
}

int __syncthreads_or(int predicate) {
    run.any |= predicate != 0;
    __syncthreads();
    return run.any_last;
}

unsigned fpl_host_lane(void) { return run.now % 32; }

static void wait_in_warp(fibre *me, unsigned mask, fpl_host_together *together, void *mine) {
    run.waiting[run.now / 32]++;
    me->what = IN_WARP;
    me->mask = mask;
    me->together = together;
    me->mine = mine;
    leave(0);
}

void fpl_host_warp(unsigned mask, fpl_host_together *together, void *mine) {
    const unsigned first = run.now / 32 * 32;
    fibre *me = &run.fibres[run.now];
    if (!(mask >> (run.now % 32) & 1u)) fpl_host_fail("a lane is in a collective whose mask leaves it out");
    unsigned &waiting = run.waiting[first / 32];
    /* While too few wait to make up the mask there is nothing to look at, if all lanes are there to come. */
    const unsigned wanted = static_cast<unsigned>(__builtin_popcount(mask));
    if (waiting + 1 < wanted && run.ended == 0 && first + 32 <= run.fibres.size()) {
        wait_in_warp(me, mask, together, mine);
        return;
    }
    void *lanes[32] = {nullptr};
    unsigned here = 1u << (run.now % 32);
    lanes[run.now % 32] = mine;
    for (unsigned l = 0; l < 32; l++) {
        if (!(mask >> l & 1u) || first + l == run.now) continue;
        if (first + l >= run.fibres.size()) fpl_host_fail("a mask names a lane that the block does not have");
        const fibre *f = &run.fibres[first + l];
        if (f->what == ENDED) fpl_host_fail("a lane of the mask has ended");
        if (f->what != IN_WARP) continue;
        if (f->mask != mask || f->together != together)
            fpl_host_fail("lanes of one warp are in different collectives");
        lanes[l] = f->mine;
        here |= 1u << l;
    }
    if (here == mask) {
        together(lanes, mask);
        for (unsigned l = 0; l < 32; l++)
            if (mask >> l & 1u) run.fibres[first + l].what = READY;
        waiting -= wanted - 1;
        return;
    }
    wait_in_warp(me, mask, together, mine);
}

static void meet(void *const lane[32], unsigned mask) { (void)lane, (void)mask; }

void __syncwarp(unsigned mask) {
    char nothing = 0;
    fpl_host_warp(mask, meet, &nothing);
}

struct vote {
    int predicate;
    unsigned result;
};

static void count_votes(void *const lane[32], unsigned mask) {
    unsigned result = 0;
    for (unsigned l = 0; l < 32; l++)
        if (mask >> l & 1u)
            result |= static_cast<unsigned>(static_cast<vote *>(lane[l])->predicate != 0) << l;
    for (unsigned l = 0; l < 32; l++)
        if (mask >> l & 1u) static_cast<vote *>(lane[l])->result = result;
}

unsigned __ballot_sync(unsigned mask, int predicate) {
    vote v = {predicate, 0};
    fpl_host_warp(mask, count_votes, &v);
    return v.result;
}
