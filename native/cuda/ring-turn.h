#pragma once

#include "cuda/kernel.h"

namespace tandem::cuda {

// A place in a ring of stages, and the parity of the phase that it is in.
struct RingTurn {
  int place = 0;
  unsigned parity = 0;

  __device__ void advance(int places) {
    if (++place == places) {
      place = 0;
      parity ^= 1;
    }
  }
};

}  // namespace tandem::cuda
