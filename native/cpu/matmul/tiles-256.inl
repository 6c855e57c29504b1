// Tiles of processors with 16 vector registers of 256 bits: for AVX2 and for AVX-VNNI, which differ in how
// bytes are multiplied. A tile of three to six rows takes 16 outputs at a time, two vectors: up to 12 sums
// leave the registers that a step's operands need. One row takes 64 at a time and two rows 32, for as many
// sums under way. Everything is in an unnamed namespace or always inlined, so that no code for one processor
// is linked into another's.

#include <immintrin.h>

#include <cstring>
#include <type_traits>

#include "cpu/matmul/kernels.h"
#include "cpu/unroll.h"

namespace tandem::cpu {
namespace {

constexpr int kTileRows = 6;
constexpr int kLanes = 8;
constexpr std::size_t kStepBytes = kPanel * 4;  // 4 bytes of every output
constexpr int kStepLines = kStepBytes / 64;

// Vectors of outputs that a tile takes at a time.
constexpr int vectorsOf(int rows) { return rows == 1 ? 8 : rows == 2 ? 4 : 2; }

// Lanes of 32 and of 16 bits. Not __m256i, whose lanes are 64 bits wide to GCC: it then moves sums to the
// stack and back in every step.
using Sums = std::int32_t __attribute__((vector_size(32)));
using ShortSums = std::int16_t __attribute__((vector_size(32)));

[[gnu::always_inline]] inline __m256i load(const void* p) {
  return _mm256_load_si256(static_cast<const __m256i*>(p));
}

[[gnu::always_inline]] inline __m256i broadcast4(const void* bytes) {
  int word;
  std::memcpy(&word, bytes, sizeof word);
  return _mm256_set1_epi32(word);
}

// Keeps GCC from putting off what changes the sum until the sum is used next: it has no registers for as many
// products.
template <class Vector>
[[gnu::always_inline]] inline void settle(Vector& sum) {
  asm("" : "+x"(sum));
}

// sums[row * Vectors + v] += weight(v) . input(row), by multiply(sum, weight, input). The fewer operands stay
// in registers while the others come and go.
template <int Rows, int Vectors, class Sum, class Weight, class Input, class Multiply>
[[gnu::always_inline]] inline void multiplyTile(Sum* sums, Weight weight, Input input, Multiply multiply) {
  if constexpr (Rows < Vectors) {
    decltype(input(0)) inputs[Rows];
    unroll<Rows>([&](auto row) __attribute__((always_inline)) { inputs[row] = input(row); });
    unroll<Vectors>([&](auto v) __attribute__((always_inline)) {
      const auto w = weight(v);
      unroll<Rows>([&](auto row)
                       __attribute__((always_inline)) { multiply(sums[row * Vectors + v], w, inputs[row]); });
    });
  } else {
    decltype(weight(0)) weights[Vectors];
    unroll<Vectors>([&](auto v) __attribute__((always_inline)) { weights[v] = weight(v); });
    unroll<Rows>([&](auto row) __attribute__((always_inline)) {
      const auto x = input(row);
      unroll<Vectors>([&](auto v) __attribute__((always_inline)) {
        multiply(sums[row * Vectors + v], weights[v], x);
      });
    });
  }
}

// What a pass over some of the outputs asks the memory for, a share with every step. A part of a panel is
// read in one pass by one row, in two by two and in four by more, and each asks for its share of the hint.
template <int Vectors>
struct Requests {
  static constexpr int kLines = Vectors / 2;  // of a step's, which the pass reads
  const char* next;
  std::size_t perStep;

  // `codes`: what the pass reads first, `bytes`: of the part of the panel, `pass`: its number.
  [[gnu::always_inline]] Requests(Ahead ahead, const void* codes, std::size_t bytes, int pass) {
    if (ahead.linesPerStep == kStepLines) {
      // A stream, whose hint is for reading in one pass: others ask for their own lines of the part behind.
      next = kLines == kStepLines ? ahead.from : static_cast<const char*>(codes) + bytes;
      perStep = kStepBytes;
    } else if (pass * kLines < ahead.linesPerStep) {
      next = ahead.from + bytes / kStepLines * kLines * pass;
      perStep = kLines * 64;
    } else {
      next = static_cast<const char*>(codes);  // nothing that is not there
      perStep = 0;
    }
  }

