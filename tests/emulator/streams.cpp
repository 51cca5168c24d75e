// Streams, events and graphs. Launches run when they are given, copies and fills when something orders them
// (work.cpp). A query is told once that what it asks for is not over, as far as anything is under way.

#include <time.h>

#include "driver.hpp"

namespace headlight {

namespace {

// Captures that this thread began: what no capture may contain is forbidden to it meanwhile.
thread_local unsigned open_captures = 0;

double milliseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return double(now.tv_sec) * 1e3 + double(now.tv_nsec) / 1e6;
}

template <class T>
bool known(const std::set<T *> &all, void *handle) {
  return all.count(static_cast<T *>(handle)) != 0;
}

CUresult wait(Stream *stream, const char *operation) {
  if (!stream) return INVALID_HANDLE;
  if (breaks_capture(stream, operation)) return CAPTURE_UNSUPPORTED;
  arrive(*stream, stream->given);
  return driver().sticky;
}

// Whether the host has waited for what an event stands behind.
bool is_over(const Event &event) { return !event.stream || event.stream->over >= event.position; }

}  // namespace

// The legacy and per-thread default streams are all one here.
Stream *find_stream(void *handle) {
  if (reinterpret_cast<uintptr_t>(handle) <= 2) return &driver().null_stream;
  return known(driver().streams, handle) ? static_cast<Stream *>(handle) : nullptr;
}

bool breaks_capture(Stream *stream, const char *operation) {
  const bool inside = stream && stream->capturing;
  if (!inside && !open_captures) return false;
  report(std::string(operation) + " during the capture of a stream");
  for (Stream *each : driver().streams) {
    if (each->capturing) each->invalidated = true;
  }
  return true;
}

}  // namespace headlight

using namespace headlight;

// ---- streams ----------------------------------------------------------------------------------

EXPORT CUresult cuStreamCreate(void **stream, unsigned flags) {
  Guard guard(driver().mutex);
  if (driver().sticky) return driver().sticky;
  Stream *made = new Stream();
  made->blocking = !(flags & 1);
  driver().streams.insert(made);
  *stream = made;
  return SUCCESS;
}

EXPORT CUresult cuStreamCreateWithPriority(void **stream, unsigned flags, int) {
  return cuStreamCreate(stream, flags);
}

EXPORT CUresult cuStreamDestroy_v2(void *handle) {
  Guard guard(driver().mutex);
  if (!known(driver().streams, handle)) return INVALID_HANDLE;
  Stream *stream = static_cast<Stream *>(handle);
  arrive(*stream, stream->given);
  if (stream->capturing && open_captures) --open_captures;
  for (Event *event : driver().events) {
    if (event->stream == stream) event->stream = nullptr;
  }
  driver().streams.erase(stream);
  delete stream;
  return driver().sticky;
}

EXPORT CUresult cuStreamSynchronize(void *handle) {
  Guard guard(driver().mutex);
  return wait(find_stream(handle), "a synchronisation");
}

EXPORT CUresult cuStreamQuery(void *handle) {
  Guard guard(driver().mutex);
  Stream *stream = find_stream(handle);
  if (stream && !stream->capturing && stream->over < stream->given && stream->asked < stream->given) {
    stream->asked = stream->given;
    return driver().sticky ? driver().sticky : NOT_READY;
  }
  return wait(stream, "a query");
}

EXPORT CUresult cuCtxSynchronize() {
  Guard guard(driver().mutex);
  if (breaks_capture(nullptr, "a synchronisation")) return CAPTURE_UNSUPPORTED;
  arrive(driver().null_stream, driver().null_stream.given);
  for (Stream *stream : driver().streams) arrive(*stream, stream->given);
  return driver().sticky;
}

EXPORT CUresult cuStreamWaitEvent(void *stream, void *handle, unsigned) {
  Guard guard(driver().mutex);
  if (!find_stream(stream) || !known(driver().events, handle)) return INVALID_HANDLE;
  const Event &event = *static_cast<Event *>(handle);
  if (event.stream) perform(*event.stream, event.position);
  return driver().sticky;
}

// ---- events -----------------------------------------------------------------------------------

EXPORT CUresult cuEventCreate(void **event, unsigned flags) {
  Guard guard(driver().mutex);
  if (driver().sticky) return driver().sticky;
  Event *made = new Event();
  made->timing = !(flags & 2);
  driver().events.insert(made);
  *event = made;
  return SUCCESS;
}

EXPORT CUresult cuEventRecord(void *handle, void *stream_handle) {
  Guard guard(driver().mutex);
  Stream *stream = find_stream(stream_handle);
  if (!known(driver().events, handle) || !stream) return INVALID_HANDLE;
  Event *event = static_cast<Event *>(handle);
  event->time = milliseconds();
  event->stream = stream;
  event->position = stream->given;
  event->asked = false;
  return driver().sticky;
}

EXPORT CUresult cuEventQuery(void *handle) {
  Guard guard(driver().mutex);
  if (!known(driver().events, handle)) return INVALID_HANDLE;
  Event &event = *static_cast<Event *>(handle);
  if (is_over(event)) return driver().sticky;
  if (!event.asked) {
    event.asked = true;
    return driver().sticky ? driver().sticky : NOT_READY;
  }
  arrive(*event.stream, event.position);
  return driver().sticky;
}

