// Attention to int8 pages, whose codes most instruction sets multiply as whole numbers.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "attention-case.h"
#include "check.h"
#include "cpu/attention/kernels.h"

using namespace tandem;
using namespace tandem::test;

namespace {

bool multipliesInt8(Isa isa) {
  return cpu::attentionKernels(isa).attendCodes[static_cast<int>(PrecisionClass::int8)] != nullptr;
}

// No element of every `rowStep`th row from `first` on is off by more than `share` of its tolerance.
void expectWithin(double share, const Sequence& sequence, std::int64_t first, std::int64_t rowStep,
                  const std::string& what) {
  const AttentionShape& shape = sequence.shape;
  const KvValues values(sequence);
  for (std::int64_t row = sequence.done - 1; row >= first; row -= rowStep) {
    const std::string where = what + ", row " + std::to_string(row);
    for (int head = 0; head < shape.heads; ++head) {
      const Expected expected = reference(sequence, values, row, head);
      const float* out = sequence.out.data() + (row * shape.heads + head) * shape.headDim;
      for (int c = 0; c < shape.headDim; ++c) {
        near(out[c], expected.out[c], share * expected.tolerance[c], where);
      }
    }
  }
}

}  // namespace

// The tolerance is of bf16, which rounds probabilities to 8 bits and reaches six tenths of it; whole numbers
// have 15.
TEST("int8 attention: products of whole numbers are far closer to float64 than those of bf16") {
  for (const Isa isa : availableIsas()) {
    if (!multipliesInt8(isa)) continue;
    AttentionLane lane(isa);
    for (const AttentionShape shape :
         {AttentionShape{10, 2, 16}, AttentionShape{4, 2, 32, 40}, AttentionShape{7, 1, 112},
          AttentionShape{8, 1, 128}, AttentionShape{3, 1, 256}, AttentionShape{2, 2, 80, 100}}) {
      for (const std::int64_t chunk : {1, 64}) {
        Sequence sequence(shape, 174, 31, PrecisionClass::int8);
        lane.append(sequence, 110);
        lane.all(sequence, chunk);
        expectWithin(0.1, sequence, 110, 13,
                     std::string(isaName(isa)) + ", heads of " + std::to_string(shape.headDim));
      }
    }
  }
}

TEST("int8 attention: neither huge nor tiny numbers are lost") {
  for (const Isa isa : availableIsas()) {
    AttentionLane lane(isa);
    for (const auto& [queries, keys, values] :
         {std::array{1e8f, 1e-8f, 1e20f}, {1e-10f, 1e10f, 1e-20f}, {1e-15f, 1.0f, 1e25f}}) {
      const AttentionShape shape{6, 1, 64};
      Sequence sequence(shape, 75, 32, PrecisionClass::int8);
      for (std::int64_t row = 0; row < sequence.tokens; ++row) {
        float* x = sequence.qkv.data() + row * sequence.cols;
        for (int c = 0; c < sequence.cols; ++c) {
          x[c] *= c < 6 * 64 ? queries : c < 7 * 64 ? keys : values;
        }
      }
      lane.all(sequence, 75);
      expectWithin(1, sequence, 0, 7,
                   std::string(isaName(isa)) + ", 1e" + std::to_string(std::log10(values)));
    }
  }
}

TEST("int8 attention: AVX2 and AVX-VNNI give the same bits, and on exact pages too") {
  if (!std::ranges::count(availableIsas(), Isa::avxVnni)) return;
  for (const PrecisionClass precision : {PrecisionClass::bf16, PrecisionClass::int8}) {
    for (const AttentionShape shape : {AttentionShape{4, 1, 128}, AttentionShape{10, 2, 16},
                                       AttentionShape{7, 1, 80, 50}, AttentionShape{2, 2, 256}}) {
      for (const std::int64_t chunk : {1, 100}) {
        std::vector<float> outs[2];
        for (const bool isVnni : {false, true}) {
          AttentionLane lane(isVnni ? Isa::avxVnni : Isa::avx2);
          Sequence sequence(shape, 100, 33, precision);
          lane.all(sequence, chunk);
          outs[isVnni] = sequence.out;
        }
        test::equal(std::memcmp(outs[0].data(), outs[1].data(), outs[0].size() * sizeof(float)), 0,
                    std::string(nameOf(precision)) + ", heads of " + std::to_string(shape.headDim));
      }
    }
  }
}
