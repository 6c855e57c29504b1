#pragma once

#include <span>
#include <vector>

#include "cpu/isa.h"

namespace tandem::vision {

// x = GELU(x) by tanh (Hendrycks and Gimpel 2016, section 2), on the instruction set's own exponentials.
class Gelu {
 public:
  explicit Gelu(Isa isa) : isa_(isa) {}

  void run(std::span<float> x);

 private:
  const Isa isa_;
  std::vector<float> gate_, factor_;
};

}  // namespace tandem::vision
