// Products of bytes with AVX-VNNI, which adds four of them to a sum of 32 bits.

#include "cpu/matmul/rows-256.inl"
#include "cpu/matmul/tiles-256.inl"

namespace tandem::cpu {
namespace {

// sum += u8 codes . s8 codes, four products a lane
constexpr auto addProducts = [](Sums & sum, __m256i w, __m256i x) __attribute__((always_inline)) {
  sum = (Sums)_mm256_dpbusd_avx_epi32((__m256i)sum, w, x);
};

struct Int8Codes {
  static constexpr std::size_t kGroupBytes = std::size_t{kGroup} * kPanel;
  static constexpr bool kByParts = false;
  template <int Rows>
  using Inputs = ByteInputs<Rows>;

  template <int Rows, int Vectors>
  [[gnu::always_inline]] static void add(Sums* dots, const Inputs<Rows>& inputs, const IntegerPanel& panel,
                                         Requests<Vectors> requests) {
    const std::uint8_t* codes = panel.codes;
#pragma GCC unroll 1
    for (int k = 0; k < kGroup; k += 4, codes += kStepBytes) {
      requests.step();
      multiplyTile<Rows, Vectors>(
          dots, [&](int v) __attribute__((always_inline)) { return load(codes + v * 32); },
          [&](int row)
              __attribute__((always_inline)) { return broadcast4(inputs.codes + k + row * inputs.stride); },
          addProducts);
    }
  }
};

struct Int4Products {
  using PartSums = Sums;
  // A lane's factor of the part in its lower half, and nothing in the upper one: a part's sums fit 16 bits.
  static constexpr std::uint32_t kFactor = 0x80800080, kNextFactor = 0x00000100;

  template <int Rows>
  struct Inputs : ByteInputs<Rows> {
    const std::int32_t* corrections;
    std::size_t correctionStride;
    [[gnu::always_inline]] explicit Inputs(const QuantizedRows& a)
        : ByteInputs<Rows>(a), corrections(a.corrections), correctionStride(a.groups * kParts) {}
    [[gnu::always_inline]] PartSums correction(int row, int part) const {
      return PartSums{} + corrections[row * correctionStride + part];
    }
  };

  // Settled, since a group's sums wait beside those of a part.
  static constexpr auto multiply = [](Sums & sum, __m256i w, __m256i x) __attribute__((always_inline)) {
    addProducts(sum, w, x);
    settle(sum);
  };
  [[gnu::always_inline]] static void add(Sums& dot, PartSums sum, __m256i factors) {
    dot = (Sums)_mm256_dpwssd_avx_epi32((__m256i)dot, (__m256i)sum, factors);
  }
};

}  // namespace

const Kernels kAvxVnniKernels{
    kTileRows, true,          bf16Dot, integerDot<Int8Codes>, integerDot<Int4Codes<Int4Products>>, nullptr,
    roundRow,  quantizeGroup, swiGlu};

}  // namespace tandem::cpu
