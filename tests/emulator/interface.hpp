// What the driver (libcuda.so.1) and the engine (kernels-N.so) tell each other.
//
// The engine is linked with the kernels into one library, of which the builder makes a copy for each
// launch that may run at a time: shared memory is the kernels' static variables, and a copy has its own.
#pragma once

#include <stdint.h>

namespace headlight {

// Where emulated device memory lies, and what is recorded of each of its pairs of bytes (shadow.hpp).
// Nothing is ever handed out twice, so that what was freed stays forbidden.
struct Arena {
  uintptr_t base;
  uint64_t size;
  uint64_t *written, *read, *other;
};

// A pointer to device memory in a parameter; its name is empty if it is the parameter.
struct Pointer {
  const char *name;
  uint32_t offset;
};

struct Parameter {
  uint32_t size;
  const Pointer *pointers;
  uint32_t pointer_count;
};

struct Kernel {
  const char *name;
  void (*call)(void **parameters);
  const void *address;
  const Parameter *parameters;
  uint32_t parameter_count;
  uint32_t launch_bound;  // 0: none given
};

// An error in a kernel, as raw facts: turned into words when the launch has been given up.
struct Finding {
  char kind[64];      // "race", "uninitialised read", …
  char detail[512];   // a sentence about it
  int error;          // the CUresult that later calls return
  uintptr_t code;     // address in the library that did it, 0: none
  uintptr_t earlier;  // the other access of a race, 0: none
  uintptr_t address;  // the memory in question, 0: none
  uint32_t thread[3], block[3];
};

struct Launch {
  const Kernel *kernel;
  void **parameters;
  uint32_t grid[3], block[3];
  uint32_t dynamic_shared;
  uint64_t seed;
  uint64_t clock;  // in: later than all launches before; out: where it ended
  Finding finding; // out, if execute() returns false
};

struct Engine {
  const Kernel *kernels;
  uint32_t kernel_count;
  const char *path;
  uintptr_t load_address;
  bool (*execute)(Launch *launch);
  // The clock starts again: the records of shared memory are dropped.
  void (*forget)();
  // Bytes of static shared memory that launches of this kernel were seen to use.
  uint32_t (*static_shared)(const Kernel *kernel);
  // The name of the shared variable at an address, or null.
  const char *(*shared_name)(uintptr_t address);
};

using StartEngine = const Engine *(*)(const Arena *arena, uint32_t slot);

}  // namespace headlight
