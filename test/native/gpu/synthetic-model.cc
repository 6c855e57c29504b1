#include "gpu/synthetic-model.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "cuda/append-kv.h"
#include "cuda/argmax.h"
#include "cuda/decode-attention.h"
#include "cuda/matmul.h"
#include "cuda/random.h"
#include "cuda/rms-norm.h"
#include "cuda/rope-angles.h"
#include "gpu/random-weight.h"

namespace tandem::gpu {
namespace {

using test::DeviceArray;
using test::repeated;

constexpr float kEps = 1e-5f;

DeviceArray<bf16> randomMatrix(std::size_t elements, float deviation) {
  return repeated(test::randomBf16s(kPattern, 4, deviation), elements);
}

// Random bits whose bf16 are small numbers and whose float32 (int8 pages' scales) too.
DeviceArray<std::byte> randomPages(std::size_t bytes) {
  std::vector<bf16> values = test::randomBf16s(kPattern, 5, 0.1f);
  std::vector<std::byte> pattern(values.size() * sizeof(bf16));
  std::memcpy(pattern.data(), values.data(), pattern.size());
  return repeated(pattern, bytes);
}

std::vector<std::int32_t> ascending(std::size_t count) {
  std::vector<std::int32_t> numbers(count);
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

// Pages of all layers for the same tokens lie side by side; such blocks are in no order, as in use.
std::vector<std::uint64_t> scattered(const std::byte* memory, const PageFormat& format, int layers,
                                     std::size_t blocks) {
  std::vector<std::int32_t> order = ascending(blocks);
  std::shuffle(order.begin(), order.end(), std::mt19937(7));
  std::vector<std::uint64_t> entries;
  for (int layer = 0; layer < layers; ++layer) {
    for (const std::int32_t block : order) {
      const std::size_t page = static_cast<std::size_t>(block) * layers + layer;
      entries.push_back(cuda::pageEntry(memory + page * format.pageBytes(), format.precision));
    }
  }
  return entries;
}

std::vector<float> frequencies(int headDim) {
  std::vector<float> values;
  for (int i = 0; i < headDim / 2; ++i) {
    values.push_back(static_cast<float>(std::pow(500000.0, -2.0 * i / headDim)));
  }
  return values;
}

}  // namespace

std::vector<cuda::QueryTile> tilesOf(const Shape& shape, int tokens, int context) {
  const int most = cuda::prefillTileTokens(shape.heads, shape.kvHeads);
  std::vector<cuda::QueryTile> tiles;
  for (int at = 0; at < tokens; at += most) {
    tiles.push_back({at, std::min(most, tokens - at), 0, context + at});
  }
  return tiles;
}

SyntheticPages::SyntheticPages(const Shape& shape, PrecisionClass precision, int sequences, int tokens)
    : shape_(shape),
      format_{precision, shape.kvHeads, shape.headDim},
      sequences_(sequences),
      tokens_(tokens),
      pagesEach_((tokens + kPageTokens - 1) / kPageTokens),
      memory_(
          randomPages(static_cast<std::size_t>(sequences * pagesEach_) * shape.layers * format_.pageBytes())),
      entries_(
          scattered(memory_.data(), format_, shape.layers, static_cast<std::size_t>(sequences * pagesEach_))),
      slots_(ascending(static_cast<std::size_t>(sequences))),
      contexts_(std::vector<std::int32_t>(static_cast<std::size_t>(sequences), tokens)) {}

cuda::PageTables SyntheticPages::layer(int index) {
  // Packed pages were made of int8 ones.
  const PageFormat pool = isPacked(format_.precision) ? format_.in(PrecisionClass::int8) : format_;
  return {entries_.data() + index * sequences_ * pagesEach_, pagesEach_, slots_.data(), pool};
}

std::size_t SyntheticPages::bytesRead() const {
  return static_cast<std::size_t>(sequences_ * pagesEach_) * shape_.layers * format_.pageBytes();
}

// The matrices of a layer in one class.
struct Matrices {
  Matrices(const Shape& shape, WeightClass weightClass)
      : qkv(randomWeight({shape.qkvWidth(), shape.hidden}, weightClass)),
        output(randomWeight({shape.hidden, shape.heads * shape.headDim}, weightClass)),
        gateUp(randomWeight({2 * shape.ffn, shape.hidden, WeightLayout::gated}, weightClass)),
        down(randomWeight({shape.hidden, shape.ffn}, weightClass)) {}

