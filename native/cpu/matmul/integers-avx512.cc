#include "cpu/matmul/integers-avx512.h"

#include "cpu/matmul/tiles-avx512.inl"

namespace tandem::cpu {
namespace {

// 16 sums of 32 bits. Not __m512i, whose lanes are 64 bits wide to GCC: it then moves sums to the stack and
// back in every step, at less than half the speed.
using Sums = std::int32_t __attribute__((vector_size(64)));

// sum += u8 codes . s8 codes, four products a lane
[[gnu::always_inline]] inline void dot4(Sums& sum, __m512i weights, __m512i inputs) {
  sum = (Sums)_mm512_dpbusd_epi32((__m512i)sum, weights, inputs);
}

template <int Rows>
[[gnu::always_inline]] inline void clear(Sums* sums) {
  unroll<Rows * kVectors>([&](auto i) __attribute__((always_inline)) { sums[i] = Sums{}; });
}

// sums += weights(v) . inputs of four
template <int Rows, class Weights>
[[gnu::always_inline]] inline void addStep(Sums* sums, Weights weights, const std::int8_t* a,
                                           std::size_t stride) {
  __m512i b[kVectors];
  unroll<kVectors>([&](auto v) __attribute__((always_inline)) { b[v] = weights(v); });
  unroll<Rows>([&](auto row) __attribute__((always_inline)) {
    const __m512i x = broadcast4(a + row * stride);
    unroll<kVectors>([&](auto v) __attribute__((always_inline)) { dot4(sums[row * kVectors + v], b[v], x); });
  });
}

struct Int8Codes {
  static constexpr std::size_t kGroupBytes = std::size_t{kGroup} * kPanel;

  // One group's products.
  template <int Rows, int Lines>
  [[gnu::always_inline]] static void sum(Sums* dots, const QuantizedRows& rows, const IntegerPanel& panel,
                                         const char*& ahead) {
    clear<Rows>(dots);
    const std::int8_t* a = rows.codes;
    const std::uint8_t* codes = panel.codes;
#pragma GCC unroll 1
    for (int k = 0; k < kGroup; k += 4, codes += kPanel * 4, a += 4) {
      prefetchStep<Lines>(ahead);
      addStep<Rows>(
          dots, [&](int v) __attribute__((always_inline)) { return _mm512_load_si512(codes + v * 64); }, a,
          rows.stride);
    }
    unroll<Rows>([&](auto row) __attribute__((always_inline)) {
      const std::int32_t correction = rows.corrections[row * rows.groups];
      unroll<kVectors>([&](auto v)
                           __attribute__((always_inline)) { dots[row * kVectors + v] += correction; });
    });
  }
};

// Where the factors of one part are among the bytes of all: a mask for shuffling, which puts `bytes` in each
// lane of 32 bits. Those below 0x80 count from the lane.
[[gnu::always_inline]] inline __m512i eachLane(std::uint32_t bytes) {
  const __m512i lanes = _mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0);
  return _mm512_add_epi32(_mm512_set1_epi32(static_cast<int>(bytes)), lanes);
}

struct Int4Codes {
  static constexpr std::size_t kGroupBytes = std::size_t{kGroup} * kPanel / 2;

