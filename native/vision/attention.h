#pragma once

#include "core/ops.h"
#include "core/thread-team.h"
#include "cpu/aligned-array.h"
#include "cpu/matmul/matmul.h"
#include "cpu/sampling/row-kernels.h"

namespace tandem::vision {

// Attention of all rows to all rows, as two matmuls a head by the processor's kernels: keys and values are
// their weights, in bf16 as the scores.
class Attention {
 public:
  Attention(Isa isa, ThreadTeam& team, cpu::Workspace& workspace);

  // qkv [rows, 3 * hidden]: queries, keys and values side by side, each [heads, headDim]. out [rows, hidden]
  void run(Tensor qkv, int heads, Tensor out);

 private:
  void packHead(Tensor qkv, std::int64_t hidden, std::int64_t headDim, std::int64_t head);
  // Of the rows [begin, begin + count).
  void attend(Tensor qkv, std::int64_t hidden, std::int64_t head, std::int64_t begin, std::int64_t count,
              Tensor out);

  const Isa isa_;
  ThreadTeam& team_;
  cpu::Workspace& workspace_;
  const cpu::RowKernels rowKernels_;
  cpu::AlignedArray<float> gathered_;  // a head's keys, then its values, turned
  cpu::AlignedArray<float> queries_, scores_, mixed_;
  std::unique_ptr<Weight> keys_, values_;  // [rows, headDim], [headDim, rows]
};

}  // namespace tandem::vision
