// Errors in words: on stderr, and kept for tests to ask for.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.hpp"

namespace headlight {

namespace {

std::string hex(uint64_t x) {
  char text[24];
  snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(x));
  return text;
}

std::string run(const std::string &command) {
  std::string output;
  FILE *pipe = popen(command.c_str(), "re");
  if (!pipe) return output;
  char part[512];
  while (const size_t read = fread(part, 1, sizeof part, pipe)) output.append(part, read);
  pclose(pipe);
  return output;
}

std::string short_path(std::string path) {
  for (const char *folder : {"/kernels/", "/tests/emulator/"}) {
    const size_t place = path.rfind(folder);
    if (place != std::string::npos) return path.substr(place + 1);
  }
  return path;
}

// The line of kernel source that a return address belongs to, innermost first, with the callers it
// was inlined into; the primitives themselves (device.hpp) are left out.
std::string source_line(const Engine &engine, uintptr_t code) {
  static std::map<uint64_t, std::string> known;
  const uint64_t offset = code - 1 - engine.load_address;
  std::string &result = known[offset];
  if (!result.empty()) return result;
  const std::string lines =
      run("addr2line -i -e '" + std::string(engine.path) + "' " + hex(offset) + " 2>/dev/null");
  size_t from = 0;
  while (from < lines.size()) {
    size_t to = lines.find('\n', from);
    if (to == std::string::npos) to = lines.size();
    std::string line = lines.substr(from, to - from);
    from = to + 1;
    const size_t note = line.find(" (discriminator");
    if (note != std::string::npos) line.resize(note);
    if (line.empty() || line[0] == '?' || line.find("device.hpp") != std::string::npos ||
        line.find("vector_types.hpp") != std::string::npos ||
        line.find("registry.hpp") != std::string::npos) {
      continue;
    }
    result += (result.empty() ? "" : ", called from ") + short_path(line);
  }
  if (result.empty()) result = "an unknown line (" + hex(offset) + " of " + engine.path + ")";
  return result;
}

std::string triple(const uint32_t (&x)[3]) {
  return "(" + std::to_string(x[0]) + ", " + std::to_string(x[1]) + ", " + std::to_string(x[2]) + ")";
}

std::string bytes_text(uint64_t start, const Allocation &allocation, uint64_t address) {
  return "byte " + std::to_string(address - start) + " of allocation " +
         std::to_string(allocation.number) + " (" + std::to_string(allocation.size) + " bytes)";
}

}  // namespace

std::string describe_address(uint64_t address) {
  Driver &d = driver();
  uint64_t start;
  if (const Allocation *allocation = find_allocation(address, 1, &start)) {
    return hex(address) + ", " + bytes_text(start, *allocation, address);
  }
  auto gone = d.freed.upper_bound(address);
  if (gone != d.freed.begin()) {
    --gone;
    if (address < gone->first + gone->second.size) {
      return hex(address) + ", " + bytes_text(gone->first, gone->second, address) + ", use after free";
    }
  }
  // Just behind an allocation, or just before one.
  auto after = d.allocations.upper_bound(address);
  if (after != d.allocations.begin()) {
    auto before = std::prev(after);
    const uint64_t end = before->first + before->second.size;
    if (address - end < 4096) {
      return hex(address) + ", " + std::to_string(address - end) + " bytes behind allocation " +
             std::to_string(before->second.number) + " (" + std::to_string(before->second.size) +
             " bytes)";
    }
  }
  if (after != d.allocations.end() && after->first - address < 4096) {
    return hex(address) + ", " + std::to_string(after->first - address) +
           " bytes before allocation " + std::to_string(after->second.number);
  }
  return hex(address) + ", in no allocation";
}

void report(const std::string &text) {
  driver().reports += text + "\n";
  if (!driver().quiet) fprintf(stderr, "emulated driver: %s\n", text.c_str());
}

void report_finding(const Engine &engine, const Launch &launch) {
  const Finding &finding = launch.finding;
  std::string text = std::string(finding.kind) + " in kernel " + launch.kernel->name + ", block " +
                     triple(finding.block) + ", thread " + triple(finding.thread) + ": " +
                     finding.detail;
  if (finding.code) text += "\n  at " + source_line(engine, finding.code);
  if (finding.earlier) text += "\n  and " + source_line(engine, finding.earlier);
  if (finding.address) {
    const char *shared = engine.shared_name(finding.address);
    text += "\n  address " + (shared ? hex(finding.address) + ", shared " + shared
                                     : describe_address(finding.address));
  }
  text += "\n  schedule seed " + std::to_string(driver().seed);
  report(text);
}

namespace {

// At the end of the process: who never released the context is told what it held.
__attribute__((destructor)) void at_exit() {
  Driver &d = driver();
  if (!d.quiet && d.retained && !d.allocations.empty()) {
    fprintf(stderr, "emulated driver: at exit %zu allocations (%llu bytes) were not freed\n",
            d.allocations.size(), static_cast<unsigned long long>(d.used));
  }
}

}  // namespace
}  // namespace headlight

using namespace headlight;

// What was reported since the last reset, one report after another; empty if all is well. Valid until
// the calling thread asks again.
EXPORT const char *headlight_emulator_reports() {
  thread_local std::string text;
  Guard guard(driver().mutex);
  text = driver().reports;
  return text.c_str();
}

EXPORT void headlight_emulator_quiet(int quiet) { driver().quiet = quiet != 0; }

// Forgets reports and the sticky error.
EXPORT void headlight_emulator_reset() {
  Guard guard(driver().mutex);
  driver().reports.clear();
  driver().sticky = SUCCESS;
}

EXPORT void headlight_emulator_seed(uint64_t seed) {
  Guard guard(driver().mutex);
  driver().seed = seed;
  driver().launches = 0;
}

EXPORT uint64_t headlight_emulator_launches() {
  Guard guard(driver().mutex);
  return driver().launches;
}
