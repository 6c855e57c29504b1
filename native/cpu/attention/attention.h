#pragma once

// Attention over pages: which queries and pages meet, on which thread. The arithmetic is in kernels.h.

#include <memory>
#include <span>

#include "core/ops.h"
#include "core/thread-team.h"
#include "cpu/isa.h"

namespace tandem::cpu {

// Tokens after which the online softmax starts anew. The parts are merged in ascending order, so that one
// sequence's decode can be spread over threads without changing a bit.
inline constexpr int kSpanTokens = 1024;

// Scratch memory of one lane, grown when needed and kept.
class AttentionWorkspace {
 public:
  AttentionWorkspace();
  ~AttentionWorkspace();
  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

// See Ops::attention in core/ops.h. Throws Error if a shape or a page table does not fit.
void attention(Isa isa, ThreadTeam& team, AttentionWorkspace& workspace, Tensor qkv,
               std::span<const EntryRows> entries, std::span<const KvView> views, const AttentionShape& shape,
               Tensor out);

}  // namespace tandem::cpu
