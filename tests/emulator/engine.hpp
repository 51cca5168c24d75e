// The state of one launch: its threads as fibers, its warps, the block that runs, and the clock.
//
// One OS thread runs it all. Blocks run one after another, a fiber runs until it has to wait for
// others, and the next is drawn at random from those that can go on.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <vector>

#include "interface.hpp"
#include "shadow.hpp"

namespace headlight {

constexpr uint32_t MAX_THREADS = 1024;
constexpr uint32_t MAX_DYNAMIC_SHARED = 163 * 1024;
constexpr size_t STACK_SIZE = 128 * 1024;
// Stacks lie one after another, each after a page that may not be touched; the tops are staggered so
// that they do not share the same few lines of the caches.
constexpr size_t STACK_STRIDE = STACK_SIZE + 2 * 4096;

struct Copy {  // one copy_async under way
  void *to;
  const void *from;
  uint32_t bytes, size;
  uint32_t group;
  uint32_t stamp;
  uintptr_t code;
  unsigned char data[16];
};

struct Fiber {
  void *stack_pointer;
  Record record;        // stamp, slot and thread of whatever it does now
  uint32_t warp_floor;  // accesses of its own warp up to this stamp came before
  uint32_t thread;      // linear, within the block
  uint32_t x, y, z;
  uint32_t group;       // of asynchronous copies: the one now open
  const char *waiting;  // for the report: what it waits at, or null
  uintptr_t waiting_code;
  bool done;
  std::vector<Copy> copies;
};

// One lane's part in an operation of its warp.
struct Lane {
  uint32_t kind;
  uint32_t mask;
  uint64_t value;
  uint32_t operand;
  uint32_t width;
  const void *row;
  float c[4];
  uint32_t a[4], b[2];
};

struct Warp {
  uint32_t present;  // lanes that exist
  uint32_t waiting;  // lanes that have arrived at an operation
  bool partial;      // `known` is in use
  Lane lane[32];
  // After operations of a part of the warp: known[i][j] is the stamp up to which lane i comes after j.
  uint32_t known[32][32];
};

// Memory of one kind, with its records.
struct Space {
  uintptr_t base;
  size_t size;
  Record *written, *read, *other;
};

struct SharedVariable {
  uintptr_t address;
  size_t size;
  const char *name;
};

struct State {
  // Read at every access.
  Fiber *current;
  Space shared, global;
  Record launch_floor;   // records below are of earlier launches
  Record block_floor;    // … of earlier blocks of this launch
  Record barrier_floor;  // … from before the block's last barrier
  Record slot;           // this engine's bit in its records
  uintptr_t stack_base;  // of the current fiber
  uintptr_t text;        // where the library lies

  // The schedule.
  void *main_stack;
  uint64_t random;
  uint32_t ready_count;
  uint16_t ready[MAX_THREADS];
  uint32_t threads, live;
  uint64_t clock;

  // The barrier.
  uint32_t arrived;
  int barrier_line, barrier_kind;
  int barrier_value, barrier_result;

  Launch *launch;
  uint32_t block_x, block_y, block_z;
  bool failed;

  Fiber fibers[MAX_THREADS];
  Warp warps[MAX_THREADS / 32];

  char *stacks;
  char *dynamic_shared;
  uint16_t *owner;  // for every two bytes of shared memory: the variable it belongs to, 0 none
  std::vector<SharedVariable> variables;  // 0 stands for none, 1 for dynamic shared memory
  uintptr_t image_low, image_high;        // the library's own segments
};

extern State *state;

// fibers.cpp
void prepare_fibers();
void start_block(uint32_t threads);
void run_block();
void wait_for_others(const char *what, uintptr_t code);  // gives way until somebody wakes it
void wake(uint32_t thread);
[[noreturn]] void leave_for_good();

// collectives.cpp
void order_block();
void report_stuck_block();

// failures.cpp: the first error of a launch is its last, the threads are not run on.
void note(int error, const char *kind, uintptr_t code, uintptr_t address, uintptr_t earlier,
          const char *format, ...) __attribute__((format(printf, 6, 7)));
[[noreturn]] void fail(int error, const char *kind, uintptr_t code, uintptr_t address,
                       uintptr_t earlier, const char *format, ...)
    __attribute__((format(printf, 6, 7)));

// access.cpp
void check_read(uintptr_t address, size_t size, uintptr_t code);
void check_write(uintptr_t address, size_t size, uintptr_t code);
void check_read_16(const void *place, uintptr_t code);  // aligned
void check_read_4(const void *place, uintptr_t code);
void begin_copy(uintptr_t address, size_t size, uintptr_t code);
void land_copy(const Copy &copy);
void drop_copy(const Copy &copy);  // its thread ended without waiting
bool is_shared(uintptr_t address);

// shared_memory.cpp
void find_shared_memory();
void size_dynamic_shared(uint32_t bytes);

constexpr int ILLEGAL_ADDRESS = 700, MISALIGNED_ADDRESS = 716, LAUNCH_FAILED = 719;

#define HEADLIGHT_CALLER reinterpret_cast<uintptr_t>(__builtin_return_address(0))

}  // namespace headlight
