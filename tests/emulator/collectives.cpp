// What threads do together: barriers of the block, and operations of the lanes of a warp.
//
// Whoever arrives last does the work for all and wakes the others. What must never happen is noticed
// in one of three ways: at arrival (a lane that its mask does not name), when all have arrived
// (different operations), or when nobody can go on any more.

#include <stdio.h>
#include <string.h>

#include "device_words.hpp"
#include "engine.hpp"
#include "matrix.hpp"

namespace headlight {

namespace {

enum Operation : uint32_t {
  WARP_BARRIER,
  SHUFFLE,
  BALLOT,
  LOAD_MATRIX,
  MMA_BF16,
  MMA_F16,
  MMA_TF32,
};

const char *const NAMES[] = {"__syncwarp", "a shuffle", "a vote",  "load_matrix_x4",
                             "mma_bf16",   "mma_f16",   "mma_tf32"};

// ---- order ------------------------------------------------------------------------------------

void restamp(uint32_t thread, uint64_t stamp) {
  Fiber &fiber = state->fibers[thread];
  fiber.record = floor_of(stamp) | state->slot | Record(thread) << THREAD_SHIFT;
}

// All that the lanes of `mask` did so far comes before all that they do from now on.
void order_warp(uint32_t number, uint32_t mask) {
  Warp &warp = state->warps[number];
  const uint64_t stamp = ++state->clock;
  const uint32_t first = number * 32;
  if (mask == warp.present) {
    for (uint32_t lanes = mask; lanes; lanes &= lanes - 1) {
      const uint32_t lane = __builtin_ctz(lanes);
      restamp(first + lane, stamp);
      state->fibers[first + lane].warp_floor = uint32_t(stamp - 1);
    }
    warp.partial = false;
    return;
  }
  if (!warp.partial) {
    for (uint32_t i = 0; i < 32; ++i) {
      for (uint32_t j = 0; j < 32; ++j) warp.known[i][j] = state->fibers[first + i].warp_floor;
    }
    warp.partial = true;
  }
  uint32_t joined[32] = {};
  for (uint32_t lanes = mask; lanes; lanes &= lanes - 1) {
    const uint32_t i = __builtin_ctz(lanes);
    warp.known[i][i] = stamp_of(state->fibers[first + i].record);
    for (uint32_t j = 0; j < 32; ++j) {
      if (warp.known[i][j] > joined[j]) joined[j] = warp.known[i][j];
    }
  }
  for (uint32_t lanes = mask; lanes; lanes &= lanes - 1) {
    const uint32_t i = __builtin_ctz(lanes);
    memcpy(warp.known[i], joined, sizeof joined);
    restamp(first + i, stamp);
  }
}

// ---- arriving ---------------------------------------------------------------------------------

// True for the lane that arrives last: it does the work, then calls release().
bool arrive(uint32_t operation, uint32_t mask, uintptr_t code) {
  Fiber &fiber = *state->current;
  const uint32_t number = fiber.thread / 32, lane = fiber.thread % 32;
  Warp &warp = state->warps[number];
  if (!(mask >> lane & 1)) {
    fail(LAUNCH_FAILED, "warp mask", code, 0, 0,
         "lane %u executes %s with the mask 0x%08x, which does not name it", lane, NAMES[operation],
         mask);
  }
  if (mask & ~warp.present) {
    fail(LAUNCH_FAILED, "warp mask", code, 0, 0,
         "%s with the mask 0x%08x, but the warp has the lanes 0x%08x only", NAMES[operation], mask,
         warp.present);
  }
  warp.lane[lane].kind = operation;
  warp.lane[lane].mask = mask;
  warp.waiting |= 1u << lane;
  if ((warp.waiting & mask) != mask) {
    wait_for_others(NAMES[operation], code);
    return false;
  }
  for (uint32_t lanes = mask; lanes; lanes &= lanes - 1) {
    const uint32_t i = __builtin_ctz(lanes);
    if (warp.lane[i].kind != operation || warp.lane[i].mask != mask) {
      fail(LAUNCH_FAILED, "divergent warp", code, 0, state->fibers[number * 32 + i].waiting_code,
           "lane %u executes %s with the mask 0x%08x while lane %u executes %s with the mask 0x%08x",
           lane, NAMES[operation], mask, i, NAMES[warp.lane[i].kind], warp.lane[i].mask);
    }
  }
  warp.waiting &= ~mask;
  return true;
}

void release(uint32_t mask) {
  const uint32_t first = state->current->thread & ~31u, self = state->current->thread % 32;
  for (uint32_t lanes = mask & ~(1u << self); lanes; lanes &= lanes - 1) {
    wake(first + __builtin_ctz(lanes));
  }
}

Lane &my_lane() {
  const uint32_t thread = state->current->thread;
  return state->warps[thread / 32].lane[thread % 32];
}

// The lane that `self` reads, or -1: it keeps its own value.
int shuffle_source(int kind, uint32_t self, uint32_t operand, uint32_t width) {
  const uint32_t low = self & ~(width - 1), high = low + width - 1;
  switch (kind) {
    case 0:
      return int(low + (operand & (width - 1)));
    case 1:
      return self >= low + operand ? int(self - operand) : -1;
    case 2:
      return self + operand <= high ? int(self + operand) : -1;
    default: {
      const uint32_t source = self ^ operand;
      return source <= high ? int(source) : -1;
    }
  }
}

int barrier(int line, int kind, int value, uintptr_t code) {
  State &s = *state;
  if (s.arrived == 0) {
    s.barrier_line = line;
    s.barrier_kind = kind;
    s.barrier_value = kind == 1;
  } else if (s.barrier_line != line || s.barrier_kind != kind) {
    uintptr_t other = 0;
    for (uint32_t i = 0; i < s.threads && !other; ++i) {
      if (s.fibers[i].waiting && !strcmp(s.fibers[i].waiting, "__syncthreads")) {
        other = s.fibers[i].waiting_code;
      }
    }
    fail(LAUNCH_FAILED, "divergent barrier", code, 0, other,
         "threads of one block wait at different barriers");
  }
  if (kind == 0) s.barrier_value |= value;
  if (kind == 1) s.barrier_value &= value;
  if (kind == 2) s.barrier_value += value;
  if (++s.arrived < s.threads) {
    wait_for_others("__syncthreads", code);
    return s.barrier_result;
  }
  s.arrived = 0;
  s.barrier_result = s.barrier_value;
  order_block();
  const uint32_t self = s.current->thread;
  for (uint32_t i = 0; i < s.threads; ++i) {
    if (i != self) wake(i);
  }
  return s.barrier_result;
}

}  // namespace

void order_block() {
  const uint64_t stamp = ++state->clock;
  state->barrier_floor = floor_of(stamp);
  for (uint32_t i = 0; i < state->threads; ++i) {
    restamp(i, stamp);
    state->fibers[i].warp_floor = uint32_t(stamp - 1);
  }
  for (uint32_t warp = 0; warp * 32 < state->threads; ++warp) state->warps[warp].partial = false;
}

// Called off the fibers when none can go on: says who waits for whom.
void report_stuck_block() {
  State &s = *state;
  // Warp operations first: a lane that waits for its warp does not reach the barrier either.
  for (uint32_t i = 0; i < s.threads; ++i) {
    const Fiber &fiber = s.fibers[i];
    if (fiber.done || !strcmp(fiber.waiting, "__syncthreads")) continue;
    const Warp &warp = s.warps[i / 32];
    const uint32_t mask = warp.lane[i % 32].mask;
    for (uint32_t lanes = mask & ~warp.waiting; lanes; lanes &= lanes - 1) {
      const Fiber &missing = s.fibers[(i & ~31u) + __builtin_ctz(lanes)];
      s.current = &s.fibers[i];
      note(LAUNCH_FAILED, "missing lane", fiber.waiting_code, 0, missing.done ? 0 : missing.waiting_code,
           "%s with the mask 0x%08x waits for lane %u, which %s%s", fiber.waiting, mask,
           missing.thread % 32, missing.done ? "has returned" : "waits at ",
           missing.done ? "" : missing.waiting);
      return;
    }
  }
  // Lanes whose masks disagree.
  for (uint32_t i = 0; i < s.threads; ++i) {
    const Fiber &fiber = s.fibers[i];
    if (fiber.done || !strcmp(fiber.waiting, "__syncthreads")) continue;
    s.current = &s.fibers[i];
    note(LAUNCH_FAILED, "divergent warp", fiber.waiting_code, 0, 0,
         "%s with the mask 0x%08x: lanes of the warp name different masks", fiber.waiting,
         s.warps[i / 32].lane[i % 32].mask);
    return;
  }
  uint32_t waiting = 0, absent = 0, example = 0;
  for (uint32_t i = 0; i < s.threads; ++i) {
    if (s.fibers[i].done) {
      absent = i;
    } else {
      ++waiting;
      example = i;
    }
  }
  s.current = &s.fibers[example];
  note(LAUNCH_FAILED, "divergent barrier", s.fibers[example].waiting_code, 0, 0,
       "%u of %u threads wait at a barrier that thread %u returned without reaching", waiting,
       s.threads, absent);
}

}  // namespace headlight

