// The checks of one access: may it be there, was it written, and does it race (rules: shadow.hpp).
//
// The first half is the hooks that the compiler puts before every load and store of a kernel. They
// compare all cells of an access at once, and leave whatever is not the common case to the functions
// of the second half, which go cell by cell.

#include <stdlib.h>
#include <string.h>

#include "device_words.hpp"
#include "engine.hpp"

namespace headlight {

namespace {

inline Record code_bits(uintptr_t code) { return (code - state->text) & CODE_MASK; }

uintptr_t code_of(Record r) { return state->text + (r & CODE_MASK); }

inline bool same_slot(Record r) { return !((r ^ state->slot) >> SLOT_SHIFT & 1); }

bool is_pending(Record r) { return stamp_of(r) == LAST_STAMP; }

// ---- order ------------------------------------------------------------------------------------

// Whether what one thread of this block recorded since the last barrier comes before the present.
bool before_in_block(Record r) {
  const Fiber &me = *state->current;
  const uint32_t thread = thread_of(r);
  if (thread == me.thread) return true;
  if (thread / 32 != me.thread / 32) return false;
  if (stamp_of(r) <= me.warp_floor) return true;
  const Warp &warp = state->warps[thread / 32];
  return warp.partial && stamp_of(r) <= warp.known[me.thread % 32][thread % 32];
}

// Whether a write comes before the present access. `shared` records of other blocks do not count.
bool write_before(Record w, bool shared) {
  const State &s = *state;
  if (w < s.launch_floor || !same_slot(w)) return true;
  if (is_pending(w)) return false;
  if (w & ATOMIC && w & FOREIGN) return false;
  if (w < s.block_floor) return shared;
  if (w < s.barrier_floor) return true;
  if (w & ATOMIC && w & WIDE) return false;
  if (w & ATOMIC && w & MANY) {
    return thread_of(w) / 32 == s.current->thread / 32 && stamp_of(w) <= s.current->warp_floor;
  }
  return before_in_block(w);
}

// ---- errors -----------------------------------------------------------------------------------

[[noreturn]] void race(const char *now, const char *then, Record other, uintptr_t address,
                       uintptr_t code) {
  const State &s = *state;
  if (is_pending(other)) {
    const bool own = thread_of(other) == s.current->thread;
    fail(LAUNCH_FAILED, "asynchronous copy", code, address, code_of(other),
         "%s of memory that an asynchronous copy of %s is still filling: nobody waited for it", now,
         own ? "this thread" : "another thread");
  }
  if (other < s.block_floor || (other & ATOMIC && other & FOREIGN)) {
    fail(LAUNCH_FAILED, "race", code, address, code_of(other),
         "%s of what another block of the launch %s", now, then);
  }
  fail(LAUNCH_FAILED, "race", code, address, code_of(other),
       "%s of what thread %u of the block %s, with nothing to order the two", now,
       thread_of(other), then);
}

[[noreturn]] void forbidden(const char *now, uintptr_t address, size_t size, uintptr_t code) {
  fail(ILLEGAL_ADDRESS, "out of bounds", code, address, 0, "%s of %zu bytes outside of any memory %s",
       now, size, address < 4096 ? "(a null pointer)" : "that is allocated");
}

// ---- one cell ---------------------------------------------------------------------------------

template <bool shared>
void read_cell(const Space &space, size_t i, uintptr_t code) {
  const State &s = *state;
  const Record me = s.current->record;
  const Record w = space.written[i];
  const uintptr_t address = space.base + i * 2;
  if (shared ? w < s.block_floor : w <= UNWRITTEN) {
    if (shared ? !s.owner[i] : w == FORBIDDEN) forbidden("read", address, 2, code);
    fail(LAUNCH_FAILED, "uninitialised read", code, address, 0, "read of memory that nobody wrote");
  }
  if (!write_before(w, shared)) {
    race("read", w & ATOMIC ? "changes atomically" : "writes", w, address, code);
  }
  Record &read = space.read[i];
  const Record r = read, mine = me | code_bits(code);
  if (!shared && r >= s.launch_floor && r < s.block_floor && same_slot(r)) return;
  if (r < s.barrier_floor || !same_slot(r)) {
    read = mine;
  } else if (thread_of(r) == thread_of(me)) {
    read = mine | (r & (OTHERS | WARPS));
  } else if (!(r & WARPS)) {
    space.other[i] = r;
    read = mine | OTHERS | (thread_of(r) / 32 == thread_of(me) / 32 ? 0 : WARPS);
  }
}

// The reads that a write must come after.
template <bool shared>
void check_readers(const Space &space, size_t i, uintptr_t code, const char *now) {
  const State &s = *state;
  const Record r = space.read[i];
  const uintptr_t address = space.base + i * 2;
  if (r < s.launch_floor || !same_slot(r)) return;
  if (r < s.block_floor) {
    if (!shared) race(now, "reads", r, address, code);
    return;
  }
  if (r < s.barrier_floor) return;
  const Record other = space.other[i];
  const bool own = thread_of(r) == s.current->thread;
  if (r & WARPS) {
    const bool far = thread_of(r) / 32 != s.current->thread / 32;
    race(now, "reads", far ? r : other, address, code);
  }
  if (!own && !before_in_block(r)) race(now, "reads", r, address, code);
  if (r & OTHERS && !before_in_block(other)) race(now, "reads", other, address, code);
}

template <bool shared>
void write_cell(const Space &space, size_t i, uintptr_t code, Record mine, const char *now) {
  const Record w = space.written[i];
  const uintptr_t address = space.base + i * 2;
  if (shared ? !state->owner[i] : w == FORBIDDEN) forbidden(now, address, 2, code);
  if (!write_before(w, shared)) {
    race(now, w & ATOMIC ? "changes atomically" : "writes", w, address, code);
  }
  check_readers<shared>(space, i, code, now);
  space.written[i] = mine;
}

// An atomic access takes the place of the plain write `w` that came before it. Other atomics may meet
// the one but not the other, so the write lives on among the reads, which atomics must not meet either.
void keep_among_reads(const Space &space, size_t i, Record w) {
  const State &s = *state;
  w &= ~(ATOMIC | MANY | WIDE | FOREIGN);
  Record &read = space.read[i];
  const Record r = read;
  if (r < s.block_floor || !same_slot(r) || (r < s.barrier_floor && w >= s.barrier_floor)) {
    read = w;
  } else if (w < s.barrier_floor || r & WARPS) {
    return;
  } else if (thread_of(r) == thread_of(w)) {
    if (w > r) read = w | (r & OTHERS);
  } else if (!(r & OTHERS) || w > space.other[i] || thread_of(r) / 32 != thread_of(w) / 32) {
    space.other[i] = w;
    read = r | OTHERS | (thread_of(r) / 32 == thread_of(w) / 32 ? 0 : WARPS);
  }
}

template <bool shared>
void atomic_cell(const Space &space, size_t i, uintptr_t code) {
  const State &s = *state;
  const Record w = space.written[i];
  const Record mine = s.current->record | code_bits(code) | ATOMIC;
  const uintptr_t address = space.base + i * 2;
  const char *now = "atomic change";
  if (shared ? w < s.block_floor : w <= UNWRITTEN) {
    if (shared ? !s.owner[i] : w == FORBIDDEN) forbidden(now, address, 2, code);
    fail(LAUNCH_FAILED, "uninitialised read", code, address, 0,
         "atomic change of memory that nobody wrote");
  }
  check_readers<shared>(space, i, code, now);
  if (write_before(w, shared)) {
    if (!(w & ATOMIC) && w >= s.block_floor && same_slot(w)) keep_among_reads(space, i, w);
    space.written[i] = mine;
    return;
  }
  if (!(w & ATOMIC) || is_pending(w)) race(now, "writes", w, address, code);
  Record flags = MANY | (w & (WIDE | FOREIGN));
  if (w < s.block_floor) flags |= FOREIGN;
  if (thread_of(w) / 32 != s.current->thread / 32) flags |= WIDE;
  space.written[i] = mine | flags;
}

// ---- memory that has no records ---------------------------------------------------------------

// Own stacks and constants may be used freely; nothing else may.
void check_unrecorded(uintptr_t address, size_t size, uintptr_t code, bool write) {
  const State &s = *state;
  const char *now = write ? "write" : "read";
  if (address - s.stack_base < STACK_STRIDE) return;
  if (address - reinterpret_cast<uintptr_t>(s.stacks) < STACK_STRIDE * MAX_THREADS) {
    fail(ILLEGAL_ADDRESS, "out of bounds", code, address, 0,
         "%s of another thread's local variables", now);
  }
  if (!write && address >= s.image_low && address + size <= s.image_high) return;
  forbidden(now, address, size, code);
}

// Calls body(space, first cell, is it shared) where records exist.
template <class Body>
inline bool with_space(uintptr_t address, size_t size, Body body) {
  State &s = *state;
  if (address - s.shared.base < s.shared.size) {
    const size_t first = (address - s.shared.base) / 2;
    const size_t last = (address - s.shared.base + size - 1) / 2;
    for (size_t i = first; i <= last; ++i) body(s.shared, i, std::true_type());
    return true;
  }
  if (address - s.global.base < s.global.size) {
    const size_t first = (address - s.global.base) / 2;
    const size_t last = (address - s.global.base + size - 1) / 2;
    for (size_t i = first; i <= last; ++i) body(s.global, i, std::false_type());
    return true;
  }
  return false;
}

}  // namespace

bool is_shared(uintptr_t address) { return address - state->shared.base < state->shared.size; }

__attribute__((noinline)) void check_read(uintptr_t address, size_t size, uintptr_t code) {
  const bool known = with_space(address, size, [=](const Space &space, size_t i, auto shared) {
    if (size > 1 || !(space.written[i] >= state->launch_floor)) {
      read_cell<decltype(shared)::value>(space, i, code);
    }
  });
  if (!known) check_unrecorded(address, size, code, false);
}

__attribute__((noinline)) void check_write(uintptr_t address, size_t size, uintptr_t code) {
  const bool known = with_space(address, size, [=](const Space &space, size_t i, auto shared) {
    const Record mine = state->current->record | code_bits(code);
    constexpr bool is_shared = decltype(shared)::value;
    if (size > 1) {
      write_cell<is_shared>(space, i, code, mine, "write");
      return;
    }
    // A cell is two bytes: single ones are checked for their place only.
    if (is_shared ? !state->owner[i] : space.written[i] == FORBIDDEN) {
      forbidden("write", address, 1, code);
    }
    space.written[i] = mine;
  });
  if (!known) check_unrecorded(address, size, code, true);
}

// ---- asynchronous copies ----------------------------------------------------------------------

void begin_copy(uintptr_t address, size_t size, uintptr_t code) {
  const Record mine = (state->current->record & ~floor_of(LAST_STAMP)) | floor_of(LAST_STAMP) |
                      code_bits(code);
  with_space(address, size, [=](const Space &space, size_t i, auto shared) {
    write_cell<decltype(shared)::value>(space, i, code, mine, "asynchronous write");
    space.read[i] = 0;
  });
}

void land_copy(const Copy &copy) {
  const Record mine = state->current->record | code_bits(copy.code);
  with_space(reinterpret_cast<uintptr_t>(copy.to), copy.size,
             [=](const Space &space, size_t i, auto) { space.written[i] = mine; });
  if (!copy.bytes) return;
  const uintptr_t from = reinterpret_cast<uintptr_t>(copy.from);
  bool changed = memcmp(copy.data, copy.from, copy.bytes) != 0;
  with_space(from, copy.bytes, [&](const Space &space, size_t i, auto) {
    const Record w = space.written[i];
    changed |= w >= state->launch_floor && same_slot(w) && stamp_of(w) > copy.stamp;
  });
  if (changed) {
    fail(LAUNCH_FAILED, "asynchronous copy", copy.code, from, 0,
         "the source of an asynchronous copy was written while the copy was under way");
  }
}

void drop_copy(const Copy &copy) {
  with_space(reinterpret_cast<uintptr_t>(copy.to), copy.size,
             [](const Space &space, size_t i, auto) { space.written[i] = 0; });
}

// ---- the common case --------------------------------------------------------------------------

namespace {

template <int cells>
inline __attribute__((always_inline)) bool all_equal(const Record *records) {
  Record difference = 0;
  for (int i = 1; i < cells; ++i) difference |= records[i] ^ records[0];
  return difference == 0;
}

template <int cells>
inline __attribute__((always_inline)) void fill(Record *records, Record value) {
  for (int i = 0; i < cells; ++i) records[i] = value;
}

// Whether the write is ordered without asking for warps: the slow half knows them.
inline __attribute__((always_inline)) bool plainly_before(Record w, const State &s, Record me,
                                                          bool shared) {
  if (w < s.launch_floor) return !shared && w > UNWRITTEN;
  if (w < s.block_floor) return false;
  if (w < s.barrier_floor) return !(w & (ATOMIC)) && same_slot(w);
  return !((w ^ me) >> THREAD_SHIFT) && !(w & ATOMIC);
}

template <int size, bool shared>
inline __attribute__((always_inline)) bool quick_read(const Space &space, uintptr_t offset,
                                                      uintptr_t code) {
  constexpr int cells = size / 2;
  const State &s = *state;
  const Record me = s.current->record;
  const Record *written = space.written + offset / 2;
  Record *read = space.read + offset / 2;
  if (!all_equal<cells>(read)) return false;
  const Record r = read[0];
  // Who read here found the write to be in order, and so may we, if whoever wrote since would have
  // raced with them: this thread itself, or two warps since the last barrier.
  if (!((r ^ me) >> THREAD_SHIFT)) return true;
  const bool fresh = r >= s.barrier_floor;
  if (r >= s.launch_floor) {
    if (!shared && !same_slot(r)) return false;
    if (fresh && r & WARPS) return true;
    if (fresh && thread_of(r) == thread_of(me)) return false;
  }
  if (!all_equal<cells>(written) || !plainly_before(written[0], s, me, shared)) return false;
  // A reader in another block stands for all readers.
  if (!shared && r >= s.launch_floor && r < s.block_floor) return true;
  Record mine = me | code_bits(code);
  if (fresh) {
    fill<cells>(space.other + offset / 2, r);
    mine |= (r ^ me) >> (THREAD_SHIFT + 5) & 31 ? OTHERS | WARPS : OTHERS;
  }
  fill<cells>(read, mine);
  return true;
}

template <int size, bool shared>
inline __attribute__((always_inline)) bool quick_write(const Space &space, uintptr_t offset,
                                                       uintptr_t code) {
  constexpr int cells = size / 2;
  const State &s = *state;
  const Record me = s.current->record;
  Record *written = space.written + offset / 2;
  const Record *read = space.read + offset / 2;
  if (!all_equal<cells>(read) || !all_equal<cells>(written)) return false;
  const Record w = written[0], r = read[0];
  if (shared ? w < s.block_floor : w == UNWRITTEN) {
    if (shared) return false;
  } else if (!plainly_before(w, s, me, shared)) {
    return false;
  }
  if (r >= s.launch_floor) {
    if (!same_slot(r)) return false;
    if (!shared && r < s.block_floor) return false;
    if (r >= s.barrier_floor && (r & OTHERS || thread_of(r) != thread_of(me))) return false;
  }
  fill<cells>(written, me | code_bits(code));
  return true;
}

template <int size, bool write>
inline __attribute__((always_inline)) void access(void *place, uintptr_t code) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(place);
  const State &s = *state;
  if (size > 1 && address % size) {
    fail(MISALIGNED_ADDRESS, "misaligned access", code, address, 0,
         "%s of %d bytes at an address that they do not divide", write ? "write" : "read", size);
  }
  if (size > 1) {
    const uintptr_t in_shared = address - s.shared.base, in_global = address - s.global.base;
    if (in_shared < s.shared.size) {
      if (write ? quick_write<size, true>(s.shared, in_shared, code)
                : quick_read<size, true>(s.shared, in_shared, code)) {
        return;
      }
    } else if (in_global < s.global.size) {
      if (write ? quick_write<size, false>(s.global, in_global, code)
                : quick_read<size, false>(s.global, in_global, code)) {
        return;
      }
    } else if (address - s.stack_base < STACK_STRIDE) {
      return;
    }
  }
  write ? check_write(address, size, code) : check_read(address, size, code);
}

}  // namespace

