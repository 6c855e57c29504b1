#include "vision/attention.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

namespace tandem::vision {
namespace {

// Queries at a time: their scores [kBlock, rows] stay in a second-level cache.
constexpr std::int64_t kBlock = 128;

std::unique_ptr<Weight> pack(const float* data, std::int64_t rows, std::int64_t cols, ThreadTeam& team) {
  const CheckpointMatrix matrix{reinterpret_cast<const std::byte*>(data), CheckpointType::f32, rows, cols};
  return cpu::packWeight({&matrix, 1}, WeightLayout::stacked, WeightClass::bf16, team);
}

}  // namespace

Attention::Attention(Isa isa, ThreadTeam& team, cpu::Workspace& workspace)
    : isa_(isa), team_(team), workspace_(workspace), rowKernels_(cpu::rowKernels(isa)) {}

void Attention::run(Tensor qkv, int heads, Tensor out) {
  const std::int64_t hidden = out.cols, headDim = hidden / heads;
  gathered_.reserve(static_cast<std::size_t>(qkv.rows * headDim));
  queries_.reserve(static_cast<std::size_t>(kBlock * headDim));
  mixed_.reserve(static_cast<std::size_t>(kBlock * headDim));
  scores_.reserve(static_cast<std::size_t>(kBlock * qkv.rows));
  for (std::int64_t head = 0; head < heads; ++head) {
    packHead(qkv, hidden, headDim, head);
    for (std::int64_t begin = 0; begin < qkv.rows; begin += kBlock) {
      attend(qkv, hidden, head, begin, std::min(kBlock, qkv.rows - begin), out);
    }
  }
}

void Attention::packHead(Tensor qkv, std::int64_t hidden, std::int64_t headDim, std::int64_t head) {
  float* const gathered = gathered_.data();
  for (std::int64_t row = 0; row < qkv.rows; ++row) {
    const float* key = qkv.floats() + row * qkv.cols + hidden + head * headDim;
    std::copy(key, key + headDim, gathered + row * headDim);
  }
  keys_ = pack(gathered, qkv.rows, headDim, team_);
  for (std::int64_t row = 0; row < qkv.rows; ++row) {
    const float* value = qkv.floats() + row * qkv.cols + 2 * hidden + head * headDim;
    for (std::int64_t i = 0; i < headDim; ++i) gathered[i * qkv.rows + row] = value[i];
  }
  values_ = pack(gathered, headDim, qkv.rows, team_);
}

void Attention::attend(Tensor qkv, std::int64_t hidden, std::int64_t head, std::int64_t begin,
                       std::int64_t count, Tensor out) {
  const std::int64_t headDim = keys_->inputs(), rows = qkv.rows;
  const float scale = 1 / std::sqrt(static_cast<float>(headDim));
  for (std::int64_t i = 0; i < count; ++i) {
    const float* query = qkv.floats() + (begin + i) * qkv.cols + head * headDim;
    std::transform(query, query + headDim, queries_.data() + i * headDim,
                   [&](float value) { return value * scale; });
  }
  const Tensor queries{queries_.data(), count, headDim}, scores{scores_.data(), count, rows},
      mixed{mixed_.data(), count, headDim};
  cpu::linear(isa_, team_, workspace_, queries, *keys_, {}, scores);
  float inverse[kBlock];
  for (std::int64_t i = 0; i < count; ++i) {
    float* row = scores.floats() + i * rows;
    bool isNan = false;
    const float highest = rowKernels_.highest(row, static_cast<std::size_t>(rows), &isNan);
    const double sum = isNan ? std::numeric_limits<double>::quiet_NaN()
                             : rowKernels_.exponentials(row, static_cast<std::size_t>(rows), highest, 1,
                                                        -std::numeric_limits<float>::infinity(), row);
    inverse[i] = static_cast<float>(1 / sum);
  }
  cpu::linear(isa_, team_, workspace_, scores, *values_, {}, mixed);
  for (std::int64_t i = 0; i < count; ++i) {
    float* to = out.floats() + (begin + i) * hidden + head * headDim;
    const float* from = mixed.floats() + i * headDim;
    for (std::int64_t k = 0; k < headDim; ++k) to[k] = from[k] * inverse[i];
  }
}

}  // namespace tandem::vision
