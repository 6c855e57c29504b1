#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/ops.h"
#include "cuda/gather-pages.h"
#include "cuda/prefill-attention.h"

namespace tandem::cuda {

// Which pages the entries of a step look at in each layer, and where their tokens are once these have closed
// up.
class SightPlan {
 public:
  // The entry of each of a step's single tokens, and the tokens that it sees.
  struct Single {
    std::int32_t entry, context;
  };

  void layOut(const StepPlan& plan, int layers, std::span<const QueryTile> tiles,
              std::span<const Single> singles);

  bool empty() const { return rows_.empty(); }
  const std::vector<SeenRow>& rows() const { return rows_; }                     // [layers, entries]
  const std::vector<SeenWord>& words() const { return words_; }                  // of all layers
  int mostPages() const { return mostPages_; }                                   // of an entry
  const std::vector<QueryTile>& closedTiles() const { return tiles_; }           // [layers, tiles]
  const std::vector<std::int32_t>& closedContexts() const { return contexts_; }  // [layers, singles]

 private:
  std::int32_t addRow(const EntryRows& entry, const SeenPages& sight, int layer);

  std::vector<SeenRow> rows_;
  std::vector<SeenWord> words_;
  int mostPages_ = 0;
  std::vector<QueryTile> tiles_;
  std::vector<std::int32_t> contexts_;
  std::vector<std::int32_t> missing_;
};

}  // namespace tandem::cuda
