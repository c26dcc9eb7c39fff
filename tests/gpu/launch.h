// A launch: block after block, each with its shared memory spoilt first, and a table of arguments as
// cuLaunchKernel takes it.
#pragma once

#include <stdint.h>

#include <type_traits>
#include <utility>

#include "fibers.h"

// The linker gathers all __shared__ arrays in one section and gives these names to its two ends.
extern char __start_shared_memory[] __attribute__((weak, visibility("hidden")));
extern char __stop_shared_memory[] __attribute__((weak, visibility("hidden")));

namespace shim {

struct Launch {  // shim.py knows this layout
    unsigned grid[3], block[3];
    size_t shared;  // bytes of DYN_SHARED
    int order;
};

static unsigned char* dynamic_shared;
static char report[400];

// Fill with ones: every float of it is NaN, every int is -1. A plain loop, because the sanitizer would object
// to memset: it keeps forbidden zones between the arrays.
__attribute__((no_sanitize("address"), optimize("no-tree-loop-distribute-patterns")))
static void spoil(char* begin, const char* end) {
    for (; begin < end; ++begin) *begin = '\xff';
}

static void begin_block(unsigned index, const Launch& launch) {
    const unsigned *grid = launch.grid, *block = launch.block;
    blockIdx = {index % grid[0], index / grid[0] % grid[1], index / grid[0] / grid[1]};
    spoil(__start_shared_memory, __stop_shared_memory);
    spoil((char*)dynamic_shared, (char*)dynamic_shared + launch.shared);
    for (unsigned i = 0; i < (unsigned)threads; ++i) {
        fibers[i].state = READY;
        fibers[i].index = {i % block[0], i / block[0] % block[1], i / block[0] / block[1]};
    }
}

static int print_thread(char* text, size_t size, const Fiber& fiber) {
    return snprintf(text, size, "thread (%u, %u, %u)", fiber.index.x, fiber.index.y, fiber.index.z);
}

static int begin_report() {
    const uint3 b = blockIdx;
    return snprintf(report, sizeof report, "kernel %s, block (%u, %u, %u): ", kernel_name, b.x, b.y, b.z);
}

// Nobody can go on: two groups of threads wait at two barriers, each for the other.
static const char* report_barrier() {
    const Fiber* first = nullptr;
    int at = begin_report();
    for (int i = 0; i < threads; ++i) {
        if (fibers[i].state == DONE) continue;
        if (first == nullptr) first = &fibers[i];
        if (fibers[i].line == first->line && fibers[i].mask == first->mask) continue;
        at += snprintf(report + at, sizeof report - at, "barrier in line %d not reached by ", first->line);
        at += print_thread(report + at, sizeof report - at, fibers[i]);
        snprintf(report + at, sizeof report - at, ", which waits in line %d", fibers[i].line);
        return report;
    }
    at += print_thread(report + at, sizeof report - at, *first);
    const char* text = " waits in line %d for lanes that never come (mask %08x)";
    snprintf(report + at, sizeof report - at, text, first->line, first->mask);
    return report;
}

static const char* run_grid(const Launch& launch) {
    const unsigned blocks = launch.grid[0] * launch.grid[1] * launch.grid[2];
    unsigned* turns = (unsigned*)malloc(blocks * sizeof(unsigned));
    random_state = 20230423;
    arrange(turns, blocks, (Order)launch.order);
    const char* failure = nullptr;
    for (unsigned i = 0; i < blocks && failure == nullptr; ++i) {
        begin_block(turns[i], launch);
        if (!run_to_the_end((Order)launch.order)) failure = report_barrier();
    }
    free(turns);
    return failure;
}

// --- a crash in a kernel becomes a report that names the thread, instead of the end of the test run ---

#ifdef __SANITIZE_ADDRESS__
static const char* guarded(const Launch& launch) { return run_grid(launch); }  // it has better reports
#else
static const int CRASHES[] = {SIGSEGV, SIGBUS, SIGFPE};
static sigjmp_buf crash;

static void on_crash(int signal) { siglongjmp(crash, signal); }

static const char* report_crash(int signal) {
    int at = begin_report();
    at += print_thread(report + at, sizeof report - at, *current);
    snprintf(report + at, sizeof report - at, ": %s", strsignal(signal));
    return report;
}

static const char* guarded(const Launch& launch) {
    static char handler_stack[64 << 10];
    const stack_t stack = {handler_stack, 0, sizeof handler_stack};
    struct sigaction action = {}, before[3];
    stack_t stack_before;
    action.sa_handler = on_crash;
    action.sa_flags = SA_ONSTACK;
    sigaltstack(&stack, &stack_before);
    for (int i = 0; i < 3; ++i) sigaction(CRASHES[i], &action, &before[i]);
    const int signal = sigsetjmp(crash, 1);
    const char* failure = signal == 0 ? run_grid(launch) : report_crash(signal);
    for (int i = 0; i < 3; ++i) sigaction(CRASHES[i], &before[i], nullptr);
    sigaltstack(&stack_before, nullptr);
    return failure;
}
#endif

static const char* run(const char* name, void (*call)(void**), const Launch& launch, void** table) {
    if (stacks == nullptr) {
        const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        stacks = (char*)mmap(nullptr, MOST_THREADS * STACK, PROT_READ | PROT_WRITE, flags, -1, 0);
    }
    kernel_name = name;
    kernel = call;
    arguments = table;
    gridDim = {launch.grid[0], launch.grid[1], launch.grid[2]};
    blockDim = {launch.block[0], launch.block[1], launch.block[2]};
    threads = launch.block[0] * launch.block[1] * launch.block[2];
    dynamic_shared = (unsigned char*)aligned_alloc(16, (launch.shared + 15) / 16 * 16);
    const char* failure = guarded(launch);
    free(dynamic_shared);
    if (failure != nullptr)
        for (Fiber& fiber : fibers) fiber.started = false;  // what they were doing is given up
    return failure;
}

// --- one entry for every kernel: its parameters are found by the compiler ---

template <typename... P, size_t... I>
static void call_with(void (*function)(P...), void** table, std::index_sequence<I...>) {
    function(*static_cast<std::remove_reference_t<P>*>(table[I])...);
}

template <typename... P>
static void call(void (*function)(P...), void** table) {
    call_with(function, table, std::index_sequence_for<P...>());
}

// Pointer, float, integer or struct, and the bytes it takes: "p8", "f4", "i4", "s96".
template <typename P>
static int describe(char* text) {
    const bool is_float = std::is_floating_point_v<P>, is_int = std::is_integral_v<P>;
    const char kind = std::is_pointer_v<P> ? 'p' : is_float ? 'f' : is_int ? 'i' : 's';
    return sprintf(text, " %c%zu", kind, sizeof(P));
}

// The most threads a block may have, and what the kernel takes: "256 p8 p8 i4".
template <typename... P>
static const char* signature(void (*)(P...), int bound) {
    static char text[64 + 16 * sizeof...(P)];
    int at = sprintf(text, "%d", bound);
    ((at += describe<P>(text + at)), ...);
    return text;
}

}  // namespace shim

// shim.py writes one such line for every kernel, with the bound that stands in its __launch_bounds__.
#define SHIM_KERNEL(name, bound)                                                                      \
    extern "C" const char* signature_of_##name() {                                                    \
        return shim::signature(&name, bound);                                                         \
    }                                                                                                 \
    extern "C" const char* launch_##name(const shim::Launch* launch, void** table) {                  \
        return shim::run(#name, [](void** values) { shim::call(&name, values); }, *launch, table);    \
    }
