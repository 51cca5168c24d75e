// Modules, functions and launches: what no device would accept is refused here, the rest goes to an
// engine. Kernels run at once, in the calling thread; as many at a time as there are engines.

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>

#include "driver.hpp"

namespace headlight {

namespace {

std::string own_folder() {
  Dl_info self;
  dladdr(reinterpret_cast<void *>(&driver), &self);
  const std::string path = self.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

std::string in_launch(const Recorded &launch) {
  return "launch of " + std::string(launch.function->kernel->name) + ": ";
}

// Whether a device of this kind accepts the launch.
CUresult check_shape(const Recorded &launch) {
  const uint32_t *grid = launch.grid, *block = launch.block;
  const Function &function = *launch.function;
  const uint64_t threads = uint64_t(block[0]) * block[1] * block[2];
  if (!threads || !grid[0] || !grid[1] || !grid[2]) {
    report(in_launch(launch) + "a grid or block without threads");
    return INVALID_VALUE;
  }
  if (threads > 1024 || block[0] > 1024 || block[1] > 1024 || block[2] > 64) {
    report(in_launch(launch) + "too many threads: a block of " + std::to_string(threads));
    return INVALID_VALUE;
  }
  if (function.kernel->launch_bound && threads > function.kernel->launch_bound) {
    report(in_launch(launch) + std::to_string(threads) + " threads a block, and __launch_bounds__(" +
           std::to_string(function.kernel->launch_bound) + ")");
    return INVALID_VALUE;
  }
  if (grid[0] > 2147483647u || grid[1] > 65535 || grid[2] > 65535) {
    report(in_launch(launch) + "a grid of " + std::to_string(grid[0]) + " × " +
           std::to_string(grid[1]) + " × " + std::to_string(grid[2]) +
           " blocks; y and z go up to 65535");
    return INVALID_VALUE;
  }
  if (launch.dynamic_shared > function.most_dynamic_shared) {
    report(in_launch(launch) + std::to_string(launch.dynamic_shared) +
           " bytes of dynamic shared memory, and " + std::to_string(function.most_dynamic_shared) +
           " allowed (the function attribute raises it up to " + std::to_string(MOST_SHARED) + ")");
    return INVALID_VALUE;
  }
  return SUCCESS;
}

// Pointers must point into memory that is alive; a null one is the kernel's own affair.
CUresult check_pointers(const Recorded &launch) {
  const Kernel &kernel = *launch.function->kernel;
  const unsigned char *argument = launch.arguments.data();
  for (uint32_t i = 0; i < kernel.parameter_count; ++i) {
    const Parameter &parameter = kernel.parameters[i];
    for (uint32_t p = 0; p < parameter.pointer_count; ++p) {
      const Pointer &place = parameter.pointers[p];
      uint64_t pointer;
      memcpy(&pointer, argument + place.offset, 8);
      if (pointer && !find_allocation(pointer, 1, nullptr)) {
        report(in_launch(launch) + "argument " + std::to_string(i + 1) +
               (*place.name ? std::string(" (") + place.name + ")" : std::string()) +
               " is no pointer to live memory: " + describe_address(pointer));
        driver().sticky = ILLEGAL_ADDRESS;
        return SUCCESS;
      }
    }
    argument += parameter.size;
  }
  return SUCCESS;
}

}  // namespace

CUresult load_engines() {
  Driver &d = driver();
  if (!d.engines.empty()) return SUCCESS;
  for (uint32_t slot = 0; slot < 2; ++slot) {
    const std::string path = own_folder() + "/kernels-" + std::to_string(slot) + ".so";
    void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) {
      report(std::string("cannot load the kernels: ") + dlerror());
      return INVALID_IMAGE;
    }
    const auto start = reinterpret_cast<StartEngine>(dlsym(library, "headlight_engine"));
    d.engines.push_back(start(&d.arena, slot));
    d.busy.push_back(false);
  }
  return SUCCESS;
}

CUresult run_recorded(Guard &guard, const Recorded &recorded) {
  Driver &d = driver();
  if (const CUresult error = check_shape(recorded)) return error;
  if (const CUresult error = check_pointers(recorded)) return error;
  if (d.sticky) return SUCCESS;

  // Near the end of time everybody waits, and it starts again.
  if (d.clock > LAST_STAMP / 2) {
    d.idle.wait(guard, [&] { return std::count(d.busy.begin(), d.busy.end(), true) == 0; });
    if (d.clock > LAST_STAMP / 2) {
      forget_accesses();
      for (const Engine *engine : d.engines) engine->forget();
      d.clock = 1;
    }
  }
  d.idle.wait(guard, [&] { return std::count(d.busy.begin(), d.busy.end(), false) > 0; });
  const size_t slot = size_t(std::find(d.busy.begin(), d.busy.end(), false) - d.busy.begin());
  const Engine &engine = *d.engines[slot];
  d.busy[slot] = true;

  const Kernel &kernel = engine.kernels[recorded.function->index];
  std::vector<unsigned char> arguments = recorded.arguments;
  std::vector<void *> pointers(kernel.parameter_count + 1);
  for (uint32_t i = 0, offset = 0; i < kernel.parameter_count; ++i) {
    pointers[i] = arguments.data() + offset;
    offset += kernel.parameters[i].size;
  }
  Launch launch = {};
  launch.kernel = &kernel;
  launch.parameters = pointers.data();
  for (int i = 0; i < 3; ++i) {
    launch.grid[i] = recorded.grid[i];
    launch.block[i] = recorded.block[i];
  }
  launch.dynamic_shared = recorded.dynamic_shared;
  launch.seed = d.seed * 0x9e3779b97f4a7c15ull + ++d.launches;
  launch.clock = d.clock;
  guard.unlock();
  const bool well = engine.execute(&launch);
  guard.lock();
  d.clock = std::max(d.clock, launch.clock);
  if (!well) {
    report_finding(engine, launch);
    d.sticky = launch.finding.error;
  }
  d.busy[slot] = false;
  d.idle.notify_all();
  return SUCCESS;
}

}  // namespace headlight