using namespace headlight;

void headlight_barrier(int line) { barrier(line, 3, 0, HEADLIGHT_CALLER); }

int headlight_barrier_reduce(int line, int operation, int value) {
  return barrier(line, operation, value, HEADLIGHT_CALLER);
}

void headlight_warp_barrier(uint32_t mask) {
  if (!arrive(WARP_BARRIER, mask, HEADLIGHT_CALLER)) return;
  order_warp(state->current->thread / 32, mask);
  release(mask);
}

uint64_t headlight_shuffle(int kind, uint32_t mask, uint64_t value, uint32_t operand, int width) {
  const uintptr_t code = HEADLIGHT_CALLER;
  Lane &mine = my_lane();
  mine.value = value;
  mine.operand = operand;
  mine.width = uint32_t(width);
  if (width <= 0 || width > 32 || (width & (width - 1))) {
    fail(LAUNCH_FAILED, "warp mask", code, 0, 0, "a shuffle of width %d", width);
  }
  if (arrive(SHUFFLE, mask, code)) {
    const uint32_t number = state->current->thread / 32;
    Warp &warp = state->warps[number];
    uint64_t values[32];
    for (uint32_t lane = 0; lane < 32; ++lane) values[lane] = warp.lane[lane].value;
    for (uint32_t lanes = mask; lanes; lanes &= lanes - 1) {
      const uint32_t lane = __builtin_ctz(lanes);
      const int source = shuffle_source(kind, lane, warp.lane[lane].operand, warp.lane[lane].width);
      if (source < 0) continue;
      if (!(mask >> source & 1)) {
        fail(LAUNCH_FAILED, "warp mask", code, 0, 0,
             "lane %u reads lane %d, which the mask 0x%08x does not name", lane, source, mask);
      }
      warp.lane[lane].value = values[source];
    }
    order_warp(number, mask);
    release(mask);
  }
  return mine.value;
}

