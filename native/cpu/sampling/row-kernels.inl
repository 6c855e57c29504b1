// Plain loops that the compiler turns into vectors of the including file's instruction set. Everything is in
// an unnamed namespace and nothing from the standard library is called, so that no code for one processor is
// linked into another's.

#include <cstdint>

#include "cpu/exp2.h"
#include "cpu/sampling/row-kernels.h"

namespace tandem::cpu {
namespace {

constexpr std::size_t kLanes = 64;

float highest(const float* x, std::size_t count, bool* nan) {
  float lanes[kLanes];
  std::uint32_t nans[kLanes] = {};
  for (std::size_t lane = 0; lane < kLanes; ++lane) lanes[lane] = -__builtin_inff();
  const auto take = [&](std::size_t i, std::size_t lane) {
    lanes[lane] = x[i] > lanes[lane] ? x[i] : lanes[lane];
    nans[lane] |= x[i] != x[i] ? 1u : 0u;
  };
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) take(i + lane, lane);
  }
  for (std::size_t lane = 0; i < count; ++i, ++lane) take(i, lane);
  std::uint32_t any = 0;
  float best = lanes[0];
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    best = lanes[lane] > best ? lanes[lane] : best;
    any |= nans[lane];
  }
  *nan = any != 0;
  return best;
}

std::size_t countAbove(const float* x, std::size_t count, float threshold) {
  std::uint32_t above = 0;
  for (std::size_t i = 0; i < count; ++i) above += x[i] > threshold ? 1u : 0u;
  return above;
}

std::size_t find(const float* x, std::size_t count, float value) {
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    std::uint32_t hits = 0;
    for (std::size_t lane = 0; lane < kLanes; ++lane) hits += x[i + lane] == value ? 1u : 0u;
    if (hits != 0) break;
  }
  while (i < count && x[i] != value) ++i;
  return i;
}

double exponentials(const float* x, std::size_t count, float origin, float scale, float floor, float* out) {
  for (std::size_t i = 0; i < count; ++i) {
    const float value = exp2Of((x[i] - origin) * scale * 1.44269504f);
    out[i] = x[i] >= floor ? value : 0.0f;
  }
  double lanes[kLanes] = {};
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += static_cast<double>(out[i + lane]);
  }
  for (std::size_t lane = 0; i < count; ++i, ++lane) lanes[lane] += static_cast<double>(out[i]);
  double sum = 0;
  for (std::size_t lane = 0; lane < kLanes; ++lane) sum += lanes[lane];
  return sum;
}

void keepAllowed(float* x, std::size_t count, const std::uint32_t* bits) {
  std::size_t i = 0;
  for (; i + 32 <= count; i += 32) {
    const std::uint32_t word = bits[i / 32];
    for (std::uint32_t lane = 0; lane < 32; ++lane) {
      x[i + lane] = (word & (1u << lane)) != 0 ? x[i + lane] : -__builtin_inff();
    }
  }
  for (; i < count; ++i) {
    if ((bits[i / 32] & (1u << (i % 32))) == 0) x[i] = -__builtin_inff();
  }
}

constexpr RowKernels kKernels = {highest, find, countAbove, exponentials, keepAllowed};

}  // namespace
}  // namespace tandem::cpu
