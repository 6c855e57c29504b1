// Products of bytes with AVX-VNNI, which adds four of them to a sum of 32 bits.

#include "cpu/matmul/rows-256.inl"
#include "cpu/matmul/tiles-256.inl"

namespace tandem::cpu {
namespace {

// sum += u8 codes . s8 codes, four products a lane
constexpr auto addProducts = [](Sums & sum, __m256i w, __m256i x) __attribute__((always_inline)) {
  sum = (Sums)_mm256_dpbusd_avx_epi32((__m256i)sum, w, x);
};
// The same where sums of a group wait beside those of a part.
constexpr auto addSettled = [](Sums & sum, __m256i w, __m256i x) __attribute__((always_inline)) {
  addProducts(sum, w, x);
  settle(sum);
};

struct Int8Codes {
  static constexpr std::size_t kGroupBytes = std::size_t{kGroup} * kPanel;
  template <int Rows>
  using Inputs = ByteInputs<Rows>;

  template <int Rows, int Vectors>
  [[gnu::always_inline]] static void sum(Sums* dots, const QuantizedRows& rows, const Inputs<Rows>& inputs,
                                         const IntegerPanel& panel, Requests<Vectors> requests) {
    begin<Rows, Vectors>(
        dots, [&](int row)
                  __attribute__((always_inline)) { return Sums{} + rows.corrections[row * rows.groups]; });
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

struct Int4Codes {
  static constexpr std::size_t kGroupBytes = std::size_t{kGroup} * kPanel / 2;
  template <int Rows>
  using Inputs = ByteInputs<Rows>;

  template <int Rows, int Vectors>
  [[gnu::always_inline]] static void sum(Sums* dots, const QuantizedRows& rows, const Inputs<Rows>& inputs,
                                         const IntegerPanel& panel, Requests<Vectors> requests) {
    const __m256i low = _mm256_set1_epi8(15);
    // Of a lane's four factors the part's one, alone in its lower half: a pair of 16 bits and nothing.
    __m256i chosen = eachLane(0x80800080);
    const std::uint8_t* codes = panel.codes;
    const std::int8_t* a = inputs.codes;
    unroll<Rows * Vectors>([&](auto i) __attribute__((always_inline)) { dots[i] = Sums{}; });
#pragma GCC unroll 1
    for (int part = 0; part < kParts; ++part, chosen = _mm256_add_epi32(chosen, _mm256_set1_epi32(0x0100))) {
      Sums sums[Rows * Vectors];
      begin<Rows, Vectors>(
          sums, [&](int row) __attribute__((always_inline)) {
            return Sums{} + rows.corrections[row * rows.groups * kParts + part];
          });
#pragma GCC unroll 1
      for (int k = 0; k < kPart; k += 8, codes += kStepBytes, a += 8) {
        requests.step();
        multiplyTile<Rows, Vectors>(
            sums,
            [&](int v) __attribute__((always_inline)) { return _mm256_and_si256(load(codes + v * 32), low); },
            [&](int row) __attribute__((always_inline)) { return broadcast4(a + row * inputs.stride); },
            addSettled);
        multiplyTile<Rows, Vectors>(
            sums,
            [&](int v) __attribute__((always_inline)) {
              return _mm256_and_si256(_mm256_srli_epi16(load(codes + v * 32), 4), low);
            },
            [&](int row) __attribute__((always_inline)) { return broadcast4(a + 4 + row * inputs.stride); },
            addSettled);
      }
      // Sums of a part fit 16 bits.
      unroll<Vectors>([&](auto v) __attribute__((always_inline)) {
        const __m256i factors = factorsOf(panel.factors + v * kLanes * kParts, chosen);
        unroll<Rows>([&](auto row) __attribute__((always_inline)) {
          Sums& dot = dots[row * Vectors + v];
          dot = (Sums)_mm256_dpwssd_avx_epi32((__m256i)dot, (__m256i)sums[row * Vectors + v], factors);
        });
      });
    }
  }
};

}  // namespace

const Kernels kAvxVnniKernels{
    kTileRows, true,          bf16Dot, integerDot<Int8Codes>, integerDot<Int4Codes>, nullptr,
    roundRow,  quantizeGroup, swiGlu};

}  // namespace tandem::cpu
