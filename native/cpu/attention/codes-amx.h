#pragma once

// From a page's codes to vectors of bf16, and its scales into the queries, for the AMX attention. Include
// only from files compiled for AMX.

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "cpu/attention/kernels.h"
#include "cpu/unroll.h"

namespace tandem::cpu {

// 32 codes: s8 to s32 to float32 to bf16, exact since a code has at most 7 bits.
[[gnu::always_inline]] inline __m512bh expand32(const std::byte* codes) {
  const __m512 low =
      _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes))));
  const __m512 high =
      _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + 16))));
  return _mm512_cvtne2ps_pbh(high, low);
}

// Words whose lowest bits are a code, as the bf16 that it stands for. The lookup minds five bits, so the
// table repeats itself for what lies above the code.
template <int Bits>
class Levels {
 public:
  [[gnu::always_inline]] Levels() {
    alignas(64) std::uint16_t table[32];
    for (int i = 0; i < 32; ++i) {
      table[i] = static_cast<std::uint16_t>(
          __builtin_bit_cast(std::uint32_t, levelOf(Bits, i & ((1 << Bits) - 1))) >> 16);
    }
    table_ = _mm512_load_si512(table);
  }

  // Vector number `I` of those that share the words at `codes`.
  template <int I>
  [[gnu::always_inline]] __m512bh unpack(const std::byte* codes) const {
    const __m512i words = _mm512_srli_epi16(_mm512_loadu_si512(codes), I * Bits);
    return (__m512bh)_mm512_permutexvar_epi16(words, table_);
  }

 private:
  __m512i table_;
};

inline void expandCodesAmx(const std::int8_t* codes, bf16* out, std::size_t count, Prefetch& next) {
  for (std::size_t i = 0; i < count; i += 128) {
    next.step<1>();
    for (std::size_t j = i; j < i + 128; j += 32) {
      _mm512_storeu_si512(out + j, (__m512i)expand32(reinterpret_cast<const std::byte*>(codes) + j));
    }
  }
}

template <int Bits>
[[gnu::always_inline]] inline void unpackVectors(const std::byte* codes, int headDim, int columns, bf16* out,
                                                 Prefetch& next) {
  constexpr int kPerWord = 16 / Bits;
  const Levels<Bits> levels;
  for (int first = 0; first < headDim; first += kPerWord, codes += 64) {
    next.step<1>();
    unroll<kPerWord>([&](auto i) {
      const int vector = first + i;
      const int place = columns == 0 ? vector : vector % 16 * columns + vector / 16;
      _mm512_storeu_si512(out + place * kPackedVector, (__m512i)levels.template unpack<i>(codes));
    });
  }
}

inline void unpackCodesAmx(int bits, const std::byte* codes, int headDim, int columns, bf16* out,
                           Prefetch& next) {
  if (bits == 4) {
    unpackVectors<4>(codes, headDim, columns, out, next);
  } else {
    unpackVectors<2>(codes, headDim, columns, out, next);
  }
}

// 16 bf16 as float32.
[[gnu::always_inline]] inline __m512 widen16(const bf16* source) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

// R queries together, so that a page's scales are widened once for them.
template <int R>
[[gnu::always_inline]] inline void foldGroup(const QueryFold fold, int first) {
  const bf16* q = fold.q + static_cast<std::size_t>(first) * fold.stride;
  bf16* folded = fold.folded + static_cast<std::size_t>(first) * fold.stride;
  __m512 offsets[R];
  unroll<R>([&](auto r) { offsets[r] = _mm512_setzero_ps(); });
  for (int channel = 0; channel < fold.headDim; channel += 16) {
    const __m512 step = widen16(fold.steps + channel), middle = widen16(fold.middles + channel);
    unroll<R>([&](auto r) {
      const std::size_t place = static_cast<std::size_t>(r) * fold.stride + channel;
      const __m512 x = widen16(q + place);
      offsets[r] = _mm512_fmadd_ps(x, middle, offsets[r]);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(folded + place),
                          (__m256i)_mm512_cvtneps_pbh(_mm512_mul_ps(x, step)));
    });
  }
  unroll<R>([&](auto r) {
    if (fold.headDim < fold.stride) {
      bf16* rest = folded + static_cast<std::size_t>(r) * fold.stride + fold.headDim;
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(rest), _mm256_setzero_si256());
    }
    fold.offsets[first + r] = _mm512_reduce_add_ps(offsets[r]);
  });
}

inline void foldQueriesAmx(const QueryFold& fold) {
  int query = 0;
  for (; query + 4 <= fold.queries; query += 4) foldGroup<4>(fold, query);
  for (; query < fold.queries; ++query) foldGroup<1>(fold, query);
}

}  // namespace tandem::cpu
