// Shared memory: the static variables of the kernels, found in this library's own symbol table, and
// the buffer for what is sized at launch, which is one more of them.

#include <cxxabi.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "device_words.hpp"
#include "engine.hpp"

extern "C" {
// In front of it and behind it lies memory that belongs to no variable.
alignas(1024) char headlight_dynamic_buffer[headlight::MAX_DYNAMIC_SHARED + 2048];
extern const char *headlight_library_path;
}

namespace headlight {

namespace {

constexpr size_t MARGIN = 1024;
// What the builder adds to each variable (mod.rs).
constexpr size_t GAP = 64;
uint32_t dynamic_size;

Record *new_records(size_t count) {
  void *memory = mmap(nullptr, count * sizeof(Record), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) abort();
  return static_cast<Record *>(memory);
}

// "tile" of "_ZZN…E4tile".
const char *plain_name(const char *symbol) {
  int status;
  char *full = abi::__cxa_demangle(symbol, nullptr, nullptr, &status);
  if (!full) return symbol;
  const char *colon = strrchr(full, ':');
  char *name = strdup(colon ? colon + 1 : full);
  free(full);
  return name;
}

// Calls body(name, address in this process, size) for every variable local to a function.
template <class Body>
void for_local_variables(const char *path, uintptr_t load, Body body) {
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  struct stat facts;
  if (file < 0 || fstat(file, &facts)) {
    perror(path);
    abort();
  }
  void *memory = mmap(nullptr, size_t(facts.st_size), PROT_READ, MAP_PRIVATE, file, 0);
  close(file);
  if (memory == MAP_FAILED) abort();
  const char *image = static_cast<const char *>(memory);
  const auto *header = reinterpret_cast<const ElfW(Ehdr) *>(image);
  const auto *sections = reinterpret_cast<const ElfW(Shdr) *>(image + header->e_shoff);
  for (int i = 0; i < header->e_shnum; ++i) {
    if (sections[i].sh_type != SHT_SYMTAB) continue;
    const auto *symbols = reinterpret_cast<const ElfW(Sym) *>(image + sections[i].sh_offset);
    const char *names = image + sections[sections[i].sh_link].sh_offset;
    for (size_t k = 0; k < sections[i].sh_size / sizeof *symbols; ++k) {
      const auto &symbol = symbols[k];
      if ((symbol.st_info & 15) != STT_OBJECT || symbol.st_shndx >= header->e_shnum) continue;
      if (sections[symbol.st_shndx].sh_type != SHT_NOBITS || symbol.st_size <= GAP) continue;
      const char *name = names + symbol.st_name;
      if (strncmp(name, "_ZZ", 3)) continue;
      body(name, load + symbol.st_value, size_t(symbol.st_size) - GAP);
    }
  }
  munmap(memory, size_t(facts.st_size));
}

}  // namespace

void find_shared_memory() {
  State &s = *state;
  const uintptr_t dynamic = reinterpret_cast<uintptr_t>(headlight_dynamic_buffer) + 1024;
  s.dynamic_shared = reinterpret_cast<char *>(dynamic);
  s.variables.push_back({0, 0, ""});
  s.variables.push_back({dynamic, MAX_DYNAMIC_SHARED, "dynamic shared memory"});
  for_local_variables(headlight_library_path, s.text,
                      [&](const char *name, uintptr_t address, size_t size) {
                        s.variables.push_back({address, size, plain_name(name)});
                      });
  uintptr_t low = dynamic, high = dynamic + MAX_DYNAMIC_SHARED;
  for (size_t i = 1; i < s.variables.size(); ++i) {
    const SharedVariable &variable = s.variables[i];
    if (variable.address < low) low = variable.address;
    if (variable.address + variable.size > high) high = variable.address + variable.size;
  }
  low = (low - MARGIN) & ~uintptr_t(15);
  high += MARGIN;
  const size_t cells = (high - low) / 2 + 16;
  s.shared = {low, high - low, new_records(cells), new_records(cells), new_records(cells)};
  s.owner = static_cast<uint16_t *>(calloc(cells, sizeof *s.owner));
  for (size_t i = 2; i < s.variables.size(); ++i) {
    const SharedVariable &variable = s.variables[i];
    const size_t first = (variable.address - low) / 2;
    for (size_t k = 0; k < (variable.size + 1) / 2; ++k) s.owner[first + k] = uint16_t(i);
  }
}

void size_dynamic_shared(uint32_t bytes) {
  if (bytes == dynamic_size) return;
  State &s = *state;
  const size_t first = (reinterpret_cast<uintptr_t>(s.dynamic_shared) - s.shared.base) / 2;
  const size_t was = (dynamic_size + 1) / 2, is = (bytes + 1) / 2;
  for (size_t i = was; i < is; ++i) s.owner[first + i] = 1;
  for (size_t i = is; i < was; ++i) s.owner[first + i] = 0;
  dynamic_size = bytes;
}

}  // namespace headlight