  std::unique_ptr<cuda::CudaWeight> qkv, output, gateUp, down;
};

struct SyntheticModel::Layer {
  explicit Layer(const Shape& shape) : int8(shape, WeightClass::int8), wide(shape, WeightClass::bf16) {}

  Matrices int8, wide;
};

struct Activations {
  // Rows that are the tokens `first` and on of one sequence each (decode), or of one sequence (prefill).
  Activations(const Shape& shape, int rows, int first, bool oneSequence, std::size_t scratch)
      : rows(rows),
        x(randomMatrix(static_cast<std::size_t>(rows) * shape.hidden, 1)),
        normed(x.size()),
        qkv(static_cast<std::size_t>(rows) * shape.qkvWidth()),
        attended(randomMatrix(static_cast<std::size_t>(rows) * shape.heads * shape.headDim, 1)),
        gated(static_cast<std::size_t>(rows) * shape.ffn),
        positions(positionsOf(rows, first, oneSequence)),
        frequencies(gpu::frequencies(shape.headDim)),
        angles(static_cast<std::size_t>(rows) * shape.headDim),
        pieces(piecesOf(rows, first, oneSequence)),
        parts(std::max<std::size_t>(1, scratch / sizeof(float))) {}

  static std::vector<std::int32_t> positionsOf(int rows, int first, bool oneSequence) {
    std::vector<std::int32_t> positions;
    for (int row = 0; row < rows; ++row) positions.push_back(oneSequence ? first + row : first);
    return positions;
  }
  static std::vector<cuda::KvPiece> piecesOf(int rows, int first, bool oneSequence) {
    std::vector<cuda::KvPiece> pieces;
    for (int row = 0; row < rows;) {
      const int token = oneSequence ? first + row : first;
      const int count = oneSequence ? std::min(rows - row, kPageTokens - token % kPageTokens) : 1;
      pieces.push_back({row, count, oneSequence ? 0 : row, token / kPageTokens, token % kPageTokens});
      row += count;
    }
    return pieces;
  }

  void norm(const float* gain, const Shape& shape, cuda::Stream stream) {
    cuda::rmsNorm({x.data(), nullptr, gain, normed.data(), rows, shape.hidden, kEps}, stream);
  }

  void append(const Shape& shape, const cuda::PageTables& tables, cuda::Stream stream) {
    cuda::appendKv({qkv.data(), angles.data(), pieces.data(), static_cast<int>(pieces.size()),
                    pieces.size() < static_cast<std::size_t>(rows) ? kPageTokens : 1, tables, shape.heads,
                    nullptr, nullptr, 0},
                   stream);
  }

  void rope(const Shape& shape, cuda::Stream stream) {
    cuda::ropeAngles({positions.data(), frequencies.data(), angles.data(), rows, shape.headDim / 2, 1},
                     stream);
  }

