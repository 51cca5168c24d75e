// Device memory: allocations that are never handed out twice, pinned host memory, and the calls that copy and
// fill (work.cpp does it).

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "driver.hpp"

namespace headlight {

namespace {

constexpr uint64_t PAGE = 4096, HUGE_PAGE = 2 << 20;
constexpr uint64_t ARENA = uint64_t(256) << 30;

void *reserve(uint64_t bytes) {
  void *memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    perror("emulated driver: address space for device memory");
    abort();
  }
  return memory;
}

uint64_t round_up(uint64_t x, uint64_t to) { return (x + to - 1) / to * to; }

uint64_t cell_of(uint64_t address) { return (address - driver().arena.base) / 2; }

void mark(uint64_t address, uint64_t bytes, Record record) {
  Record *written = driver().arena.written;
  for (uint64_t i = cell_of(address), end = cell_of(address + bytes + 1); i < end; ++i) {
    written[i] = record;
  }
}

// Gives the pages of an allocation, and of its records, back to the system.
void drop_pages(uint64_t address, uint64_t size) {
  const Arena &arena = driver().arena;
  const uint64_t low = address / PAGE * PAGE, high = round_up(address + size, PAGE);
  madvise(reinterpret_cast<void *>(low), high - low, MADV_DONTNEED);
  for (Record *records : {arena.written, arena.read, arena.other}) {
    // Two bytes have eight: the records of whole pages are whole pages.
    madvise(records + cell_of(low), (high - low) / 2 * sizeof(Record), MADV_DONTNEED);
  }
}

CUresult allocate(CUdeviceptr *address, uint64_t size) {
  Driver &d = driver();
  if (!size || !address) return INVALID_VALUE;
  const uint64_t total = setting("HEADLIGHT_EMULATOR_MEMORY", uint64_t(4) << 30);
  if (size > total || d.used + size > total) {
    // a byte each, for whoever counts them
    if (const char *name = getenv("HEADLIGHT_EMULATOR_REFUSALS")) {
      if (FILE *file = fopen(name, "ab")) {
        fputc('.', file);
        fclose(file);
      }
    }
    return OUT_OF_MEMORY;
  }
  // Aligned to 256 bytes and no more, with a page on either side that nobody may touch.
  const uint64_t start = round_up(d.next_address, size >= 2 * HUGE_PAGE ? HUGE_PAGE : PAGE) + 256;
  if (start + size + 2 * PAGE > d.arena.base + d.arena.size) return OUT_OF_MEMORY;
  d.next_address = round_up(start + size, PAGE) + PAGE;
  if (size >= 2 * HUGE_PAGE) {
    madvise(reinterpret_cast<void *>(start - 256), size, MADV_HUGEPAGE);
    for (Record *records : {d.arena.written, d.arena.read, d.arena.other}) {
      madvise(records + cell_of(start - 256), size / 2 * sizeof(Record), MADV_HUGEPAGE);
    }
  }
  d.allocations[start] = {size, ++d.allocation_count};
  d.used += size;
  mark(start, size, UNWRITTEN);
  *address = start;
  return SUCCESS;
}

CUresult release(CUdeviceptr address) {
  Driver &d = driver();
  if (!address) return SUCCESS;
  const auto found = d.allocations.find(address);
  if (found == d.allocations.end()) {
    report(d.freed.count(address) ? "double free: " + describe_address(address)
                                  : "free of what is no allocation: " + describe_address(address));
    return INVALID_VALUE;
  }
  const uint64_t size = found->second.size;
  d.used -= size;
  d.freed[address] = found->second;
  d.allocations.erase(found);
  drop_pages(address, size);
  return SUCCESS;
}

bool inside(uint64_t address, uint64_t bytes, const char *operation) {
  if (!bytes || find_allocation(address, bytes, nullptr)) return true;
  report(std::string(operation) + " of " + std::to_string(bytes) +
         " bytes is not inside of one allocation: " + describe_address(address));
  return false;
}

bool is_pinned(const void *host, size_t bytes) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(host);
  auto after = driver().pinned.upper_bound(address);
  if (after == driver().pinned.begin()) return false;
  --after;
  return address + bytes <= after->first + after->second;
}

// The default stream, and what waits for it and it for.
void arrive_default() {
  arrive(driver().null_stream, driver().null_stream.given);
  for (Stream *stream : driver().streams) {
    if (stream->blocking) arrive(*stream, stream->given);
  }
}