void check_read_16(const void *place, uintptr_t code) {
  access<16, false>(const_cast<void *>(place), code);
}
void check_read_4(const void *place, uintptr_t code) {
  access<4, false>(const_cast<void *>(place), code);
}

}  // namespace headlight

using namespace headlight;

void headlight_atomic(const void *place, uint32_t size) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(place), code = HEADLIGHT_CALLER;
  if (address % size) {
    fail(MISALIGNED_ADDRESS, "misaligned access", code, address, 0,
         "atomic change of %u bytes at an address that they do not divide", size);
  }
  const bool known = with_space(address, size, [=](const Space &space, size_t i, auto shared) {
    atomic_cell<decltype(shared)::value>(space, i, code);
  });
  if (!known) {
    fail(ILLEGAL_ADDRESS, "out of bounds", code, address, 0,
         "atomic change outside of any memory that is allocated");
  }
}

extern "C" {

#define HEADLIGHT_HOOKS(size)                                                                      \
  void __tsan_read##size(void *place) { access<size, false>(place, HEADLIGHT_CALLER); }            \
  void __tsan_write##size(void *place) { access<size, true>(place, HEADLIGHT_CALLER); }
HEADLIGHT_HOOKS(1)
HEADLIGHT_HOOKS(2)
HEADLIGHT_HOOKS(4)
HEADLIGHT_HOOKS(8)
HEADLIGHT_HOOKS(16)
#undef HEADLIGHT_HOOKS

// Of types that need less alignment than they have bytes: structures copied whole.
#define HEADLIGHT_HOOKS(size)                                                                      \
  void __tsan_unaligned_read##size(void *place) {                                                  \
    check_read(reinterpret_cast<uintptr_t>(place), size, HEADLIGHT_CALLER);                        \
  }                                                                                                \
  void __tsan_unaligned_write##size(void *place) {                                                 \
    check_write(reinterpret_cast<uintptr_t>(place), size, HEADLIGHT_CALLER);                       \
  }
HEADLIGHT_HOOKS(2)
HEADLIGHT_HOOKS(4)
HEADLIGHT_HOOKS(8)
HEADLIGHT_HOOKS(16)
#undef HEADLIGHT_HOOKS

void __tsan_read_range(void *place, size_t size) {
  if (size) check_read(reinterpret_cast<uintptr_t>(place), size, HEADLIGHT_CALLER);
}
void __tsan_write_range(void *place, size_t size) {
  if (size) check_write(reinterpret_cast<uintptr_t>(place), size, HEADLIGHT_CALLER);
}

void __tsan_init() {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void **, void *) {}
void __tsan_vptr_read(void **) {}
}
