// Runs a launch from its first block to its last, and starts the engine of one copy of the kernels.

#include "engine.hpp"

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <new>

#include "registry.hpp"

extern "C" {
const char *headlight_library_path;
}

namespace headlight {

State *state;

namespace {

std::vector<Kernel> *kernels;
std::vector<uint32_t> *static_sizes;  // UNKNOWN until the kernel has run once
constexpr uint32_t UNKNOWN = 0xffffffffu;

uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ x >> 27) * 0x94d049bb133111ebull;
  return x ^ x >> 31;
}

// What the block that just ended used of the shared variables (only kernels' own, not dynamic).
uint32_t used_shared() {
  const State &s = *state;
  uint32_t bytes = 0;
  for (size_t i = 2; i < s.variables.size(); ++i) {
    const SharedVariable &variable = s.variables[i];
    const size_t first = (variable.address - s.shared.base) / 2;
    for (size_t k = 0; k < (variable.size + 1) / 2; ++k) {
      if (s.shared.written[first + k] >= s.block_floor) {
        bytes += uint32_t(variable.size);
        break;
      }
    }
  }
  return bytes;
}

bool execute(Launch *launch) {
  State &s = *state;
  s.launch = launch;
  s.failed = false;
  s.clock = launch->clock + 1;
  s.launch_floor = floor_of(s.clock);
  s.random = mix(launch->seed) | 1;
  s.current = nullptr;
  size_dynamic_shared(launch->dynamic_shared);
  const uint32_t threads = launch->block[0] * launch->block[1] * launch->block[2];
  const uint64_t blocks = uint64_t(launch->grid[0]) * launch->grid[1] * launch->grid[2];
  uint32_t &static_size = (*static_sizes)[size_t(launch->kernel - kernels->data())];

  std::vector<uint32_t> order(blocks);
  for (uint64_t i = 0; i < blocks; ++i) order[i] = uint32_t(i);
  for (uint64_t i = blocks; i > 1; --i) {
    const uint64_t other = mix(launch->seed ^ i * 0x2545f4914f6cdd1dull) % i;
    std::swap(order[i - 1], order[other]);
  }
  for (uint64_t i = 0; i < blocks && !s.failed; ++i) {
    const uint32_t block = order[i];
    s.block_x = block % launch->grid[0];
    s.block_y = block / launch->grid[0] % launch->grid[1];
    s.block_z = block / launch->grid[0] / launch->grid[1];
    start_block(threads);
    run_block();
    if (s.live && !s.failed) report_stuck_block();
    if (s.clock >= LAST_STAMP - 1 && !s.failed) {
      note(LAUNCH_FAILED, "too long", 0, 0, 0, "more synchronisations than the emulator can count");
    }
    if (static_size == UNKNOWN && !s.failed) {
      static_size = used_shared();
      if (static_size + launch->dynamic_shared > MAX_DYNAMIC_SHARED) {
        note(1, "launch", 0, 0, 0, "%u bytes of static and %u of dynamic shared memory, %u at most",
             static_size, launch->dynamic_shared, MAX_DYNAMIC_SHARED);
      }
    }
  }
  s.current = nullptr;
  launch->clock = s.clock;
  return !s.failed;
}

// Shared memory is not read across launches, so that its records may go.
void forget() {
  const Space &shared = state->shared;
  const size_t bytes = (shared.size / 2 + 16) * sizeof(Record);
  for (Record *records : {shared.written, shared.read, shared.other}) {
    madvise(records, bytes, MADV_DONTNEED);
  }
}

uint32_t static_shared(const Kernel *kernel) {
  const uint32_t size = (*static_sizes)[size_t(kernel - kernels->data())];
  return size == UNKNOWN ? 0 : size;
}

const char *shared_name(uintptr_t address) {
  const State &s = *state;
  if (address - s.shared.base >= s.shared.size) return nullptr;
  return s.variables[s.owner[(address - s.shared.base) / 2]].name;
}

// The bounds of this library's segments: constants in them may be read.
int find_image(dl_phdr_info *info, size_t, void *) {
  if (info->dlpi_addr != state->text) return 0;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto &segment = info->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD || segment.p_flags & PF_W) continue;
    const uintptr_t low = info->dlpi_addr + segment.p_vaddr, high = low + segment.p_memsz;
    if (!state->image_low || low < state->image_low) state->image_low = low;
    if (high > state->image_high) state->image_high = high;
  }
  return 1;
}

}  // namespace

void register_kernel(const Kernel &kernel) {
  if (!kernels) kernels = new std::vector<Kernel>();
  kernels->push_back(kernel);
}

}  // namespace headlight

using namespace headlight;

extern "C" __attribute__((visibility("default"))) const Engine *headlight_engine(const Arena *arena,
                                                                                 uint32_t slot) {
  if (state) abort();
  state = new State();
  Dl_info self;
  dladdr(reinterpret_cast<void *>(&headlight_engine), &self);
  headlight_library_path = strdup(self.dli_fname);
  state->text = reinterpret_cast<uintptr_t>(self.dli_fbase);
  state->slot = Record(slot) << SLOT_SHIFT;
  state->global = {arena->base, arena->size, arena->written, arena->read, arena->other};
  dl_iterate_phdr(find_image, nullptr);
  prepare_fibers();
  find_shared_memory();
  if (!kernels) kernels = new std::vector<Kernel>();
  static_sizes = new std::vector<uint32_t>(kernels->size(), UNKNOWN);

  return new Engine{kernels->data(), uint32_t(kernels->size()), headlight_library_path, state->text,
                    execute,         forget,                    static_shared,          shared_name};
}
