#include "gpu/random-weight.h"

#include <algorithm>

#include "cuda/device-array.h"
#include "cuda/random.h"
#include "gpu/shape.h"

namespace tandem::gpu {
namespace {

constexpr std::size_t kBeyondCaches = kTiny ? 1 << 16 : std::size_t{256} << 20;

}  // namespace

std::unique_ptr<cuda::CudaWeight> randomWeight(const WeightShape& shape, WeightClass weightClass) {
  const bool gated = shape.layout == WeightLayout::gated;
  const std::vector<bf16> pattern = test::randomBf16s(kPattern, 4, 0.02f);
  // Drawing all values would take longer than what they are for. A gated weight's two matrices are the same.
  const int rows = gated ? shape.outputs / 2 : shape.outputs;
  std::vector<bf16> values(static_cast<std::size_t>(rows) * shape.inputs);
  for (std::size_t i = 0; i < values.size(); i += kPattern) {
    std::copy_n(pattern.begin(), std::min(kPattern, values.size() - i), values.begin() + i);
  }
  const CheckpointMatrix matrix{reinterpret_cast<const std::byte*>(values.data()), CheckpointType::bf16, rows,
                                shape.inputs};
  const std::vector<CheckpointMatrix> parts(gated ? 2 : 1, matrix);
  std::unique_ptr<Weight> weight = cuda::packWeight(parts, shape.layout, weightClass, test::kStream);
  return std::unique_ptr<cuda::CudaWeight>(static_cast<cuda::CudaWeight*>(weight.release()));
}

WeightsInTurn::WeightsInTurn(const WeightShape& shape, WeightClass weightClass) {
  for (std::size_t bytes = 0; bytes < kBeyondCaches; bytes += weights_.back()->bytes()) {
    weights_.push_back(randomWeight(shape, weightClass));
  }
}

}  // namespace tandem::gpu