// The bytes are taken when the call is made: of memory that is not pinned the real driver may have taken them by
// then, and pinned memory that changes before the copy is over is reported.
CUresult copy_in(CUdeviceptr to, const void *from, size_t bytes, Stream *stream) {
  if (!bytes) return SUCCESS;
  if (!inside(to, bytes, "a copy to the device")) return INVALID_VALUE;
  const auto *data = static_cast<const unsigned char *>(from);
  void *pinned = stream && is_pinned(from, bytes) ? const_cast<void *>(from) : nullptr;
  if (!stream) arrive_default();
  Stream &behind = stream ? *stream : driver().null_stream;
  give(behind, {Work::COPY_IN, to, 0, bytes, pinned, {data, data + bytes}});
  if (!stream) arrive(behind, behind.given);
  return SUCCESS;
}

// Into pinned memory it arrives when somebody waits for it; until then the memory holds NaN. Into other memory
// the call itself waits.
CUresult copy_out(void *to, CUdeviceptr from, size_t bytes, Stream *stream) {
  if (!bytes) return SUCCESS;
  if (!inside(from, bytes, "a copy from the device")) return INVALID_VALUE;
  const bool later = stream && is_pinned(to, bytes);
  if (later) memset(to, 0xff, bytes);
  if (!stream) arrive_default();
  Stream &behind = stream ? *stream : driver().null_stream;
  give(behind, {Work::COPY_OUT, 0, from, bytes, to, {}});
  if (!later) arrive(behind, behind.given);
  return SUCCESS;
}

// Even the calls without a stream do not wait for these two.
CUresult copy_within(CUdeviceptr to, CUdeviceptr from, size_t bytes, Stream *stream) {
  if (!bytes) return SUCCESS;
  if (!inside(from, bytes, "the source of a copy on the device")) return INVALID_VALUE;
  if (!inside(to, bytes, "the destination of a copy on the device")) return INVALID_VALUE;
  give(stream ? *stream : driver().null_stream, {Work::COPY_WITHIN, to, from, bytes, nullptr, {}});
  return SUCCESS;
}

template <class T>
CUresult fill(CUdeviceptr to, T value, size_t count, Stream *stream) {
  if (!count) return SUCCESS;
  if (to % sizeof(T)) return INVALID_VALUE;
  if (!inside(to, count * sizeof(T), "a fill")) return INVALID_VALUE;
  std::vector<unsigned char> pattern(sizeof(T));
  memcpy(pattern.data(), &value, sizeof(T));
  give(stream ? *stream : driver().null_stream,
       {Work::FILL, to, 0, count * sizeof(T), nullptr, std::move(pattern)});
  return SUCCESS;
}

}  // namespace

void prepare_arena() {
  Driver &d = driver();
  if (d.arena.base) return;
  d.arena.base = reinterpret_cast<uintptr_t>(reserve(ARENA));
  d.arena.size = ARENA;
  for (Record **records : {&d.arena.written, &d.arena.read, &d.arena.other}) {
    *records = static_cast<Record *>(reserve(ARENA / 2 * sizeof(Record)));
  }
  d.next_address = d.arena.base + PAGE;
}

const Allocation *find_allocation(uint64_t address, uint64_t bytes, uint64_t *start) {
  auto after = driver().allocations.upper_bound(address);
  if (after == driver().allocations.begin()) return nullptr;
  --after;
  if (address + bytes > after->first + after->second.size) return nullptr;
  if (start) *start = after->first;
  return &after->second;
}

void report_leaks() {
  Driver &d = driver();
  for (const auto &entry : d.allocations) {
    report("leak: the context is gone and an allocation of " + std::to_string(entry.second.size) +
           " bytes is not freed (number " + std::to_string(entry.second.number) + ")");
  }
  if (!d.pinned.empty()) {
    report("leak: the context is gone and " + std::to_string(d.pinned.size()) +
           " pieces of pinned host memory are not freed");
  }
  if (!d.graphs.empty() || !d.executables.empty()) {
    report("leak: the context is gone and " +
           std::to_string(d.graphs.size() + d.executables.size()) + " graphs are not destroyed");
  }
}

void release_everything() {
  Driver &d = driver();
  while (!d.allocations.empty()) release(d.allocations.begin()->first);
  // Host memory stays: somebody may still look at it.
  d.pinned.clear();
  d.null_stream = Stream();
}

void mark_copied(uint64_t address, uint64_t bytes) { mark(address, bytes, COPIED); }

// The clock starts again: all accesses so far are history.
void forget_accesses() {
  Driver &d = driver();
  for (const auto &entry : d.allocations) {
    const uint64_t first = cell_of(entry.first), last = cell_of(entry.first + entry.second.size + 1);
    for (uint64_t i = first; i < last; ++i) {
      if (d.arena.written[i] > COPIED) d.arena.written[i] = COPIED;
      d.arena.read[i] = 0;
    }
  }
}

}  // namespace headlight

using namespace headlight;