uint32_t headlight_ballot(uint32_t mask, int predicate) {
  Lane &mine = my_lane();
  mine.operand = uint32_t(predicate);
  if (arrive(BALLOT, mask, HEADLIGHT_CALLER)) {
    const uint32_t number = state->current->thread / 32;
    Warp &warp = state->warps[number];
    uint32_t votes = 0;
    for (uint32_t lane = 0; lane < 32; ++lane) {
      if (mask >> lane & 1 && warp.lane[lane].operand) votes |= 1u << lane;
    }
    for (uint32_t lane = 0; lane < 32; ++lane) {
      if (mask >> lane & 1) warp.lane[lane].value = votes;
    }
    order_warp(number, mask);
    release(mask);
  }
  return uint32_t(mine.value);
}

// ---- matrix operations: they exchange registers, and order no memory ---------------------------

namespace headlight {
// The eight rows of a matrix are read at once, each 16 of the 128 bytes that shared memory gives at a time:
// rows that lie in the same 16 are read one after the other. Kernels are to lay theirs out otherwise.
static void check_banks(const Warp &warp, uint32_t matrix, uintptr_t code) {
  const void *at[8] = {};
  for (uint32_t i = 0; i < 8; ++i) {
    const void *row = warp.lane[matrix * 8 + i].row;
    const void *&other = at[reinterpret_cast<uintptr_t>(row) / 16 % 8];
    if (other && other != row) {
      fail(LAUNCH_FAILED, "bank conflict", code, reinterpret_cast<uintptr_t>(row), 0,
           "load_matrix_x4 reads two rows of matrix %u from the same banks", matrix);
    }
    other = row;
  }
}
}  // namespace headlight

