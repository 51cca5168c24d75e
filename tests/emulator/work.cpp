// What streams were given and have not done: copies and fills wait until something orders them, so that a
// missing order shows as what it can be on a device, memory that is not there yet.

#include <string.h>

#include "driver.hpp"

namespace headlight {

namespace {

uint64_t cell_of(uint64_t address) { return (address - driver().arena.base) / 2; }

// Memory may be gone by the time that a copy comes to it.
bool lives(uint64_t address, uint64_t bytes) {
  if (find_allocation(address, bytes, nullptr)) return true;
  report("a copy or a fill that was still under way finds its memory gone: " + describe_address(address));
  driver().sticky = ILLEGAL_ADDRESS;
  return false;
}

void copy_out(Work &work) {
  const Record *written = driver().arena.written;
  uint64_t missing = 0, first = 0;
  for (uint64_t i = cell_of(work.from), end = cell_of(work.from + work.bytes + 1); i < end; ++i) {
    if (written[i] > UNWRITTEN) continue;
    if (!missing++) first = i;
  }
  if (missing) {
    report("uninitialised output: a copy of " + std::to_string(work.bytes) +
           " bytes from the device reads " + std::to_string(missing * 2) +
           " that nobody wrote; the first: " + describe_address(driver().arena.base + first * 2));
    driver().sticky = LAUNCH_FAILED;
    return;
  }
  const auto *data = reinterpret_cast<const unsigned char *>(work.from);
  work.data.assign(data, data + work.bytes);
}

void copy_within(const Work &work) {
  memmove(reinterpret_cast<void *>(work.to), reinterpret_cast<void *>(work.from), work.bytes);
  Record *written = driver().arena.written;
  const uint64_t source = cell_of(work.from), target = cell_of(work.to);
  // What nobody wrote stays so.
  std::vector<Record> records(written + source, written + source + (work.bytes + 1) / 2);
  for (uint64_t i = 0; i < records.size(); ++i) {
    written[target + i] = records[i] > UNWRITTEN ? COPIED : UNWRITTEN;
  }
}

void fill(const Work &work) {
  auto *place = reinterpret_cast<unsigned char *>(work.to);
  for (uint64_t at = 0; at < work.bytes; at += work.data.size()) {
    memcpy(place + at, work.data.data(), work.data.size());
  }
  mark_copied(work.to, work.bytes);
}

void perform(Work &work) {
  if (driver().sticky) return;  // after an error nothing is done any more
  switch (work.kind) {
    case Work::LAUNCH:
      break;
    case Work::COPY_IN:
      if (!lives(work.to, work.bytes)) break;
      memcpy(reinterpret_cast<void *>(work.to), work.data.data(), work.bytes);
      mark_copied(work.to, work.bytes);
      break;
    case Work::COPY_OUT:
      if (lives(work.from, work.bytes)) copy_out(work);
      break;
    case Work::COPY_WITHIN:
      if (lives(work.from, work.bytes) && lives(work.to, work.bytes)) copy_within(work);
      break;
    case Work::FILL:
      if (lives(work.to, work.bytes)) fill(work);
      break;
  }
}

}  // namespace

void give(Stream &stream, Work work) {
  stream.work.push_back(std::move(work));
  ++stream.given;
}

void perform(Stream &stream, uint64_t position) {
  for (; stream.done < position; ++stream.done) perform(stream.work[stream.done - stream.over]);
}

void perform_before(Stream &stream) {
  Driver &d = driver();
  if (stream.blocking) perform(d.null_stream, d.null_stream.given);
  if (&stream == &d.null_stream) {
    for (Stream *each : d.streams) {
      if (each->blocking) perform(*each, each->given);
    }
  }
  perform(stream, stream.given);
}

void perform_everything() {
  Driver &d = driver();
  perform(d.null_stream, d.null_stream.given);
  for (Stream *stream : d.streams) perform(*stream, stream->given);
}

void arrive(Stream &stream, uint64_t position) {
  if (stream.over >= position) return;
  // what the work itself comes behind
  if (stream.blocking) perform(driver().null_stream, driver().null_stream.given);
  perform(stream, position);
  for (; stream.over < position; ++stream.over) {
    const Work &work = stream.work.front();
    if (work.host && work.data.size() == work.bytes) {
      if (work.kind == Work::COPY_OUT) {
        memcpy(work.host, work.data.data(), work.bytes);
      } else if (memcmp(work.host, work.data.data(), work.bytes)) {
        report("pinned host memory was changed while it was being copied to the device");
      }
    }
    stream.work.pop_front();
  }
}

}  // namespace headlight
