#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/ops.h"
#include "cuda/append-kv.h"
#include "cuda/prefill-attention.h"

namespace tandem::cuda {

// A step's entries as kernels take them: all as pieces of pages that are appended to; of those that are not
// in partitions, what has several tokens as tiles, and what has one as such, as many together as there is
// memory for the parts of their attention; nearly always all.
class EntryPlan {
 public:
  // An entry with one token.
  struct Single {
    std::int32_t slot, row, entry;
    std::int32_t context;  // tokens that it sees, itself included
  };
  // Singles that are launched together.
  struct Group {
    int first, count, mostTokens;
  };

  // What parts of singles take at most: of all of a lane's as far as that is worth it.
  static std::size_t partsBytes(const LaneLimits& limits);
  // A context rounded up, so that not every step is of another kind (step-graphs.h). Attention does the same
  // for it, but for some blocks that find nothing to do.
  static int roundedContext(std::int64_t tokens);

  EntryPlan(const AttentionShape& shape, std::size_t partsBytes);

  void layOut(const StepPlan& plan);

  const std::vector<std::int32_t>& positions() const { return positions_; }  // [rows]
  const std::vector<KvPiece>& pieces() const { return pieces_; }
  int longestPiece() const { return longestPiece_; }  // rows
  // Entries that the tiles are of. A tile's `sequence` counts all entries, those in partitions too.
  std::size_t severals() const { return severals_; }
  const std::vector<QueryTile>& tiles() const { return tiles_; }
  const std::vector<Single>& singles() const { return singles_; }
  const std::vector<Group>& groups() const { return groups_; }

 private:
  void addPieces(const EntryRows& entry, std::int32_t sequence);
  void addTiles(const EntryRows& entry, std::int32_t sequence);
  void groupSingles();

  const AttentionShape shape_;
  const std::size_t partsBytes_;
  const std::int64_t tileTokens_;
  std::vector<std::int32_t> positions_;
  std::vector<KvPiece> pieces_;
  int longestPiece_ = 0;
  std::size_t severals_ = 0;
  std::vector<QueryTile> tiles_;
  std::vector<Single> singles_;
  std::vector<Group> groups_;
};

}  // namespace tandem::cuda
