// Products of bytes without instructions that add four of them exactly: int8 weights are widened to 16 bits,
// int4 weights are so small that some products add up in 16.

#include "cpu/matmul/rows-256.inl"
#include "cpu/matmul/tiles-256.inl"

namespace tandem::cpu {
namespace {

// u8 weights . s8 inputs in pairs of 16 bits: multiplied as bytes, two could saturate their sum. The weights
// of even and of odd inputs are widened apart, in place.
struct Int8Codes {
  static constexpr std::size_t kGroupBytes = std::size_t{kGroup} * kPanel;
  static constexpr bool kByParts = false;

  // The inputs of a group, widened likewise: pairs (0, 2) of four are even, (1, 3) odd.
  template <int Rows>
  struct Inputs {
    alignas(32) std::int32_t even[Rows][kGroup / 4];
    alignas(32) std::int32_t odd[Rows][kGroup / 4];

    [[gnu::always_inline]] explicit Inputs(const QuantizedRows& a) {
      for (int row = 0; row < Rows; ++row) {
        for (int k = 0; k < kGroup; k += 32) {
          __m256i x;
          std::memcpy(&x, a.codes + row * a.stride + k, sizeof x);
          _mm256_store_si256(reinterpret_cast<__m256i*>(even[row] + k / 4),
                             _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8));
          _mm256_store_si256(reinterpret_cast<__m256i*>(odd[row] + k / 4), _mm256_srai_epi16(x, 8));
        }
      }
    }
  };

  static constexpr auto addPairs = [](auto& sum, __m256i w, __m256i pair) __attribute__((always_inline)) {
    sum += (Sums)_mm256_madd_epi16(w, pair);
    settle(sum);
  };

  template <int Rows, int Vectors>
  [[gnu::always_inline]] static void add(Sums* dots, const Inputs<Rows>& inputs, const IntegerPanel& panel,
                                         Requests<Vectors> requests) {
    const std::uint8_t* codes = panel.codes;
#pragma GCC unroll 1
    for (int step = 0; step < kGroup / 4; ++step, codes += kStepBytes) {
      requests.step();
      if constexpr (Rows < Vectors) {
        addOnce<Rows, Vectors>(dots, inputs, codes, step);
      } else {
        addByHalves<Rows, Vectors>(dots, inputs, codes, step);
      }
    }
  }

 private:
  [[gnu::always_inline]] static __m256i evenOf(__m256i w) {
    return _mm256_and_si256(w, _mm256_set1_epi16(0x00ff));
  }
  [[gnu::always_inline]] static __m256i oddOf(__m256i w) { return _mm256_srli_epi16(w, 8); }

  // Each vector of weights is loaded once and added to at once.
  template <int Rows, int Vectors>
  [[gnu::always_inline]] static void addOnce(Sums* dots, const Inputs<Rows>& inputs,
                                             const std::uint8_t* panel, int step) {
    __m256i even[Rows], odd[Rows];
    unroll<Rows>([&](auto row) __attribute__((always_inline)) {
      even[row] = _mm256_set1_epi32(inputs.even[row][step]);
      odd[row] = _mm256_set1_epi32(inputs.odd[row][step]);
    });
    unroll<Vectors>([&](auto v) __attribute__((always_inline)) {
      const __m256i w = load(panel + v * 32);
      unroll<Rows>([&](auto row) __attribute__((always_inline)) {
        Sums& sum = dots[row * Vectors + v];
        sum += (Sums)_mm256_madd_epi16(evenOf(w), even[row]) + (Sums)_mm256_madd_epi16(oddOf(w), odd[row]);
        settle(sum);
      });
    });
  }

  // With more rows there are no registers for both halves of the weights.
  template <int Rows, int Vectors>
  [[gnu::always_inline]] static void addByHalves(Sums* dots, const Inputs<Rows>& inputs,
                                                 const std::uint8_t* panel, int step) {
    multiplyTile<Rows, Vectors>(
        dots, [&](int v) __attribute__((always_inline)) { return evenOf(load(panel + v * 32)); },
        [&](int row) __attribute__((always_inline)) { return _mm256_set1_epi32(inputs.even[row][step]); },
        addPairs);
    multiplyTile<Rows, Vectors>(
        dots, [&](int v) __attribute__((always_inline)) { return oddOf(load(panel + v * 32)); },
        [&](int row) __attribute__((always_inline)) { return _mm256_set1_epi32(inputs.odd[row][step]); },
        addPairs);
  }
};

// Codes of 0..15 times inputs of +-127: pairs are at most 3810, and the eight of a part add up in 16 bits.
// With half of the part's correction in each of two sums they are no larger.
struct Int4Products {
  using PartSums = ShortSums;
  // A lane's factor of the part, for both of its sums.
  static constexpr std::uint32_t kFactor = 0x00800080, kNextFactor = 0x01000100;

  template <int Rows>
  struct Inputs : ByteInputs<Rows> {
    std::int32_t corrections[Rows][kParts];  // halves, in pairs
    [[gnu::always_inline]] explicit Inputs(const QuantizedRows& a) : ByteInputs<Rows>(a) {
      for (int row = 0; row < Rows; ++row) {
        for (int part = 0; part < kParts; ++part) {
          const std::int32_t half = a.corrections[row * a.groups * kParts + part] / 2;
          corrections[row][part] = static_cast<std::int32_t>((half & 0xffff) * 0x00010001u);
        }
      }
    }
    [[gnu::always_inline]] PartSums correction(int row, int part) const {
      return (PartSums)_mm256_set1_epi32(corrections[row][part]);
    }
  };

  static constexpr auto multiply = [](auto& sum, __m256i w, __m256i x) __attribute__((always_inline)) {
    sum += (PartSums)_mm256_maddubs_epi16(w, x);
    settle(sum);
  };
  [[gnu::always_inline]] static void add(Sums& dot, PartSums sum, __m256i factors) {
    dot += (Sums)_mm256_madd_epi16((__m256i)sum, factors);
  }
};

}  // namespace

const Kernels kAvx2Kernels{
    kTileRows, true,          bf16Dot, integerDot<Int8Codes>, integerDot<Int4Codes<Int4Products>>, nullptr,
    roundRow,  quantizeGroup, swiGlu};

}  // namespace tandem::cpu
