// A CUDA driver that accepts everything and computes nothing: what is left of a sweep under it is the
// host's own time, and what it counts is what a device would be asked to do.
//
// Memory is handed out and never touched; what is read back is zeros, so readouts are nonsense, and equal
// for every run. It says it is a chip of compute capability 9.0 with 132 multiprocessors.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#define EXPORT extern "C" __attribute__((visibility("default")))
using CUresult = int;
using CUdeviceptr = uint64_t;

namespace {
enum : CUresult { SUCCESS = 0, NOT_FOUND = 500, NOT_READY = 600, NOT_SUPPORTED = 801 };

// Mirrors `Counts` in tests/silent/mod.rs.
struct Counts {
  uint64_t launches, to_device, bytes_to_device, to_host, bytes_to_host, waits, allocations, frees;
  uint64_t first_launch; // nanoseconds from the last reset to the first launch; 0: none yet
  uint64_t kept; // bytes that the memory pool does not give back when somebody waits
};
std::atomic<uint64_t> counts[8], first_launch, reset_at, kept;
enum { LAUNCHES, TO_DEVICE, BYTES_TO_DEVICE, TO_HOST, BYTES_TO_HOST, WAITS, ALLOCATIONS, FREES };
std::atomic<uint64_t> next_address{0x700000000000};

void *const CONTEXT = reinterpret_cast<void *>(1), *const STREAM = reinterpret_cast<void *>(2),
            *const POOL = reinterpret_cast<void *>(3);

// One stream, and a device that is as slow as it may be: of what was put on the stream only that is over for which
// somebody has waited, and what stands before it. An event is the number of the point at which it stands.
std::atomic<uint64_t> points, over;
using Event = std::atomic<uint64_t>;

void add(int what, uint64_t count = 1) { counts[what].fetch_add(count, std::memory_order_relaxed); }

void wait_for(uint64_t point) {
  add(WAITS);
  uint64_t before = over;
  while (before < point && !over.compare_exchange_weak(before, point)) {}
}

CUresult handle(void **out, void *value) { return *out = value, SUCCESS; }

uint64_t now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return uint64_t(time.tv_sec) * 1000000000 + uint64_t(time.tv_nsec);
}
} // namespace

EXPORT void headlight_silent_counts(Counts *out, int reset) {
  uint64_t *fields = &out->launches;
  for (int i = 0; i < 8; ++i) fields[i] = reset ? counts[i].exchange(0) : counts[i].load();
  const uint64_t first = reset ? first_launch.exchange(0) : first_launch.load();
  out->first_launch = first ? first - reset_at : 0;
  out->kept = kept;
  if (reset) reset_at = now();
}

// The device
EXPORT CUresult cuInit(unsigned) { return SUCCESS; }
EXPORT CUresult cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
EXPORT CUresult cuGetErrorString(CUresult, const char **text) { return *text = "silent", SUCCESS; }
EXPORT CUresult cuGetErrorName(CUresult, const char **text) { return *text = "SILENT", SUCCESS; }
EXPORT CUresult cuDeviceGetCount(int *count) { return *count = 1, SUCCESS; }
EXPORT CUresult cuDeviceGet(int *device, int) { return *device = 0, SUCCESS; }
EXPORT CUresult cuDeviceGetName(char *name, int length, int) {
  return snprintf(name, size_t(length), "silent driver"), SUCCESS;
}
EXPORT CUresult cuDeviceGetUuid(char *uuid, int) { return memset(uuid, 0, 16), SUCCESS; }
EXPORT CUresult cuDeviceGetUuid_v2(char *uuid, int) { return memset(uuid, 0, 16), SUCCESS; }
EXPORT CUresult cuDeviceGetAttribute(int *value, int attribute, int) {
  switch (attribute) {
  case 16: *value = 132; break; // multiprocessors
  case 75: *value = 9; break;   // compute capability
  case 76: *value = 0; break;
  default: *value = 1;
  }
  return SUCCESS;
}
EXPORT CUresult cuDeviceTotalMem_v2(size_t *bytes, int) { return *bytes = size_t(80) << 30, SUCCESS; }
EXPORT CUresult cuMemGetInfo_v2(size_t *free, size_t *total) {
  *free = size_t(79) << 30, *total = size_t(80) << 30;
  return SUCCESS;
}
EXPORT CUresult cuDevicePrimaryCtxRetain(void **context, int) { return handle(context, CONTEXT); }
EXPORT CUresult cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
EXPORT CUresult cuDevicePrimaryCtxSetFlags_v2(int, unsigned) { return SUCCESS; }
EXPORT CUresult cuCtxSetCurrent(void *) { return SUCCESS; }
EXPORT CUresult cuCtxGetCurrent(void **context) { return handle(context, CONTEXT); }
EXPORT CUresult cuCtxPushCurrent_v2(void *) { return SUCCESS; }
EXPORT CUresult cuCtxPopCurrent_v2(void **context) { return handle(context, CONTEXT); }
EXPORT CUresult cuCtxGetDevice(int *device) { return *device = 0, SUCCESS; }
EXPORT CUresult cuCtxGetApiVersion(void *, unsigned *version) { return *version = 13000, SUCCESS; }
EXPORT CUresult cuCtxSetFlags(unsigned) { return SUCCESS; }
EXPORT CUresult cuCtxGetFlags(unsigned *flags) { return *flags = 0, SUCCESS; }
EXPORT CUresult cuCtxSynchronize() { return wait_for(points), SUCCESS; }

