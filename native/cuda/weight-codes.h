#pragma once

// What a lane holds of a unit of codes (weight-tiles.h): 16 of an output's 64, and how they become bf16.

#include <cstdint>

#include "core/ops.h"
#include "cuda/bf16-pair.h"
#include "cuda/kernel.h"
#include "cuda/weight-tiles.h"

namespace tandem::cuda {

// bf16's 128, twice, in a register: else it is a second constant of an instruction that takes one.
__device__ inline std::uint32_t twice128() { return static_cast<std::uint32_t>(computedAnew(0x43004300)); }

template <WeightClass kClass>
struct UnitCodes;

template <>
struct UnitCodes<WeightClass::int8> {
  std::uint32_t words[4];
  std::uint32_t scale, minus128Scales;  // pairs

  __device__ void read(const std::byte* unit, int lane) {
    const uint4 four = reinterpret_cast<const uint4*>(unit)[lane];
    words[0] = four.x, words[1] = four.y, words[2] = four.z, words[3] = four.w;
    scale = reinterpret_cast<const bf16*>(unit + kInt8CodeBytes)[lane / 4];
  }
  // Before the first `operand`.
  __device__ void prepare() {
    constexpr std::uint32_t kMinus128 = 0xc300c300u, kMinusZero = 0x80008000u;
    scale |= scale << 16;
    minus128Scales = fmaBf16(scale, kMinus128, kMinusZero);
  }
  // The inputs 16 k16 + 2t and the next, and those 8 behind them; k128 is twice128(). A code's seven bits
  // behind bf16's 128 are 128 + bits, and taking 128 scales away from so many leaves the product, rounded
  // once.
  __device__ uint2 operand(int k16, std::uint32_t k128) const {
    constexpr std::uint32_t kBits = 0x007f007fu, kSigns = 0x80008000u;
    const std::uint32_t word = words[k16], exchanged = __byte_perm(word, 0, 0x2301);
    const std::uint32_t first = fmaBf16((word & kBits) | k128, scale, minus128Scales);
    const std::uint32_t second = fmaBf16((exchanged & kBits) | k128, scale, minus128Scales);
    return {first ^ (word & kSigns), second ^ (exchanged & kSigns)};
  }
};

template <>
struct UnitCodes<WeightClass::int4> {
  std::uint32_t words[2];
  std::uint32_t scales[2];  // of a word's inputs, as a pair

  __device__ void read(const std::byte* unit, int lane) {
    const uint2 two = reinterpret_cast<const uint2*>(unit)[lane];
    words[0] = two.x, words[1] = two.y;
    scales[0] = reinterpret_cast<const std::uint32_t*>(unit + kInt4CodeBytes)[lane / 4];
  }
  __device__ void prepare() {
    scales[1] = __byte_perm(scales[0], 0, 0x3232);
    scales[0] = __byte_perm(scales[0], 0, 0x1010);
  }
  // A code behind bf16's 128 is 128 + code, of which 136 is taken away exactly before the product is rounded.
  __device__ uint2 operand(int k16, std::uint32_t k128) const {
    const std::uint32_t codes = words[k16 / 2] >> (k16 % 2 * 8), scale = scales[k16 / 2];
    return {scaled(codes, scale, k128), scaled(codes >> 4, scale, k128)};
  }

 private:
  __device__ static std::uint32_t scaled(std::uint32_t codes, std::uint32_t scale, std::uint32_t k128) {
    constexpr std::uint32_t kBits = 0x000f000fu, kOnes = 0x3f803f80u;
    constexpr std::uint32_t kMinus136 = 0xc308c308u, kMinusZero = 0x80008000u;
    return fmaBf16(fmaBf16((codes & kBits) | k128, kOnes, kMinus136), scale, kMinusZero);
  }
};

}  // namespace tandem::cuda
