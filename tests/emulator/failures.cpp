// Errors of a kernel: the facts are noted where they happen, and the launch is given up.
// A kernel owns nothing that would have to be freed, so its fibers are simply not run again.

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "device_words.hpp"
#include "engine.hpp"

namespace headlight {

namespace {

void fill_finding(int error, const char *kind, uintptr_t code, uintptr_t address, uintptr_t earlier,
                  const char *format, va_list arguments) {
  Finding &finding = state->launch->finding;
  finding = {};
  snprintf(finding.kind, sizeof finding.kind, "%s", kind);
  vsnprintf(finding.detail, sizeof finding.detail, format, arguments);
  finding.error = error;
  finding.code = code;
  finding.earlier = earlier;
  finding.address = address;
  if (const Fiber *fiber = state->current) {
    finding.thread[0] = fiber->x;
    finding.thread[1] = fiber->y;
    finding.thread[2] = fiber->z;
  }
  finding.block[0] = state->block_x;
  finding.block[1] = state->block_y;
  finding.block[2] = state->block_z;
  state->failed = true;
}

}  // namespace

void note(int error, const char *kind, uintptr_t code, uintptr_t address, uintptr_t earlier,
          const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fill_finding(error, kind, code, address, earlier, format, arguments);
  va_end(arguments);
}

void fail(int error, const char *kind, uintptr_t code, uintptr_t address, uintptr_t earlier,
          const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fill_finding(error, kind, code, address, earlier, format, arguments);
  va_end(arguments);
  leave_for_good();
}

}  // namespace headlight

void headlight_trap() {
  headlight::fail(headlight::LAUNCH_FAILED, "trap", HEADLIGHT_CALLER, 0, 0, "the kernel gave up");
}
