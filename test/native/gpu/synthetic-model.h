#pragma once

// Steps of a decoder with random weights, made of the kernels there are. Weights are int8 in decode and bf16
// in prefill.

#include <memory>
#include <vector>

#include "cuda/device-array.h"
#include "cuda/lanes.h"
#include "cuda/matmul.h"
#include "cuda/page-tables.h"
#include "cuda/prefill-attention.h"
#include "gpu/shape.h"

namespace tandem::gpu {

// In the order of a calibration sample's opSeconds.
enum OpClass : unsigned {
  kMatmul = 1,
  kPrefillAttention = 2,
  kDecodeAttention = 4,
  kOther = 8,
  kAllOps = 15
};

// Pages of so many sequences of equal length in all layers, filled with finite values.
class SyntheticPages {
 public:
  SyntheticPages(const Shape& shape, PrecisionClass precision, int sequences, int tokens);

  cuda::PageTables layer(int index);
  const std::int32_t* contexts() { return contexts_.data(); }
  // The row of each sequence's newest token, where a step has one of each.
  const std::int32_t* rows() { return slots_.data(); }
  int sequences() const { return sequences_; }
  int tokens() const { return tokens_; }
  std::size_t bytesRead() const;  // by attention over all layers

 private:
  Shape shape_;
  PageFormat format_;
  int sequences_, tokens_;
  std::int64_t pagesEach_;
  test::DeviceArray<std::byte> memory_;
  test::DeviceArray<std::uint64_t> entries_;  // [layers, sequences, pagesEach]
  test::DeviceArray<std::int32_t> slots_, contexts_;
};

// The tiles of a chunk of one sequence: `tokens` behind `context`.
std::vector<cuda::QueryTile> tilesOf(const Shape& shape, int tokens, int context);

// A lane's activations and what it needs once a step.
struct Activations;

class SyntheticModel {
 public:
  explicit SyntheticModel(const Shape& shape);
  ~SyntheticModel();

  // A token for each sequence of the pages, with logits and the choice of the best.
  class Decode {
   public:
    Decode(SyntheticModel& model, SyntheticPages& pages);
    ~Decode();
    void enqueue(cuda::Lanes::LaneStream lane, unsigned classes = kAllOps);

   private:
    SyntheticModel& model_;
    SyntheticPages& pages_;
    std::unique_ptr<Activations> activations_;
  };

  // `tokens` of a prompt.
  class Prefill {
   public:
    Prefill(SyntheticModel& model, int tokens);
    ~Prefill();
    void enqueue(cuda::Lanes::LaneStream lane, unsigned classes = kAllOps);
    // Of the prompt's pages, over all layers.
    std::size_t kvBytes() const { return pages_->bytesRead(); }

   private:
    SyntheticModel& model_;
    std::unique_ptr<SyntheticPages> pages_;
    test::DeviceArray<cuda::QueryTile> tiles_;
    std::unique_ptr<Activations> activations_;
  };

 private:
  struct Layer;
  const Shape shape_;
  test::DeviceArray<float> gain_;
  std::vector<std::unique_ptr<Layer>> layers_;
  std::unique_ptr<cuda::CudaWeight> head_;
};

}  // namespace tandem::gpu
