// The threads of a CUDA block as fibers: one processor core plays a whole streaming multiprocessor.
//
// A fiber is a thread that is never interrupted: it runs until it waits at a barrier, hands the processor
// back, and goes on when every thread that the barrier waits for has come. So the scheduler, at the end of
// this file, decides who runs when, and a kernel that is right only for one order of its threads shows it.
//
// A fiber is started with ucontext and afterwards switched with _setjmp and _longjmp, which cost no system
// call.
#pragma once

#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

struct uint3 {
    unsigned x, y, z;
};
using dim3 = uint3;

static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
static const int warpSize = 32;

namespace shim {

const int MOST_THREADS = 1024;
#ifdef __SANITIZE_ADDRESS__
const size_t STACK = 256 << 10;  // the sanitizer's frames are large
#else
const size_t STACK = 64 << 10;
#endif

// --- one thread ---

// What a lane shows the others of its warp in an exchange: up to 8 registers.
struct Words {
    unsigned bits[8];
};

enum State { READY, AT_BLOCK_BARRIER, AT_WARP_BARRIER, DONE };

struct Fiber {
    jmp_buf place;  // where it stopped
    bool started;   // has it a place at all?
    State state;
    uint3 index;       // its threadIdx
    int line;          // of the barrier where it waits
    unsigned mask;     // the lanes that the warp barrier waits for
    Words offered;     // what it shows them
    void* fake_stack;  // the sanitizer's notes about its stack
};

static Fiber fibers[MOST_THREADS];
static Words shown[MOST_THREADS];  // what each lane offered in the last exchange that came about
static int threads;                // how many the block has
static Fiber* current;
static jmp_buf scheduler;
static char* stacks;

static const char* kernel_name;
static void (*kernel)(void** arguments);
static void** arguments;  // addresses of the values, as cuLaunchKernel takes them

// --- switching; AddressSanitizer wants to be told which stack is in use ---

#ifdef __SANITIZE_ADDRESS__
static void* scheduler_notes;
static const void* scheduler_stack;
static size_t scheduler_size;
static void leave_for(Fiber& fiber) {
    __sanitizer_start_switch_fiber(&scheduler_notes, stacks + STACK * (&fiber - fibers), STACK);
}
static void back_in_scheduler() { __sanitizer_finish_switch_fiber(scheduler_notes, nullptr, nullptr); }
static void leave_for_scheduler() {
    __sanitizer_start_switch_fiber(&current->fake_stack, scheduler_stack, scheduler_size);
}
static void back_in_fiber() {
    __sanitizer_finish_switch_fiber(current->fake_stack, &scheduler_stack, &scheduler_size);
}
#else
static void leave_for(Fiber&) {}
static void back_in_scheduler() {}
static void leave_for_scheduler() {}
static void back_in_fiber() {}
#endif

// Called by a fiber: give the processor back until the scheduler resumes this fiber.
static void stop(State state) {
    current->state = state;
    if (_setjmp(current->place) == 0) {
        leave_for_scheduler();
        _longjmp(scheduler, 1);
    }
    back_in_fiber();
}

// The life of a fiber: one thread of one block after the other.
static void live() {
    back_in_fiber();
    for (;;) {
        kernel(arguments);
        stop(DONE);
    }
}

static void start(Fiber& fiber) {
    static ucontext_t context;  // static: nobody comes back to this stack frame to clear it away
    getcontext(&context);
    context.uc_stack.ss_sp = stacks + STACK * (&fiber - fibers);
    context.uc_stack.ss_size = STACK;
    context.uc_link = nullptr;
    fiber.started = true;
    fiber.fake_stack = nullptr;
    makecontext(&context, live, 0);
    setcontext(&context);
}

// Called by the scheduler: run a fiber until it stops.
static void resume(Fiber& fiber) {
    current = &fiber;
    threadIdx = fiber.index;
    if (_setjmp(scheduler) == 0) {
        leave_for(fiber);
        if (fiber.started) _longjmp(fiber.place, 1);
        start(fiber);
    }
    back_in_scheduler();
}

// --- barriers ---

// Wait until all living threads of the block are here.
static void block_barrier(int line) {
    current->line = line;
    current->mask = 0;
    stop(AT_BLOCK_BARRIER);
}

// Show ``words`` to the lanes of ``mask`` and wait until all of them that live are here. Returns what the 32
// lanes of this warp have shown; a lane that did not take part has shown NaN.
static const Words* exchange(const Words& words, unsigned mask, int line) {
    current->line = line;
    current->mask = mask;
    current->offered = words;
    stop(AT_WARP_BARRIER);
    return shown + (current - fibers) / warpSize * warpSize;
}

// Threads that have returned are not waited for, nor are the lanes that a block's last warp does not have.
static bool release_block() {
    int line = 0;
    for (int i = 0; i < threads; ++i) {
        const Fiber& fiber = fibers[i];
        if (fiber.state == DONE) continue;
        if (fiber.state != AT_BLOCK_BARRIER || (line != 0 && fiber.line != line)) return false;
        line = fiber.line;
    }
    for (int i = 0; i < threads; ++i)
        if (fibers[i].state == AT_BLOCK_BARRIER) fibers[i].state = READY;
    return line != 0;
}

static bool same_exchange(const Fiber& a, const Fiber& b) {
    return a.state == AT_WARP_BARRIER && a.mask == b.mask && a.line == b.line;
}

// Are all lanes that this lane waits for at the same exchange?
static bool complete(int first, int lanes, const Fiber& waiting) {
    for (int lane = 0; lane < lanes; ++lane) {
        const Fiber& other = fibers[first + lane];
        if ((waiting.mask >> lane & 1) && other.state != DONE && !same_exchange(other, waiting)) return false;
    }
    return true;
}

static void release_lanes(int first, int lanes, unsigned mask) {
    for (int lane = 0; lane < lanes; ++lane) {
        if (!(mask >> lane & 1)) continue;
        Fiber& fiber = fibers[first + lane];
        if (fiber.state == DONE) {
            memset(&shown[first + lane], 0xff, sizeof(Words));
        } else {
            shown[first + lane] = fiber.offered;
            fiber.state = READY;
        }
    }
}

static int lanes_from(int first) { return threads - first < warpSize ? threads - first : warpSize; }

static bool release_warp(int first) {
    const int lanes = lanes_from(first);
    bool any = false;
    for (int lane = 0; lane < lanes; ++lane) {
        const Fiber& fiber = fibers[first + lane];
        const bool own = fiber.mask >> lane & 1;
        if (fiber.state != AT_WARP_BARRIER || !own || !complete(first, lanes, fiber)) continue;
        release_lanes(first, lanes, fiber.mask);
        any = true;
    }
    return any;
}

// --- the scheduler ---

enum Order { FORWARD, REVERSE, SHUFFLED };

static unsigned random_state;

static unsigned random_below(unsigned bound) {  // xorshift32
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state % bound;
}

static void arrange(unsigned* turns, unsigned count, Order order) {
    for (unsigned i = 0; i < count; ++i) turns[i] = order == REVERSE ? count - 1 - i : i;
    if (order != SHUFFLED) return;
    for (unsigned i = count; i > 1; --i) {
        const unsigned other = random_below(i), kept = turns[i - 1];
        turns[i - 1] = turns[other];
        turns[other] = kept;
    }
}

// Let ``count`` threads run, each until it waits or ends.
static void run_threads(int first, int count, Order order) {
    static unsigned turns[MOST_THREADS];
    arrange(turns, count, order);
    for (int i = 0; i < count; ++i)
        if (fibers[first + turns[i]].state == READY) resume(fibers[first + turns[i]]);
}

// One warp goes on as far as the barriers of the block let it, then the next one. So where a barrier is
// missing, warps overtake each other.
static void run_warp_after_warp(Order order) {
    const int last = (threads - 1) / warpSize;
    for (int i = 0; i <= last; ++i) {
        const int first = (order == REVERSE ? last - i : i) * warpSize;
        do run_threads(first, lanes_from(first), order);
        while (release_warp(first));
    }
}

// All warps go on together, their threads mixed.
static void run_hand_in_hand() {
    bool any;
    do {
        run_threads(0, threads, SHUFFLED);
        any = false;
        for (int first = 0; first < threads; first += warpSize) any |= release_warp(first);
    } while (any);
}

// Until all threads have ended, or none can go on.
static bool run_to_the_end(Order order) {
    do {
        if (order == SHUFFLED) run_hand_in_hand();
        else run_warp_after_warp(order);
    } while (release_block());
    for (int i = 0; i < threads; ++i)
        if (fibers[i].state != DONE) return false;
    return true;
}

}  // namespace shim
