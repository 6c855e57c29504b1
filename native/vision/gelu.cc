#include "vision/gelu.h"

#include <cstddef>

#include "cpu/matmul/kernels.h"

namespace tandem::vision {

// With u = sqrt(2 / pi) (x + 0.044715 x^3), GELU(x) is x (1 + tanh u) / 2 = x sigmoid(2u): SiLU(2u) times
// x / 2u, which has no x left in it.
void Gelu::run(std::span<float> x) {
  constexpr float kTwice = 1.5957691f, kCubic = 0.044715f;  // 2 sqrt(2 / pi)
  gate_.resize(x.size());
  factor_.resize(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float slope = kTwice * (1 + kCubic * x[i] * x[i]);
    gate_[i] = slope * x[i];
    factor_[i] = 1 / slope;
  }
  cpu::kernelsOf(isa_).swiGlu(gate_.data(), factor_.data(), x.size(), x.data());
}

}  // namespace tandem::vision
