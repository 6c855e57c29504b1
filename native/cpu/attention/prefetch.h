#pragma once

#include <cstddef>

namespace tandem::cpu {

// Memory that is wanted soon, asked for line by line between other work: a burst would fill the core's queue
// of outstanding misses and then leave it empty while computing.
struct Prefetch {
  const char* at = nullptr;
  const char* end = nullptr;

  template <int Lines>
  [[gnu::always_inline]] void step() {
    if (at >= end) return;
    for (int line = 0; line < Lines; ++line) __builtin_prefetch(at + line * 64, 0, 3);
    at += Lines * 64;
  }
};

}  // namespace tandem::cpu
