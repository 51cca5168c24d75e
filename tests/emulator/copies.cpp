// cp.async: the data is taken when the copy is issued and stored when its thread waits for it.
// Until then the destination belongs to nobody, and the source must stay as it is.

#include <string.h>

#include "device_words.hpp"
#include "engine.hpp"

using namespace headlight;

void headlight_copy_async(void *to, const void *from, uint32_t bytes, uint32_t size) {
  const uintptr_t code = HEADLIGHT_CALLER;
  const uintptr_t target = reinterpret_cast<uintptr_t>(to), source = reinterpret_cast<uintptr_t>(from);
  Fiber &fiber = *state->current;
  if (!is_shared(target)) {
    fail(ILLEGAL_ADDRESS, "not shared memory", code, target, 0,
         "an asynchronous copy to something other than shared memory");
  }
  if (target % size || source % size) {
    fail(MISALIGNED_ADDRESS, "misaligned access", code, target % size ? target : source, 0,
         "the %s of an asynchronous copy is not aligned to %u bytes",
         target % size ? "destination" : "source", size);
  }
  if (bytes > size || (size == 4 && bytes % 4)) {
    fail(LAUNCH_FAILED, "asynchronous copy", code, 0, 0, "a copy of %u bytes of %u", bytes, size);
  }
  if (bytes && source - state->global.base >= state->global.size) {
    fail(ILLEGAL_ADDRESS, "out of bounds", code, source, 0,
         "an asynchronous copy from something other than device memory");
  }
  Copy copy = {to, from, bytes, size, fiber.group, stamp_of(fiber.record), code, {}};
  if (bytes) {
    if (bytes == 16) {
      check_read_16(from, code);
    } else if (bytes == 4) {
      check_read_4(from, code);
    } else {
      check_read(source, bytes, code);
    }
    memcpy(copy.data, from, bytes);
  }
  begin_copy(target, size, code);
  fiber.copies.push_back(copy);
}

void headlight_copy_async_commit() { ++state->current->group; }

void headlight_copy_async_wait(int pending) {
  Fiber &fiber = *state->current;
  size_t landed = 0;
  while (landed < fiber.copies.size()) {
    const Copy &copy = fiber.copies[landed];
    if (copy.group + uint32_t(pending) >= fiber.group) break;
    land_copy(copy);
    memcpy(copy.to, copy.data, copy.size);
    ++landed;
  }
  fiber.copies.erase(fiber.copies.begin(), fiber.copies.begin() + long(landed));
}