EXPORT CUresult cuEventSynchronize(void *handle) {
  Guard guard(driver().mutex);
  if (!known(driver().events, handle)) return INVALID_HANDLE;
  if (breaks_capture(nullptr, "a synchronisation")) return CAPTURE_UNSUPPORTED;
  const Event &event = *static_cast<Event *>(handle);
  if (event.stream) arrive(*event.stream, event.position);
  return driver().sticky;
}

EXPORT CUresult cuEventElapsedTime(float *time, void *start, void *end) {
  Guard guard(driver().mutex);
  if (driver().sticky) return driver().sticky;
  if (!known(driver().events, start) || !known(driver().events, end)) return INVALID_HANDLE;
  const Event &from = *static_cast<Event *>(start), &to = *static_cast<Event *>(end);
  if (!from.timing || !to.timing || from.time < 0 || to.time < 0) return INVALID_HANDLE;
  if (!is_over(from) || !is_over(to)) return NOT_READY;
  *time = float(to.time - from.time);
  return SUCCESS;
}

EXPORT CUresult cuEventElapsedTime_v2(float *time, void *start, void *end) {
  return cuEventElapsedTime(time, start, end);
}

EXPORT CUresult cuEventDestroy_v2(void *handle) {
  Guard guard(driver().mutex);
  if (!known(driver().events, handle)) return INVALID_HANDLE;
  driver().events.erase(static_cast<Event *>(handle));
  delete static_cast<Event *>(handle);
  return SUCCESS;
}

// ---- graphs -----------------------------------------------------------------------------------

EXPORT CUresult cuStreamBeginCapture_v2(void *handle, int) {
  Guard guard(driver().mutex);
  if (driver().sticky) return driver().sticky;
  Stream *stream = find_stream(handle);
  if (!stream || stream->capturing) return INVALID_HANDLE;
  if (stream == &driver().null_stream) {
    report("the capture of the default stream, which cannot be captured");
    return CAPTURE_UNSUPPORTED;
  }
  stream->capturing = true;
  stream->invalidated = false;
  stream->captured.clear();
  ++open_captures;
  return SUCCESS;
}

EXPORT CUresult cuStreamIsCapturing(void *handle, int *status) {
  Guard guard(driver().mutex);
  const Stream *stream = find_stream(handle);
  if (!stream) return INVALID_HANDLE;
  *status = stream->invalidated ? 2 : stream->capturing;
  return SUCCESS;
}

EXPORT CUresult cuStreamEndCapture(void *handle, void **graph) {
  Guard guard(driver().mutex);
  Stream *stream = find_stream(handle);
  if (!stream || !stream->capturing) return INVALID_VALUE;
  stream->capturing = false;
  if (open_captures) --open_captures;
  *graph = nullptr;
  if (stream->invalidated) {
    stream->invalidated = false;
    return CAPTURE_INVALIDATED;
  }
  Graph *made = new Graph{std::move(stream->captured)};
  stream->captured.clear();
  driver().graphs.insert(made);
  *graph = made;
  return driver().sticky;
}

EXPORT CUresult cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long) {
  Guard guard(driver().mutex);
  if (!known(driver().graphs, graph)) return INVALID_HANDLE;
  Graph *made = new Graph(*static_cast<Graph *>(graph));
  driver().executables.insert(made);
  *executable = made;
  return driver().sticky;
}

EXPORT CUresult cuGraphUpload(void *executable, void *) {
  Guard guard(driver().mutex);
  return known(driver().executables, executable) ? driver().sticky : INVALID_HANDLE;
}

EXPORT CUresult cuGraphLaunch(void *executable, void *handle) {
  Guard guard(driver().mutex);
  if (driver().sticky) return driver().sticky;
  Stream *stream = find_stream(handle);
  if (!known(driver().executables, executable) || !stream) return INVALID_HANDLE;
  if (breaks_capture(stream, "the launch of a graph")) return CAPTURE_UNSUPPORTED;
  perform_before(*stream);
  give(*stream, {Work::LAUNCH, 0, 0, 0, nullptr, {}});
  const std::vector<Recorded> launches = static_cast<Graph *>(executable)->launches;
  for (const Recorded &launch : launches) {
    if (const CUresult error = run_recorded(guard, launch)) return error;
    if (driver().sticky) break;
  }
  return SUCCESS;
}

EXPORT CUresult cuGraphGetNodes(void *graph, void **, size_t *count) {
  Guard guard(driver().mutex);
  if (!known(driver().graphs, graph)) return INVALID_HANDLE;
  *count = static_cast<Graph *>(graph)->launches.size();
  return SUCCESS;
}

EXPORT CUresult cuGraphExecDestroy(void *executable) {
  Guard guard(driver().mutex);
  if (!known(driver().executables, executable)) return INVALID_HANDLE;
  driver().executables.erase(static_cast<Graph *>(executable));
  delete static_cast<Graph *>(executable);
  return SUCCESS;
}

EXPORT CUresult cuGraphDestroy(void *graph) {
  Guard guard(driver().mutex);
  if (!known(driver().graphs, graph)) return INVALID_HANDLE;
  driver().graphs.erase(static_cast<Graph *>(graph));
  delete static_cast<Graph *>(graph);
  return SUCCESS;
}
