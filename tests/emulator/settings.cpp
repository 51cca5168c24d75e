// The environment variables that tests set (README.md), and calls about the device and its context.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.hpp"

namespace headlight {

Driver &driver() {
  // Never destroyed: threads may outlive main().
  static Driver *the = new Driver();
  return *the;
}

uint64_t setting(const char *name, uint64_t otherwise) {
  const char *text = getenv(name);
  return text && *text ? strtoull(text, nullptr, 0) : otherwise;
}

namespace {

thread_local void *current_context = nullptr;
int the_context;  // its address is the handle

uint64_t device_count() { return setting("HEADLIGHT_EMULATOR_DEVICES", 1); }
uint64_t total_memory() { return setting("HEADLIGHT_EMULATOR_MEMORY", uint64_t(4) << 30); }
uint64_t capability() { return setting("HEADLIGHT_EMULATOR_CAPABILITY", 80); }

int attribute(int number) {
  switch (number) {
    case 1: return 1024;                   // threads a block
    case 2: case 3: return 1024;           // block x, y
    case 4: return 64;                     // block z
    case 5: return 2147483647;             // grid x
    case 6: case 7: return 65535;          // grid y, z
    case 8: return int(MOST_STATIC_SHARED);
    case 9: return 65536;                  // constant memory
    case 10: return 32;                    // warp size
    case 11: return 2147483647;            // pitch
    case 12: return 65536;                 // registers a block
    case 13: return 1410000;               // clock, kHz
    case 14: return 512;
    case 16: return 108;                   // multiprocessors
    case 19: return 1;
    case 31: return 1;
    case 36: return 1215000;               // memory clock, kHz
    case 37: return 5120;                  // bus width
    case 38: return 40 << 20;              // L2
    case 39: return 2048;                  // threads a multiprocessor
    case 40: return 3;
    case 41: return 1;
    case 75: return int(capability() / 10);
    case 76: return int(capability() % 10);
    case 81: return 164 * 1024;
    case 82: return 65536;
    case 95: return 1;
    case 97: return int(MOST_SHARED);
    case 106: return 32;                   // blocks a multiprocessor
    case 111: return 1024;                 // shared memory reserved a block
    case 115: return 1;                    // memory pools
    default: return 0;
  }
}

const struct { int code; const char *name, *text; } ERRORS[] = {
    {SUCCESS, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {LAUNCH_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
     "too many resources requested for launch"},
    {716, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
     "system has unsupported display driver / cuda driver combination"},
    {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
    {CAPTURE_IMPLICIT, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

}  // namespace
}  // namespace headlight

using namespace headlight;

EXPORT CUresult cuInit(unsigned flags) {
  if (const uint64_t error = setting("HEADLIGHT_EMULATOR_INIT", 0)) return CUresult(error);
  if (flags) return INVALID_VALUE;
  if (device_count() == 0) return NO_DEVICE;
  Guard guard(driver().mutex);
  if (!driver().initialised) {
    driver().initialised = true;
    driver().seed = setting("HEADLIGHT_EMULATOR_SEED", 1);
    prepare_arena();
  }
  return SUCCESS;
}

EXPORT CUresult cuDriverGetVersion(int *version) {
  *version = int(setting("HEADLIGHT_EMULATOR_DRIVER", 13000));
  return SUCCESS;
}

EXPORT CUresult cuGetErrorString(CUresult error, const char **text) {
  for (const auto &entry : ERRORS) {
    if (entry.code == error) return *text = entry.text, SUCCESS;
  }
  *text = nullptr;
  return INVALID_VALUE;
}

EXPORT CUresult cuGetErrorName(CUresult error, const char **name) {
  for (const auto &entry : ERRORS) {
    if (entry.code == error) return *name = entry.name, SUCCESS;
  }
  *name = nullptr;
  return INVALID_VALUE;
}

// ---- the device -------------------------------------------------------------------------------

EXPORT CUresult cuDeviceGetCount(int *count) {
  if (!driver().initialised) return NOT_INITIALIZED;
  *count = int(device_count());
  return SUCCESS;
}

EXPORT CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  if (!driver().initialised) return NOT_INITIALIZED;
  if (ordinal < 0 || uint64_t(ordinal) >= device_count()) return INVALID_DEVICE;
  *device = ordinal;
  return SUCCESS;
}

EXPORT CUresult cuDeviceGetName(char *name, int length, CUdevice device) {
  const bool odd = uint64_t(device) == setting("HEADLIGHT_EMULATOR_ODD", device_count());
  snprintf(name, size_t(length), odd ? "headlight odd device" : "headlight emulated device");
  return SUCCESS;
}

EXPORT CUresult cuDeviceGetUuid(char *uuid, CUdevice device) {
  memset(uuid, 0, 16);
  uuid[15] = char(device);
  return SUCCESS;
}
EXPORT CUresult cuDeviceGetUuid_v2(char *uuid, CUdevice device) {
  return cuDeviceGetUuid(uuid, device);
}

EXPORT CUresult cuDeviceGetAttribute(int *value, int number, CUdevice) {
  *value = attribute(number);
  return SUCCESS;
}

EXPORT CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice) {
  *major = attribute(75);
  *minor = attribute(76);
  return SUCCESS;
}

EXPORT CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice) {
  *bytes = total_memory();
  return SUCCESS;
}

EXPORT CUresult cuMemGetInfo_v2(size_t *free, size_t *total) {
  Guard guard(driver().mutex);
  *total = total_memory();
  *free = *total > driver().used ? *total - driver().used : 0;
  return SUCCESS;
}

// ---- the context: one, shared, as the primary context of a device is ---------------------------

EXPORT CUresult cuDevicePrimaryCtxRetain(void **context, CUdevice) {
  if (!driver().initialised) return NOT_INITIALIZED;
  Guard guard(driver().mutex);
  ++driver().retained;
  *context = &the_context;
  return SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice) {
  Guard guard(driver().mutex);
  Driver &d = driver();
  if (!d.retained) return INVALID_CONTEXT;
  if (--d.retained) return SUCCESS;
  report_leaks();
  release_everything();
  d.sticky = SUCCESS;
  return SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxReset_v2(CUdevice) {
  Guard guard(driver().mutex);
  release_everything();
  driver().sticky = SUCCESS;
  return SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxGetState(CUdevice, unsigned *flags, int *active) {
  *flags = 0;
  *active = driver().retained != 0;
  return SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice, unsigned) { return SUCCESS; }

EXPORT CUresult cuCtxGetCurrent(void **context) {
  *context = current_context;
  return SUCCESS;
}

EXPORT CUresult cuCtxSetCurrent(void *context) {
  current_context = context;
  return SUCCESS;
}

EXPORT CUresult cuCtxPushCurrent_v2(void *context) { return cuCtxSetCurrent(context); }

EXPORT CUresult cuCtxPopCurrent_v2(void **context) {
  *context = current_context;
  current_context = nullptr;
  return SUCCESS;
}

EXPORT CUresult cuCtxGetDevice(CUdevice *device) {
  *device = 0;
  return current_context ? SUCCESS : INVALID_CONTEXT;
}

EXPORT CUresult cuCtxGetApiVersion(void *, unsigned *version) {
  *version = 3020;
  return SUCCESS;
}

EXPORT CUresult cuCtxSetFlags(unsigned) { return SUCCESS; }
EXPORT CUresult cuCtxGetFlags(unsigned *flags) { return *flags = 0, SUCCESS; }

EXPORT CUresult cuDeviceGetDefaultMemPool(void **pool, CUdevice) {
  *pool = &the_context;
  return SUCCESS;
}
EXPORT CUresult cuDeviceGetMemPool(void **pool, CUdevice) {
  *pool = &the_context;
  return SUCCESS;
}
EXPORT CUresult cuMemPoolSetAttribute(void *, int, void *) { return SUCCESS; }
EXPORT CUresult cuMemPoolTrimTo(void *, size_t) { return SUCCESS; }