using namespace headlight;

EXPORT CUresult cuModuleLoadData(void **module, const void *image) {
  Guard guard(driver().mutex);
  if (driver().sticky) return driver().sticky;
  if (!image) return INVALID_VALUE;
  // What is in the image does not matter, the kernels were compiled with the emulator; unless it is to
  // be as strict as a real driver, which takes no placeholder.
  uint32_t magic;
  memcpy(&magic, image, sizeof magic);
  if (setting("HEADLIGHT_EMULATOR_STRICT", 0) && magic != 0xba55ed50) return INVALID_IMAGE;
  if (const CUresult error = load_engines()) return error;
  Module *made = new Module();
  driver().modules.insert(made);
  *module = made;
  return SUCCESS;
}

EXPORT CUresult cuModuleLoadFatBinary(void **module, const void *image) {
  return cuModuleLoadData(module, image);
}
EXPORT CUresult cuModuleLoadDataEx(void **module, const void *image, unsigned, int *, void **) {
  return cuModuleLoadData(module, image);
}

EXPORT CUresult cuModuleUnload(void *handle) {
  Guard guard(driver().mutex);
  Module *module = static_cast<Module *>(handle);
  if (!driver().modules.erase(module)) return INVALID_HANDLE;
  delete module;
  return SUCCESS;
}

EXPORT CUresult cuModuleGetFunction(void **function, void *handle, const char *name) {
  Guard guard(driver().mutex);
  Module *module = static_cast<Module *>(handle);
  if (!driver().modules.count(module)) return INVALID_HANDLE;
  const Engine &engine = *driver().engines[0];
  for (uint32_t i = 0; i < engine.kernel_count; ++i) {
    if (strcmp(engine.kernels[i].name, name)) continue;
    auto &made = module->functions[name];
    if (!made) made = std::make_unique<Function>(Function{&engine.kernels[i], i});
    *function = made.get();
    return SUCCESS;
  }
  return NOT_FOUND;
}

EXPORT CUresult cuFuncGetAttribute(int *value, int attribute, void *handle) {
  Guard guard(driver().mutex);
  const Function &function = *static_cast<Function *>(handle);
  switch (attribute) {
    case 0: *value = function.kernel->launch_bound ? int(function.kernel->launch_bound) : 1024; break;
    case 1: *value = int(driver().engines[0]->static_shared(function.kernel)); break;
    case 4: *value = 32; break;
    case 5: case 6: *value = 80; break;
    case 8: *value = int(function.most_dynamic_shared); break;
    default: *value = 0;
  }
  return SUCCESS;
}

EXPORT CUresult cuFuncSetAttribute(void *handle, int attribute, int value) {
  Guard guard(driver().mutex);
  if (driver().sticky) return driver().sticky;
  if (attribute == 8) {
    if (value < 0 || uint64_t(value) > MOST_SHARED) return INVALID_VALUE;
    static_cast<Function *>(handle)->most_dynamic_shared = uint32_t(value);
  }
  return SUCCESS;
}

EXPORT CUresult cuFuncSetCacheConfig(void *, int) { return SUCCESS; }

EXPORT CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void *, int threads,
                                                            size_t) {
  *blocks = threads > 0 ? 2048 / threads : 0;
  return SUCCESS;
}

EXPORT CUresult cuLaunchKernel(void *handle, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                               unsigned block_x, unsigned block_y, unsigned block_z,
                               unsigned dynamic_shared, void *stream_handle, void **parameters,
                               void **) {
  Guard guard(driver().mutex);
  Driver &d = driver();
  if (d.sticky) return d.sticky;
  Stream *stream = find_stream(stream_handle);
  if (!handle || !stream) return INVALID_HANDLE;
  Function *function = static_cast<Function *>(handle);
  Recorded launch = {function, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z},
                     dynamic_shared, {}};
  for (uint32_t i = 0; i < function->kernel->parameter_count; ++i) {
    const auto *from = static_cast<const unsigned char *>(parameters[i]);
    launch.arguments.insert(launch.arguments.end(), from,
                            from + function->kernel->parameters[i].size);
  }
  if (stream->capturing) {
    if (const CUresult error = check_shape(launch)) return error;
    if (const CUresult error = check_pointers(launch)) return error;
    stream->captured.push_back(std::move(launch));
    return SUCCESS;
  }
  if (stream == &d.null_stream) {
    for (Stream *each : d.streams) {
      if (!each->capturing) continue;
      report("a launch on the default stream during the capture of another");
      each->invalidated = true;
      return CAPTURE_IMPLICIT;
    }
  }
  perform_before(*stream);
  give(*stream, {Work::LAUNCH, 0, 0, 0, nullptr, {}});
  return run_recorded(guard, launch);
}
