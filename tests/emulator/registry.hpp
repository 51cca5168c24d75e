// How kernels are found by name and called through cuLaunchKernel's array of pointers.
//
// The builder writes, for each .cu, a source that includes it and registers each kernel found in its
// text (mod.rs). Parameter types come from the function's own type: one structure of arguments.cuh, or for
// planted kernels anything.
#pragma once

#include <stdint.h>

#include <type_traits>
#include <utility>

#include "interface.hpp"

namespace headlight {

// Compiled with the engine: the hooks are not yet at work when this is called.
void register_kernel(const Kernel &kernel);

// Where the pointers to device memory of a parameter are. Structures have theirs from the builder.
template <class T>
struct PointersOf {
  static constexpr Pointer list[1] = {};
  static constexpr uint32_t count = 0;
};
template <class T>
struct PointersOf<T *> {
  static constexpr Pointer list[1] = {{"", 0}};
  static constexpr uint32_t count = 1;
};

template <class... A>
struct Parameters {
  static constexpr Parameter list[sizeof...(A) + 1] = {
      {uint32_t(sizeof(A)), PointersOf<A>::list, PointersOf<A>::count}..., {}};

  // Reads the host's array of pointers, so the hooks must not see it.
  template <void (*kernel)(A...), size_t... I>
  __attribute__((no_sanitize("thread"), always_inline)) static inline void unpack(
      void **parameters, std::index_sequence<I...>) {
    kernel(*static_cast<A *>(parameters[I])...);
  }
  template <void (*kernel)(A...)>
  __attribute__((no_sanitize("thread"), noinline)) static void call(void **parameters) {
    unpack<kernel>(parameters, std::index_sequence_for<A...>());
  }
};

template <class F>
struct Registration;
template <class... A>
struct Registration<void (*)(A...)> {
  template <void (*kernel)(A...)>
  __attribute__((no_sanitize("thread"))) static void add(const char *name, uint32_t launch_bound) {
    register_kernel({name, Parameters<A...>::template call<kernel>,
                     reinterpret_cast<const void *>(kernel), Parameters<A...>::list,
                     uint32_t(sizeof...(A)), launch_bound});
  }
};

}  // namespace headlight

#define HEADLIGHT_REGISTER(name, launch_bound)                                                \
  __attribute__((constructor, no_sanitize("thread"))) static void register_##name() {         \
    headlight::Registration<decltype(&name)>::add<&name>(#name, launch_bound);                \
  }
