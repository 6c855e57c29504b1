#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "kv/far-pages.h"
#include "kv/host-memory.h"
#include "kv/page-format.h"

namespace tandem {

using SwapId = std::int64_t;  // never used twice

// KV that was moved out of the pool: the bytes of a sequence's pages, block by block and layer by layer.
struct SwappedKv {
  std::shared_ptr<HostMemory> memory;  // shared with the copy that fills or reads it
  std::int64_t tokens = 0;
  std::int64_t dropped = 0;
  std::vector<PrecisionClass> classes;  // of the pages, as they lie
  std::vector<FarPages::Place> places;  // of the far ones among them, each with a reference
  bool copying = true;
};

// All of it, by id. Belongs to the thread that plans.
class SwapSpace {
 public:
  SwapId add(std::int64_t tokens, std::int64_t dropped, std::vector<PrecisionClass> classes,
             std::size_t bytes);
  SwappedKv& at(SwapId id);
  // Throws if a copy is under way.
  SwappedKv& idle(SwapId id);
  // Takes it out; its memory is for the caller to free, and the references to its places.
  std::shared_ptr<HostMemory> remove(SwapId id);

  std::size_t bytes() const { return bytes_; }

 private:
  std::unordered_map<SwapId, SwappedKv> swapped_;
  SwapId next_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace tandem