  template <int Rows, int Lines>
  [[gnu::always_inline]] static void sum(Sums* dots, const QuantizedRows& rows, const IntegerPanel& panel,
                                         const char*& ahead) {
    clear<Rows>(dots);
    const __m512i low = _mm512_set1_epi8(15);
    const std::int8_t* a = rows.codes;
    const std::uint8_t* codes = panel.codes;
    // The part's factor alone in a lane's lower half: a pair of 16 bits and nothing.
    __m512i chosen = eachLane(0x80800080);
#pragma GCC unroll 1
    for (int part = 0; part < kParts; ++part, chosen = _mm512_add_epi32(chosen, _mm512_set1_epi32(0x0100))) {
      Sums sums[Rows * kVectors];
      unroll<Rows>([&](auto row) __attribute__((always_inline)) {
        const Sums correction = Sums{} + rows.corrections[row * rows.groups * kParts + part];
        unroll<kVectors>([&](auto v)
                             __attribute__((always_inline)) { sums[row * kVectors + v] = correction; });
      });
#pragma GCC unroll 1
      for (int k = 0; k < kPart; k += 8, codes += kPanel * 4, a += 8) {
        prefetchStep<Lines>(ahead);
        addStep<Rows>(
            sums,
            [&](int v) __attribute__((always_inline)) {
              return _mm512_and_si512(_mm512_load_si512(codes + v * 64), low);
            },
            a, rows.stride);
        addStep<Rows>(
            sums,
            [&](int v) __attribute__((always_inline)) {
              return _mm512_and_si512(_mm512_srli_epi16(_mm512_load_si512(codes + v * 64), 4), low);
            },
            a + 4, rows.stride);
      }
      // Sums of a part fit 16 bits.
      unroll<kVectors>([&](auto v) __attribute__((always_inline)) {
        const __m512i four = _mm512_load_si512(panel.factors + v * 64);
        const __m512i factors = _mm512_srai_epi16(_mm512_shuffle_epi8(four, chosen), 8);
        unroll<Rows>([&](auto row) __attribute__((always_inline)) {
          Sums& dot = dots[row * kVectors + v];
          dot = (Sums)_mm512_dpwssd_epi32((__m512i)dot, (__m512i)sums[row * kVectors + v], factors);
        });
      });
    }
  }
};

template <class Codes, int Rows, int Lines>
void integerTile(const QuantizedRows& a, const IntegerPanel& panel, std::size_t groups, bool first,
                 const char* ahead, float* c) {
  for (std::size_t group = 0; group < groups; ++group) {
    const QuantizedRows rows = a.from(0, group);
    const IntegerPanel block = panel.from(group, 0, Codes::kGroupBytes);
    const char* laterScales = reinterpret_cast<const char*>(block.scales) + 4096;
    prefetchStep<kVectors>(laterScales);
    Sums dots[Rows * kVectors];
    Codes::template sum<Rows, Lines>(dots, rows, block, ahead);
    unroll<kVectors>([&](auto v) __attribute__((always_inline)) {
      const __m512 weightScale = _mm512_load_ps(block.scales + v * 16);
      unroll<Rows>([&](auto row) __attribute__((always_inline)) {
        float* out = c + row * kPanel + v * 16;
        const __m512 scale = _mm512_mul_ps(weightScale, _mm512_set1_ps(rows.scales[row * a.groups]));
        const __m512 before = first && group == 0 ? _mm512_setzero_ps() : _mm512_load_ps(out);
        const __m512 dot = _mm512_cvtepi32_ps((__m512i)dots[row * kVectors + v]);
        _mm512_store_ps(out, _mm512_fmadd_ps(dot, scale, before));
      });
    });
  }
}

template <class Codes>
void integerDot(int rows, const QuantizedRows& a, const IntegerPanel& panel, std::size_t groups, bool first,
                Ahead ahead, float* c) {
  withConstants(rows, ahead.linesPerStep, [&](auto height, auto lines) {
    integerTile<Codes, height, lines>(a, panel, groups, first, ahead.from, c);
  });
}

}  // namespace

namespace avx512 {

void int8Dot(int rows, const QuantizedRows& a, const IntegerPanel& panel, std::size_t groups, bool first,
             Ahead ahead, float* c) {
  integerDot<Int8Codes>(rows, a, panel, groups, first, ahead, c);
}

void int4Dot(int rows, const QuantizedRows& a, const IntegerPanel& panel, std::size_t groups, bool first,
             Ahead ahead, float* c) {
  integerDot<Int4Codes>(rows, a, panel, groups, first, ahead, c);
}

// Two codes in the bytes of 16 bits are multiplied where they are, by one factor: what a product has above
// its byte is masked, or falls off the end.
void widenInt4(const IntegerPanel& panel, std::size_t groups, std::uint8_t* out) {
  const __m512i even = _mm512_set1_epi16(0x000f), odd = _mm512_set1_epi16(0x0f00);
  const __m512i lowByte = _mm512_set1_epi16(0x00ff);
  const std::uint8_t* codes = panel.codes;
  for (std::size_t group = 0; group < groups; ++group) {
    const std::int8_t* factors = panel.factors + group * kPanel * kParts;
    for (int part = 0; part < kParts; ++part) {
      __m512i factor[kVectors], zero[kVectors];  // of 16 bits; of bytes, what 8 and the other zero point make
      const __m512i chosen = eachLane(0x00800080 + part * 0x01000100u);
      for (int v = 0; v < kVectors; ++v) {
        factor[v] = _mm512_srai_epi16(_mm512_shuffle_epi8(_mm512_loadu_si512(factors + v * 64), chosen), 8);
        const __m512i eight = _mm512_and_si512(_mm512_slli_epi16(factor[v], 3), lowByte);
        zero[v] = _mm512_xor_si512(_mm512_or_si512(eight, _mm512_slli_epi16(eight, 8)),
                                   _mm512_set1_epi8(static_cast<char>(0x80)));
      }
      for (int k = 0; k < kPart; k += 8, codes += kPanel * 4, out += kPanel * 8) {
        const char* later = reinterpret_cast<const char*>(codes) + 4096;
        prefetchStep<kVectors>(later);
        for (int v = 0; v < kVectors; ++v) {
          const auto widened = [&](__m512i halves) __attribute__((always_inline)) {
            const __m512i first = _mm512_mullo_epi16(_mm512_and_si512(halves, even), factor[v]);
            const __m512i second = _mm512_mullo_epi16(_mm512_and_si512(halves, odd), factor[v]);
            return _mm512_sub_epi8(_mm512_or_si512(_mm512_and_si512(first, lowByte), second), zero[v]);
          };
          const __m512i bytes = _mm512_loadu_si512(codes + v * 64);
          _mm512_storeu_si512(out + v * 64, widened(bytes));
          _mm512_storeu_si512(out + kPanel * 4 + v * 64, widened(_mm512_srli_epi16(bytes, 4)));
        }
      }
    }
  }
}

}  // namespace avx512

}  // namespace tandem::cpu
