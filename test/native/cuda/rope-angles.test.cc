#include "cuda/rope-angles.h"

#include "check.h"
#include "device-array.h"

using namespace tandem;
using namespace tandem::test;

TEST("cuda rope angles: float32 of float64 angles, at position 10^6 too") {
  const std::vector<std::int32_t> positions{0, 1, 4095, 1'000'000};
  const std::vector<float> frequencies{1, 0.25f, 0.001f};
  DeviceArray<std::int32_t> where(positions);
  DeviceArray<float> inverse(frequencies), angles(positions.size() * 6);
  cuda::ropeAngles({where.data(), inverse.data(), angles.data(), 4, 3, 1.5f}, kStream);
  const std::vector<float> got = angles.read();
  for (std::size_t row = 0; row < positions.size(); ++row) {
    for (std::size_t i = 0; i < 3; ++i) {
      const double angle = static_cast<double>(positions[row]) * frequencies[i];
      near(got[row * 6 + i], 1.5 * std::cos(angle), 2e-7, "cosine");
      near(got[row * 6 + 3 + i], 1.5 * std::sin(angle), 2e-7, "sine");
    }
  }
}