// Kernels
EXPORT CUresult cuModuleLoadData(void **module, const void *) { return handle(module, CONTEXT); }
EXPORT CUresult cuModuleLoadDataEx(void **module, const void *, unsigned, int *, void **) {
  return handle(module, CONTEXT);
}
EXPORT CUresult cuModuleUnload(void *) { return SUCCESS; }
EXPORT CUresult cuModuleGetFunction(void **function, void *, const char *) {
  return handle(function, CONTEXT);
}
EXPORT CUresult cuFuncGetAttribute(int *value, int, void *) { return *value = 0, SUCCESS; }
EXPORT CUresult cuFuncSetAttribute(void *, int, int) { return SUCCESS; }
EXPORT CUresult cuFuncSetCacheConfig(void *, int) { return SUCCESS; }
EXPORT CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void *, int, size_t) {
  return *blocks = 1, SUCCESS;
}
EXPORT CUresult cuLaunchKernel(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                               unsigned, void *, void **, void **) {
  uint64_t never = 0;
  if (first_launch.load(std::memory_order_relaxed) == 0) first_launch.compare_exchange_strong(never, now());
  return add(LAUNCHES), SUCCESS;
}

// Memory
EXPORT CUresult cuMemAllocAsync(CUdeviceptr *address, size_t bytes, void *) {
  add(ALLOCATIONS);
  return *address = next_address.fetch_add((bytes + 1023) / 512 * 512), SUCCESS;
}
EXPORT CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes) {
  return cuMemAllocAsync(address, bytes, nullptr);
}
EXPORT CUresult cuMemFreeAsync(CUdeviceptr, void *) { return add(FREES), SUCCESS; }
EXPORT CUresult cuMemFree_v2(CUdeviceptr) { return add(FREES), SUCCESS; }
EXPORT CUresult cuMemHostAlloc(void **host, size_t bytes, unsigned) { return handle(host, malloc(bytes)); }
EXPORT CUresult cuMemAllocHost_v2(void **host, size_t bytes) { return handle(host, malloc(bytes)); }
EXPORT CUresult cuMemFreeHost(void *host) { return free(host), SUCCESS; }
EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr, const void *, size_t bytes, void *) {
  return add(TO_DEVICE), add(BYTES_TO_DEVICE, bytes), SUCCESS;
}
// a copy that is not asynchronous is a wait as well
EXPORT CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes) {
  return add(WAITS), cuMemcpyHtoDAsync_v2(to, from, bytes, nullptr);
}
EXPORT CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr, size_t bytes, void *) {
  return memset(to, 0, bytes), add(TO_HOST), add(BYTES_TO_HOST, bytes), SUCCESS;
}
EXPORT CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes) {
  return add(WAITS), cuMemcpyDtoHAsync_v2(to, from, bytes, nullptr);
}
EXPORT CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr, CUdeviceptr, size_t, void *) { return SUCCESS; }
EXPORT CUresult cuMemcpyDtoD_v2(CUdeviceptr, CUdeviceptr, size_t) { return SUCCESS; }
EXPORT CUresult cuMemsetD8Async(CUdeviceptr, unsigned char, size_t, void *) { return SUCCESS; }
EXPORT CUresult cuDeviceGetDefaultMemPool(void **pool, int) { return handle(pool, POOL); }
EXPORT CUresult cuDeviceGetMemPool(void **pool, int) { return handle(pool, POOL); }
EXPORT CUresult cuMemPoolSetAttribute(void *, int attribute, void *value) {
  if (attribute == 4) kept = *static_cast<uint64_t *>(value); // the release threshold
  return SUCCESS;
}
EXPORT CUresult cuMemPoolGetAttribute(void *, int, void *) { return NOT_SUPPORTED; }
EXPORT CUresult cuMemPoolTrimTo(void *, size_t) { return SUCCESS; }

// Streams and events
EXPORT CUresult cuStreamCreate(void **stream, unsigned) { return handle(stream, STREAM); }
EXPORT CUresult cuStreamCreateWithPriority(void **stream, unsigned, int) { return handle(stream, STREAM); }
EXPORT CUresult cuStreamDestroy_v2(void *) { return SUCCESS; }
EXPORT CUresult cuStreamSynchronize(void *) { return wait_for(points), SUCCESS; }
EXPORT CUresult cuStreamQuery(void *) { return SUCCESS; }
EXPORT CUresult cuStreamWaitEvent(void *, void *, unsigned) { return SUCCESS; }
EXPORT CUresult cuStreamIsCapturing(void *, int *status) { return *status = 0, SUCCESS; }
EXPORT CUresult cuEventCreate(void **event, unsigned) { return handle(event, new Event{0}); }
EXPORT CUresult cuEventDestroy_v2(void *event) { return delete static_cast<Event *>(event), SUCCESS; }
EXPORT CUresult cuEventRecord(void *event, void *) { return *static_cast<Event *>(event) = ++points, SUCCESS; }
EXPORT CUresult cuEventQuery(void *event) {
  return *static_cast<Event *>(event) <= over ? SUCCESS : CUresult(NOT_READY);
}
EXPORT CUresult cuEventSynchronize(void *event) {
  const uint64_t point = *static_cast<Event *>(event);
  if (point > over) wait_for(point);
  return SUCCESS;
}
EXPORT CUresult cuEventElapsedTime(float *time, void *, void *) { return *time = 1, SUCCESS; }
EXPORT CUresult cuEventElapsedTime_v2(float *time, void *, void *) { return *time = 1, SUCCESS; }