  [[gnu::always_inline]] void step() {
    unroll<kLines>([&](auto line)
                       __attribute__((always_inline)) { _mm_prefetch(next + line * 64, _MM_HINT_T0); });
    next += perStep;
  }
};

template <int Rows>
void bf16Tile(const bf16* a, std::size_t stride, const bf16* panel, std::size_t inputs, bool first,
              Ahead ahead, float* c) {
  // Inputs that are widened at once, and pass by four times: few enough that what a stream asks for does not
  // push them out of the L1 cache.
  constexpr std::size_t kDepth = 128;
  constexpr int kVectors = vectorsOf(Rows);
  const __m256i high = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
  alignas(32) float x[Rows][kDepth];
  for (std::size_t begin = 0; begin < inputs; begin += kDepth) {
    const std::size_t depth = inputs - begin < kDepth ? inputs - begin : kDepth;
    for (int row = 0; row < Rows; ++row) {
      const bf16* source = a + row * stride + begin;
      std::size_t k = 0;
      for (; k + kLanes <= depth; k += kLanes) {
        const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + k));
        _mm256_store_ps(x[row] + k, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16)));
      }
      for (; k < depth; ++k) {
        const std::uint32_t bits = std::uint32_t{source[k]} << 16;
        std::memcpy(x[row] + k, &bits, sizeof bits);
      }
    }
    for (int column = 0; column < kPanel; column += kVectors * kLanes) {
      __m256 sums[Rows * kVectors];
      unroll<Rows * kVectors>([&](auto i) __attribute__((always_inline)) {
        sums[i] = first && begin == 0
                      ? _mm256_setzero_ps()
                      : _mm256_load_ps(c + i / kVectors * kPanel + column + i % kVectors * kLanes);
      });
      const auto* codes = reinterpret_cast<const char*>(panel + begin * kPanel) + column * 4;
      Requests<kVectors> requests(ahead, codes, depth * kPanel * sizeof(bf16), column / (kVectors * kLanes));
#pragma GCC unroll 1
      for (std::size_t k = 0; k < depth; k += 2, codes += kStepBytes) {
        requests.step();
        const auto multiply = [&](const auto& widen, std::size_t at) __attribute__((always_inline)) {
          multiplyTile<Rows, kVectors>(
              sums,
              [&](int v)
                  __attribute__((always_inline)) { return _mm256_castsi256_ps(widen(load(codes + v * 32))); },
              [&](int row) __attribute__((always_inline)) { return _mm256_broadcast_ss(x[row] + at); },
              [](auto& sum, __m256 w, __m256 factor) __attribute__((always_inline)) {
                sum = _mm256_fmadd_ps(factor, w, sum);
                settle(sum);
              });
        };
        multiply(
            [](__m256i w) __attribute__((always_inline)) { return _mm256_slli_epi32(w, 16); }, k);
        multiply(
            [&](__m256i w) __attribute__((always_inline)) { return _mm256_and_si256(w, high); }, k + 1);
      }
      unroll<Rows * kVectors>([&](auto i) __attribute__((always_inline)) {
        _mm256_store_ps(c + i / kVectors * kPanel + column + i % kVectors * kLanes, sums[i]);
      });
    }
    ahead.from += depth * kPanel * sizeof(bf16) / kStepLines * ahead.linesPerStep;
  }
}

// Rows as they are: four inputs a lane.
template <int Rows>
struct ByteInputs {
  const std::int8_t* codes;
  std::size_t stride;
  [[gnu::always_inline]] explicit ByteInputs(const QuantizedRows& a) : codes(a.codes), stride(a.stride) {}
};

// Sums of some vectors of outputs that begin with what each row has.
template <int Rows, int Vectors, class Vector, class Beginning>
[[gnu::always_inline]] inline void begin(Vector* sums, Beginning beginning) {
  unroll<Rows>([&](auto row) __attribute__((always_inline)) {
    const Vector value = beginning(row);
    unroll<Vectors>([&](auto v) __attribute__((always_inline)) { sums[row * Vectors + v] = value; });
  });
}

// A mask for shuffling bytes, `bytes` in each lane of 32 bits; those below 0x80 count from the lane.
[[gnu::always_inline]] inline __m256i eachLane(std::uint32_t bytes) {
  const __m256i lanes =
      _mm256_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c, 0, 0x04040404, 0x08080808, 0x0c0c0c0c);
  return _mm256_add_epi32(_mm256_set1_epi32(static_cast<int>(bytes)), lanes);
}

// Of the factors of 8 outputs, which are bytes, the `chosen` ones as 16 bits: the mask puts them above a
// zero.
[[gnu::always_inline]] inline __m256i factorsOf(const std::int8_t* factors, __m256i chosen) {
  return _mm256_srai_epi16(_mm256_shuffle_epi8(load(factors), chosen), 8);
}

// Products are of a part's codes, 0..15, and inputs; `add` multiplies their sums by factors.
template <class Products>
struct Int4Codes {
  static constexpr std::size_t kGroupBytes = std::size_t{kGroup} * kPanel / 2;
  static constexpr bool kByParts = true;
  template <int Rows>
  using Inputs = typename Products::template Inputs<Rows>;

