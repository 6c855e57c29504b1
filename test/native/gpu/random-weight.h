#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "cuda/matmul.h"

namespace tandem::gpu {

// Values that are drawn; more of them repeat these.
inline constexpr std::size_t kPattern = std::size_t{1} << 16;

struct WeightShape {
  int outputs, inputs;
  WeightLayout layout = WeightLayout::stacked;
};

// A packed weight on the device whose values repeat.
std::unique_ptr<cuda::CudaWeight> randomWeight(const WeightShape& shape, WeightClass weightClass);

// Weights of one shape that together exceed any L2, so that each comes from memory as in a model.
class WeightsInTurn {
 public:
  WeightsInTurn(const WeightShape& shape, WeightClass weightClass);

  const cuda::CudaWeight& next() { return *weights_[turn_++ % weights_.size()]; }
  std::size_t bytesEach() const { return weights_[0]->bytes(); }

 private:
  std::vector<std::unique_ptr<cuda::CudaWeight>> weights_;
  std::size_t turn_ = 0;
};

}  // namespace tandem::gpu
