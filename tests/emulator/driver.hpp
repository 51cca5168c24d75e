// The driver's state: what was allocated, created, captured and reported. One mutex guards it all;
// kernels run outside of it.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "interface.hpp"
#include "shadow.hpp"

#define EXPORT extern "C" __attribute__((visibility("default")))

using CUresult = int;
using CUdevice = int;
using CUdeviceptr = uint64_t;

namespace headlight {

enum : CUresult {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  NOT_INITIALIZED = 3,
  NO_DEVICE = 100,
  INVALID_DEVICE = 101,
  INVALID_IMAGE = 200,
  INVALID_CONTEXT = 201,
  INVALID_HANDLE = 400,
  NOT_FOUND = 500,
  NOT_READY = 600,
  ILLEGAL_ADDRESS = 700,
  LAUNCH_OUT_OF_RESOURCES = 701,
  LAUNCH_FAILED = 719,
  NOT_SUPPORTED = 801,
  CAPTURE_UNSUPPORTED = 900,
  CAPTURE_INVALIDATED = 901,
  CAPTURE_IMPLICIT = 906,
};

constexpr uint64_t MOST_STATIC_SHARED = 48 * 1024, MOST_SHARED = 163 * 1024;

struct Allocation {
  uint64_t size;
  uint64_t number;  // the how-manieth it was
};

// What a stream was given. Launches run at once; copies and fills happen on the device when something
// orders them, which is a later launch of the stream or a wait, of the host or of another stream. For the
// host all of it is over once it has waited for it, and not before.
struct Work {
  enum Kind { LAUNCH, COPY_IN, COPY_OUT, COPY_WITHIN, FILL } kind;
  CUdeviceptr to, from;
  uint64_t bytes;
  void *host;                       // pinned memory that the copy reads or writes, or null
  std::vector<unsigned char> data;  // what is copied, or the pattern that fills
};

// One launch with its arguments, as cuLaunchKernel took them; graphs keep lists of it.
struct Recorded {
  struct Function *function;
  uint32_t grid[3], block[3], dynamic_shared;
  std::vector<unsigned char> arguments;
};

struct Stream {
  bool capturing = false, invalidated = false;
  bool blocking = true;  // whether it and the default stream wait for each other
  std::vector<Recorded> captured;
  std::deque<Work> work;  // what the host has not waited for
  // Pieces of work: how many were given, how many of them are done on the device, and how many are over for
  // the host; the first in `work` is the one behind those.
  uint64_t given = 0, done = 0, over = 0;
  uint64_t asked = 0;  // what a query was told is not over
};

struct Event {
  double time = -1;  // milliseconds, < 0: not recorded
  Stream *stream = nullptr;
  uint64_t position = 0;  // pieces of work of the stream that it stands behind
  bool timing = true, asked = false;
};

struct Graph {
  std::vector<Recorded> launches;
};

struct Function {
  const Kernel *kernel;  // of the first engine
  uint32_t index;
  uint32_t most_dynamic_shared = MOST_STATIC_SHARED;
};

struct Module {
  std::map<std::string, std::unique_ptr<Function>> functions;
};

struct Driver {
  std::mutex mutex;
  bool initialised = false, quiet = false;
  uint32_t retained = 0;
  CUresult sticky = SUCCESS;

  Arena arena = {};
  uint64_t next_address = 0, used = 0, allocation_count = 0;
  std::map<uint64_t, Allocation> allocations, freed;
  std::map<uintptr_t, size_t> pinned;

  Stream null_stream;
  std::set<Stream *> streams;
  std::set<Event *> events;
  std::set<Module *> modules;
  std::set<Graph *> graphs, executables;

  std::string reports;
  uint64_t seed = 1, launches = 0;

  // Engines, and which of them are at work.
  std::vector<const Engine *> engines;
  std::vector<bool> busy;
  std::condition_variable idle;
  uint64_t clock = 1;
};

Driver &driver();
using Guard = std::unique_lock<std::mutex>;

// settings.cpp: the environment
uint64_t setting(const char *name, uint64_t otherwise);

// reports.cpp
void report(const std::string &text);
void report_finding(const Engine &engine, const Launch &launch);
std::string describe_address(uint64_t address);

// memory.cpp
void prepare_arena();
// The live allocation that holds all of it, or null.
const Allocation *find_allocation(uint64_t address, uint64_t bytes, uint64_t *start);
void report_leaks();
void release_everything();
void forget_accesses();
void mark_copied(uint64_t address, uint64_t bytes);

// work.cpp
void give(Stream &stream, Work work);
// Does on the device what the stream has up to a position.
void perform(Stream &stream, uint64_t position);
// Does what the next launch of the stream comes behind.
void perform_before(Stream &stream);
void perform_everything();
// The host has waited for a position of the stream.
void arrive(Stream &stream, uint64_t position);

// launches.cpp
CUresult load_engines();
CUresult run_recorded(Guard &guard, const Recorded &launch);

// streams.cpp
Stream *find_stream(void *handle);
// An operation that must not stand in a capture: reports, spoils the capture, and says so.
bool breaks_capture(Stream *stream, const char *operation);

}  // namespace headlight