  template <int Rows, int Vectors>
  [[gnu::always_inline]] static void add(Sums* dots, const Inputs<Rows>& inputs, const IntegerPanel& panel,
                                         Requests<Vectors> requests) {
    const __m256i low = _mm256_set1_epi8(15);
    __m256i chosen = eachLane(Products::kFactor);
    const std::uint8_t* codes = panel.codes;
    const std::int8_t* a = inputs.codes;
#pragma GCC unroll 1
    for (int part = 0; part < kParts; ++part) {
      typename Products::PartSums sums[Rows * Vectors];
      begin<Rows, Vectors>(
          sums, [&](int row) __attribute__((always_inline)) { return inputs.correction(row, part); });
#pragma GCC unroll 1
      for (int k = 0; k < kPart; k += 8, codes += kStepBytes, a += 8) {
        requests.step();
        multiplyTile<Rows, Vectors>(
            sums,
            [&](int v) __attribute__((always_inline)) { return _mm256_and_si256(load(codes + v * 32), low); },
            [&](int row) __attribute__((always_inline)) { return broadcast4(a + row * inputs.stride); },
            Products::multiply);
        multiplyTile<Rows, Vectors>(
            sums,
            [&](int v) __attribute__((always_inline)) {
              return _mm256_and_si256(_mm256_srli_epi16(load(codes + v * 32), 4), low);
            },
            [&](int row) __attribute__((always_inline)) { return broadcast4(a + row * inputs.stride + 4); },
            Products::multiply);
      }
      unroll<Vectors>([&](auto v) __attribute__((always_inline)) {
        const __m256i factors = factorsOf(panel.factors + v * kLanes * kParts, chosen);
        unroll<Rows>([&](auto row) __attribute__((always_inline)) {
          Products::add(dots[row * Vectors + v], sums[row * Vectors + v], factors);
        });
      });
      chosen = _mm256_add_epi32(chosen, _mm256_set1_epi32(Products::kNextFactor));
    }
  }
};

// Codes::add adds the products of one group to the sums of some vectors of outputs, with corrections that are
// of its parts.
template <class Codes, int Rows>
void integerTile(const QuantizedRows& a, const IntegerPanel& panel, std::size_t groups, bool first,
                 Ahead ahead, float* c) {
  constexpr int kVectors = vectorsOf(Rows);
  for (std::size_t group = 0; group < groups; ++group) {
    const QuantizedRows rows = a.from(0, group);
    const typename Codes::template Inputs<Rows> inputs(rows);
    for (int column = 0; column < kPanel; column += kVectors * kLanes) {
      Sums dots[Rows * kVectors];
      begin<Rows, kVectors>(
          dots, [&](int row) __attribute__((always_inline)) {
            return Codes::kByParts ? Sums{} : Sums{} + rows.corrections[row * rows.groups];
          });
      const IntegerPanel block = panel.from(group, column, Codes::kGroupBytes);
      const Requests<kVectors> requests(ahead, block.codes, Codes::kGroupBytes, column / (kVectors * kLanes));
      Codes::template add<Rows, kVectors>(dots, inputs, block, requests);
      unroll<kVectors>([&](auto v) __attribute__((always_inline)) {
        const __m256 weightScale = _mm256_load_ps(block.scales + v * kLanes);
        unroll<Rows>([&](auto row) __attribute__((always_inline)) {
          float* out = c + row * kPanel + column + v * kLanes;
          const __m256 scale = _mm256_mul_ps(weightScale, _mm256_broadcast_ss(rows.scales + row * a.groups));
          const __m256 before = first && group == 0 ? _mm256_setzero_ps() : _mm256_load_ps(out);
          const __m256 dot = _mm256_cvtepi32_ps((__m256i)dots[row * kVectors + v]);
          _mm256_store_ps(out, _mm256_fmadd_ps(dot, scale, before));
        });
      });
    }
    ahead.from += Codes::kGroupBytes / kStepLines * ahead.linesPerStep;
  }
}

// Calls body with the tile height as a constant.
template <class Body>
void withRows(int rows, Body body) {
  switch (rows) {
    case 1:
      return body(std::integral_constant<int, 1>{});
    case 2:
      return body(std::integral_constant<int, 2>{});
    case 3:
      return body(std::integral_constant<int, 3>{});
    case 4:
      return body(std::integral_constant<int, 4>{});
    case 5:
      return body(std::integral_constant<int, 5>{});
    default:
      return body(std::integral_constant<int, kTileRows>{});
  }
}

void bf16Dot(int rows, const bf16* a, std::size_t stride, const bf16* panel, std::size_t inputs, bool first,
             Ahead ahead, float* c) {
  withRows(rows, [&](auto height) { bf16Tile<height>(a, stride, panel, inputs, first, ahead, c); });
}

template <class Codes>
void integerDot(int rows, const QuantizedRows& a, const IntegerPanel& panel, std::size_t groups, bool first,
                Ahead ahead, float* c) {
  withRows(rows, [&](auto height) { integerTile<Codes, height>(a, panel, groups, first, ahead, c); });
}

}  // namespace
}  // namespace tandem::cpu