  int rows;
  test::DeviceArray<bf16> x, normed, qkv, attended, gated;
  test::DeviceArray<std::int32_t> positions;
  test::DeviceArray<float> frequencies, angles;
  test::DeviceArray<cuda::KvPiece> pieces;
  test::DeviceArray<float> parts;
  std::unique_ptr<test::DeviceArray<float>> logits;
  std::unique_ptr<test::DeviceArray<std::uint64_t>> keys;
  std::unique_ptr<test::DeviceArray<std::int32_t>> tokens;
};

SyntheticModel::SyntheticModel(const Shape& shape)
    : shape_(shape),
      gain_(std::vector<float>(static_cast<std::size_t>(shape.hidden), 1.0f)),
      head_(randomWeight({shape.vocab, shape.hidden}, WeightClass::int8)) {
  for (int layer = 0; layer < shape.layers; ++layer) layers_.push_back(std::make_unique<Layer>(shape));
}
SyntheticModel::~SyntheticModel() = default;

SyntheticModel::Decode::Decode(SyntheticModel& model, SyntheticPages& pages)
    : model_(model),
      pages_(pages),
      activations_(std::make_unique<Activations>(
          model.shape_, pages.sequences(), pages.tokens() - 1, false,
          cuda::decodeAttentionScratch(pages.sequences(), pages.tokens(), model.shape_.heads,
                                       model.shape_.headDim))) {
  const auto rows = static_cast<std::size_t>(pages.sequences());
  activations_->logits = std::make_unique<DeviceArray<float>>(rows * model.shape_.vocab);
  activations_->keys = std::make_unique<DeviceArray<std::uint64_t>>(
      cuda::argmaxScratch(pages.sequences(), model.shape_.vocab) / sizeof(std::uint64_t));
  activations_->tokens = std::make_unique<DeviceArray<std::int32_t>>(rows);
}
SyntheticModel::Decode::~Decode() = default;

void SyntheticModel::Decode::enqueue(cuda::Lanes::LaneStream lane, unsigned classes) {
  Activations& a = *activations_;
  const Shape& shape = model_.shape_;
  const cuda::Stream stream = lane.stream;
  const auto multiply = [&](const cuda::CudaWeight& w, bf16* x, void* y, cuda::Epilogue epilogue) {
    if (classes & kMatmul) cuda::matmul({x, &w, nullptr, y, epilogue, a.rows}, lane.sms, stream);
  };
  if (classes & kOther) a.rope(shape, stream);
  for (int index = 0; index < shape.layers; ++index) {
    const Matrices& layer = model_.layers_[index]->int8;
    const cuda::PageTables tables = pages_.layer(index);
    if (classes & kOther) a.norm(model_.gain_.data(), shape, stream);
    multiply(*layer.qkv, a.normed.data(), a.qkv.data(), cuda::Epilogue::store);
    if (classes & kOther) a.append(shape, tables, stream);
    if (classes & kDecodeAttention) {
      cuda::decodeAttention({a.qkv.data(), tables, pages_.rows(), pages_.contexts(), a.rows, pages_.tokens(),
                             shape.heads, 0, a.parts.data(), a.attended.data()},
                            stream);
    }
    multiply(*layer.output, a.attended.data(), a.x.data(), cuda::Epilogue::add);
    if (classes & kOther) a.norm(model_.gain_.data(), shape, stream);
    multiply(*layer.gateUp, a.normed.data(), a.gated.data(), cuda::Epilogue::swiGlu);
    multiply(*layer.down, a.gated.data(), a.x.data(), cuda::Epilogue::add);
  }
  if (classes & kOther) a.norm(model_.gain_.data(), shape, stream);
  multiply(*model_.head_, a.normed.data(), a.logits->data(), cuda::Epilogue::logits);
  if (classes & kOther) {
    cuda::argmax({a.logits->data(), a.keys->data(), a.tokens->data(), a.rows, shape.vocab}, stream);
  }
}

SyntheticModel::Prefill::Prefill(SyntheticModel& model, int tokens)
    : model_(model),
      pages_(std::make_unique<SyntheticPages>(model.shape_, PrecisionClass::bf16, 1, tokens)),
      tiles_(tilesOf(model.shape_, tokens, 0)),
      activations_(std::make_unique<Activations>(model.shape_, tokens, 0, true, 0)) {}
SyntheticModel::Prefill::~Prefill() = default;

void SyntheticModel::Prefill::enqueue(cuda::Lanes::LaneStream lane, unsigned classes) {
  Activations& a = *activations_;
  const Shape& shape = model_.shape_;
  const cuda::Stream stream = lane.stream;
  const auto multiply = [&](const cuda::CudaWeight& w, bf16* x, void* y, cuda::Epilogue epilogue) {
    if (classes & kMatmul) cuda::matmul({x, &w, nullptr, y, epilogue, a.rows}, lane.sms, stream);
  };
  if (classes & kOther) a.rope(shape, stream);
  for (int index = 0; index < shape.layers; ++index) {
    const Matrices& layer = model_.layers_[index]->wide;
    if (classes & kOther) a.norm(model_.gain_.data(), shape, stream);
    multiply(*layer.qkv, a.normed.data(), a.qkv.data(), cuda::Epilogue::store);
    if (classes & kOther) a.append(shape, pages_->layer(index), stream);
    if (classes & kPrefillAttention) {
      cuda::prefillAttention({a.qkv.data(), pages_->layer(index), tiles_.data(),
                              static_cast<int>(tiles_.size()), shape.heads, 0, a.attended.data()},
                             stream);
    }
    multiply(*layer.output, a.attended.data(), a.x.data(), cuda::Epilogue::add);
    if (classes & kOther) a.norm(model_.gain_.data(), shape, stream);
    multiply(*layer.gateUp, a.normed.data(), a.gated.data(), cuda::Epilogue::swiGlu);
    multiply(*layer.down, a.gated.data(), a.x.data(), cuda::Epilogue::add);
  }
}

}  // namespace tandem::gpu
