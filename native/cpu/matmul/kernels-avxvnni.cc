// Products of bytes with AVX-VNNI, which adds four of them to a sum of 32 bits.

#include "cpu/matmul/rows-256.inl"
#include "cpu/matmul/tiles-256.inl"

namespace tandem::cpu {
namespace {

template <int Rows>
struct ByteInputs {
  const std::int8_t* codes;
  std::size_t stride;
  [[gnu::always_inline]] ByteInputs(const std::int8_t* rows, std::size_t rowStride)
      : codes(rows), stride(rowStride) {}
};

// dots += u8 codes . s8 codes, four products a lane
template <int Rows, int Vectors, class Weight>
[[gnu::always_inline]] inline void dot4(Sums* dots, Weight weight, const std::int8_t* inputs,
                                        std::size_t stride) {
  multiplyTile<Rows, Vectors>(
      dots, weight, [&](int row) __attribute__((always_inline)) { return broadcast4(inputs + row * stride); },
      [](Sums & sum, __m256i w, __m256i x)
          __attribute__((always_inline)) { sum = (Sums)_mm256_dpbusd_avx_epi32((__m256i)sum, w, x); });
}

struct Int8Codes {
  static constexpr std::size_t kGroupBytes = std::size_t{kGroup} * kPanel;
  template <int Rows>
  using Inputs = ByteInputs<Rows>;

  template <int Rows, int Vectors>
  [[gnu::always_inline]] static void add(Sums* dots, const Inputs<Rows>& inputs, const std::uint8_t* panel,
                                         Requests<Vectors> requests) {
#pragma GCC unroll 1
    for (int k = 0; k < kGroup; k += 4, panel += kStepBytes) {
      requests.step();
      dot4<Rows, Vectors>(
          dots, [&](int v) __attribute__((always_inline)) { return load(panel + v * 32); }, inputs.codes + k,
          inputs.stride);
    }
  }
};

struct Int4Codes {
  static constexpr std::size_t kGroupBytes = std::size_t{kGroup} * kPanel / 2;
  template <int Rows>
  using Inputs = ByteInputs<Rows>;

  template <int Rows, int Vectors>
  [[gnu::always_inline]] static void add(Sums* dots, const Inputs<Rows>& inputs, const std::uint8_t* panel,
                                         Requests<Vectors> requests) {
    const __m256i low = _mm256_set1_epi8(15);
#pragma GCC unroll 1
    for (int k = 0; k < kGroup; k += 8, panel += kStepBytes) {
      requests.step();
      dot4<Rows, Vectors>(
          dots,
          [&](int v) __attribute__((always_inline)) { return _mm256_and_si256(load(panel + v * 32), low); },
          inputs.codes + k, inputs.stride);
      dot4<Rows, Vectors>(
          dots,
          [&](int v) __attribute__((always_inline)) {
            return _mm256_and_si256(_mm256_srli_epi16(load(panel + v * 32), 4), low);
          },
          inputs.codes + k + 4, inputs.stride);
    }
  }
};

}  // namespace

const Kernels kAvxVnniKernels{kTileRows, true,          bf16Dot, integerDot<Int8Codes>, integerDot<Int4Codes>,
                              roundRow,  quantizeGroup, swiGlu};

}  // namespace tandem::cpu
