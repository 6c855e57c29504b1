#pragma once

#include <cstddef>

namespace tandem::cpu {

// Memory that is wanted soon, asked for line by line between other work: a burst would fill the core's queue
// of outstanding misses and then leave it empty while computing.
struct Prefetch {
  const char* at = nullptr;
  int lines = 0;    // left
  int stride = 64;  // -64: from the last line to the first

  template <int Lines>
  [[gnu::always_inline]] void step() {
    if (lines <= 0) return;
    for (int line = 0; line < Lines; ++line) __builtin_prefetch(at + line * stride, 0, 3);
    at += Lines * stride;
    lines -= Lines;
  }
};

}  // namespace tandem::cpu
