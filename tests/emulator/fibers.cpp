// Fibers: a stack for each thread of a block, and a switch between them that saves what the calling
// convention says must survive a call, and nothing else (about 12 ns; ucontext makes a system call).

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "device_words.hpp"
#include "engine.hpp"

// Stores the stack pointer in *from and goes on where `to` was stored.
extern "C" void headlight_switch(void **from, void *to);

#if defined(__x86_64__)
asm(R"(
.text
.globl headlight_switch
.hidden headlight_switch
.type headlight_switch, @function
headlight_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size headlight_switch, .-headlight_switch
)");
constexpr int SAVED_WORDS = 6;
constexpr int RETURN_WORD = 6;
constexpr int FRAME_WORDS = 8;  // keeps the stack aligned to 16 as a call would leave it
#elif defined(__aarch64__)
asm(R"(
.text
.globl headlight_switch
.hidden headlight_switch
.type headlight_switch, %function
headlight_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size headlight_switch, .-headlight_switch
)");
constexpr int SAVED_WORDS = 20;
constexpr int RETURN_WORD = 11;
constexpr int FRAME_WORDS = 20;
#else
#error "the emulated driver has context switches for x86-64 and aarch64 only"
#endif

namespace headlight {

namespace {

// xorshift64*: a draw below n.
uint32_t draw(uint32_t n) {
  uint64_t x = state->random;
  x ^= x >> 12;
  x ^= x << 25;
  x ^= x >> 27;
  state->random = x;
  return uint32_t(((x * 2685821657736338717ull >> 32) * n) >> 32);
}

Fiber *next_fiber() {
  const uint32_t place = draw(state->ready_count);
  const uint32_t thread = state->ready[place];
  state->ready[place] = state->ready[--state->ready_count];
  return &state->fibers[thread];
}

void enter(Fiber *fiber, void **from) {
  state->current = fiber;
  state->stack_base = reinterpret_cast<uintptr_t>(state->stacks) + fiber->thread * STACK_STRIDE;
  headlight_switch(from, fiber->stack_pointer);
}

// The bottom of every fiber's stack; never returns.
void run_fiber() {
  Launch *launch = state->launch;
  launch->kernel->call(launch->parameters);
  Fiber *fiber = state->current;
  fiber->done = true;
  --state->live;
  if (state->ready_count) {
    enter(next_fiber(), &fiber->stack_pointer);
  } else {
    state->current = nullptr;
    headlight_switch(&fiber->stack_pointer, state->main_stack);
  }
  abort();
}

}  // namespace

void prepare_fibers() {
  const size_t size = STACK_STRIDE * MAX_THREADS;
  void *memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    perror("emulated driver: no memory for stacks");
    abort();
  }
  state->stacks = static_cast<char *>(memory);
  for (uint32_t i = 0; i < MAX_THREADS; ++i) {
    mprotect(state->stacks + i * STACK_STRIDE, 4096, PROT_NONE);
  }
}

void start_block(uint32_t threads) {
  const Launch &launch = *state->launch;
  state->threads = state->live = state->ready_count = threads;
  state->arrived = 0;
  const uint64_t stamp = ++state->clock;
  state->block_floor = state->barrier_floor = floor_of(stamp);
  const uint32_t per_row = launch.block[0], per_plane = launch.block[0] * launch.block[1];
  for (uint32_t i = 0; i < threads; ++i) {
    Fiber &fiber = state->fibers[i];
    fiber.thread = i;
    fiber.x = i % per_row;
    fiber.y = i % per_plane / per_row;
    fiber.z = i / per_plane;
    fiber.record = floor_of(stamp) | state->slot | Record(i) << THREAD_SHIFT;
    fiber.warp_floor = uint32_t(stamp - 1);
    fiber.group = 0;
    fiber.waiting = nullptr;
    fiber.done = false;
    char *top = state->stacks + (i + 1) * STACK_STRIDE - (i % 64) * 64;
    void **frame = reinterpret_cast<void **>(top) - FRAME_WORDS;
    for (int word = 0; word < SAVED_WORDS; ++word) frame[word] = nullptr;
    frame[RETURN_WORD] = reinterpret_cast<void *>(&run_fiber);
    fiber.stack_pointer = frame;
    state->ready[i] = uint16_t(i);
  }
  for (uint32_t warp = 0; warp * 32 < threads; ++warp) {
    const uint32_t lanes = threads - warp * 32;
    state->warps[warp].present = lanes >= 32 ? 0xffffffffu : (1u << lanes) - 1;
    state->warps[warp].waiting = 0;
    state->warps[warp].partial = false;
  }
}

// Returns when all threads have ended, when one failed, or when none can go on.
void run_block() {
  enter(next_fiber(), &state->main_stack);
  for (uint32_t i = 0; i < state->threads; ++i) {
    for (const Copy &copy : state->fibers[i].copies) drop_copy(copy);
    state->fibers[i].copies.clear();
  }
}

void wait_for_others(const char *what, uintptr_t code) {
  Fiber *fiber = state->current;
  fiber->waiting = what;
  fiber->waiting_code = code;
  if (state->ready_count) {
    enter(next_fiber(), &fiber->stack_pointer);
  } else {
    headlight_switch(&fiber->stack_pointer, state->main_stack);
  }
}

void wake(uint32_t thread) {
  state->fibers[thread].waiting = nullptr;
  state->ready[state->ready_count++] = uint16_t(thread);
}

void leave_for_good() {
  void *nowhere;
  headlight_switch(&nowhere, state->main_stack);
  abort();
}

}  // namespace headlight

using headlight::state;

uint3 headlight_thread_index() {
  const headlight::Fiber &fiber = *state->current;
  return {fiber.x, fiber.y, fiber.z};
}
uint3 headlight_block_index() { return {state->block_x, state->block_y, state->block_z}; }
uint3 headlight_block_size() {
  const uint32_t *block = state->launch->block;
  return {block[0], block[1], block[2]};
}
uint3 headlight_grid_size() {
  const uint32_t *grid = state->launch->grid;
  return {grid[0], grid[1], grid[2]};
}
void *headlight_dynamic_shared() { return state->dynamic_shared; }