headlight_four_words headlight_load_matrix(const void *row) {
  const uintptr_t code = HEADLIGHT_CALLER;
  const uintptr_t address = reinterpret_cast<uintptr_t>(row);
  Lane &mine = my_lane();
  if (!is_shared(address)) {
    fail(ILLEGAL_ADDRESS, "not shared memory", code, address, 0,
         "load_matrix_x4 reads a row that is not in shared memory");
  }
  if (address % 16) {
    fail(MISALIGNED_ADDRESS, "misaligned access", code, address, 0,
         "load_matrix_x4 reads a row that is not aligned to 16 bytes");
  }
  check_read_16(row, code);
  mine.row = row;
  if (arrive(LOAD_MATRIX, 0xffffffffu, code)) {
    Warp &warp = state->warps[state->current->thread / 32];
    for (uint32_t matrix = 0; matrix < 4; ++matrix) check_banks(warp, matrix, code);
    for (uint32_t lane = 0; lane < 32; ++lane) {
      const uint32_t g = lane / 4, t = lane % 4;
      for (uint32_t matrix = 0; matrix < 4; ++matrix) {
        memcpy(&warp.lane[lane].a[matrix],
               static_cast<const char *>(warp.lane[matrix * 8 + g].row) + t * 4, 4);
      }
    }
    release(0xffffffffu);
  }
  return {{mine.a[0], mine.a[1], mine.a[2], mine.a[3]}};
}

#define HEADLIGHT_MMA_OPERATION(name, operation, multiply)                                         \
  headlight_four_floats headlight_##name(float c0, float c1, float c2, float c3, uint32_t a0,      \
                                         uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,       \
                                         uint32_t b1) {                                            \
    Lane &mine = my_lane();                                                                        \
    mine.c[0] = c0, mine.c[1] = c1, mine.c[2] = c2, mine.c[3] = c3;                                \
    mine.a[0] = a0, mine.a[1] = a1, mine.a[2] = a2, mine.a[3] = a3;                                \
    mine.b[0] = b0, mine.b[1] = b1;                                                                \
    if (arrive(operation, 0xffffffffu, HEADLIGHT_CALLER)) {                                        \
      multiply(state->warps[state->current->thread / 32].lane);                                    \
      release(0xffffffffu);                                                                        \
    }                                                                                              \
    return {{mine.c[0], mine.c[1], mine.c[2], mine.c[3]}};                                         \
  }
HEADLIGHT_MMA_OPERATION(mma_bf16, MMA_BF16, multiply_bf16)
HEADLIGHT_MMA_OPERATION(mma_f16, MMA_F16, multiply_f16)
HEADLIGHT_MMA_OPERATION(mma_tf32, MMA_TF32, multiply_tf32)