// Calls that an earlier error, or a capture, forbids. Memory is freed even so.
#define HEADLIGHT_BEGIN(stream, operation)                               \
  Guard guard(driver().mutex);                                           \
  if (driver().sticky) return driver().sticky;                           \
  if (breaks_capture(stream, operation)) return CAPTURE_UNSUPPORTED;

EXPORT CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes) {
  HEADLIGHT_BEGIN(nullptr, "an allocation")
  return allocate(address, bytes);
}

EXPORT CUresult cuMemAllocAsync(CUdeviceptr *address, size_t bytes, void *stream) {
  HEADLIGHT_BEGIN(find_stream(stream), "an allocation")
  return allocate(address, bytes);
}

EXPORT CUresult cuMemFree_v2(CUdeviceptr address) {
  Guard guard(driver().mutex);
  if (breaks_capture(nullptr, "a free")) return CAPTURE_UNSUPPORTED;
  perform_everything();  // the real call waits for the device
  const CUresult result = release(address);
  return driver().sticky ? driver().sticky : result;
}

EXPORT CUresult cuMemFreeAsync(CUdeviceptr address, void *stream) {
  Guard guard(driver().mutex);
  Stream *behind = find_stream(stream);
  if (!behind) return INVALID_HANDLE;
  if (breaks_capture(behind, "a free")) return CAPTURE_UNSUPPORTED;
  perform_before(*behind);
  const CUresult result = release(address);
  return driver().sticky ? driver().sticky : result;
}

EXPORT CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes) {
  HEADLIGHT_BEGIN(nullptr, "a copy")
  return copy_in(to, from, bytes, nullptr);
}
EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, void *stream) {
  HEADLIGHT_BEGIN(find_stream(stream), "a copy")
  return copy_in(to, from, bytes, find_stream(stream));
}
EXPORT CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes) {
  HEADLIGHT_BEGIN(nullptr, "a copy")
  const CUresult result = copy_out(to, from, bytes, nullptr);
  return driver().sticky ? driver().sticky : result;
}
EXPORT CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, void *stream) {
  HEADLIGHT_BEGIN(find_stream(stream), "a copy")
  const CUresult result = copy_out(to, from, bytes, find_stream(stream));
  return driver().sticky ? driver().sticky : result;
}
EXPORT CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  HEADLIGHT_BEGIN(nullptr, "a copy")
  return copy_within(to, from, bytes, nullptr);
}
EXPORT CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, void *stream) {
  HEADLIGHT_BEGIN(find_stream(stream), "a copy")
  return copy_within(to, from, bytes, find_stream(stream));
}

#define HEADLIGHT_FILL(suffix, type)                                                               \
  EXPORT CUresult cuMemset##suffix##_v2(CUdeviceptr to, type value, size_t count) {                \
    HEADLIGHT_BEGIN(nullptr, "a fill")                                                             \
    return fill<type>(to, value, count, nullptr);                                                  \
  }                                                                                                \
  EXPORT CUresult cuMemset##suffix##Async(CUdeviceptr to, type value, size_t count, void *stream) { \
    HEADLIGHT_BEGIN(find_stream(stream), "a fill")                                                 \
    return fill<type>(to, value, count, find_stream(stream));                                      \
  }
HEADLIGHT_FILL(D8, unsigned char)
HEADLIGHT_FILL(D16, unsigned short)
HEADLIGHT_FILL(D32, unsigned)
#undef HEADLIGHT_FILL

EXPORT CUresult cuMemHostAlloc(void **host, size_t bytes, unsigned) {
  HEADLIGHT_BEGIN(nullptr, "an allocation")
  if (!bytes) return INVALID_VALUE;
  *host = aligned_alloc(PAGE, round_up(bytes, PAGE));
  if (!*host) return OUT_OF_MEMORY;
  memset(*host, 0xff, bytes);
  driver().pinned[reinterpret_cast<uintptr_t>(*host)] = bytes;
  return SUCCESS;
}
EXPORT CUresult cuMemAllocHost_v2(void **host, size_t bytes) {
  return cuMemHostAlloc(host, bytes, 0);
}

EXPORT CUresult cuMemFreeHost(void *host) {
  Guard guard(driver().mutex);
  Driver &d = driver();
  const auto found = d.pinned.find(reinterpret_cast<uintptr_t>(host));
  if (found == d.pinned.end()) return INVALID_VALUE;
  // Nothing promises that the call waits.
  const auto *low = static_cast<const char *>(host);
  auto forget = [&](Stream &stream) {
    for (Work &work : stream.work) {
      const auto *place = static_cast<const char *>(work.host);
      if (!place || place < low || place >= low + found->second) continue;
      report("pinned host memory is freed and nobody has waited for a copy of it");
      work.host = nullptr;
    }
  };
  forget(d.null_stream);
  for (Stream *stream : d.streams) forget(*stream);
  d.pinned.erase(found);
  free(host);
  return SUCCESS;
}
