#include "kv/swap-space.h"

#include <string>
#include <utility>

#include "core/error.h"

namespace tandem {

SwapId SwapSpace::add(std::int64_t tokens, std::int64_t dropped, std::vector<PrecisionClass> classes,
                      std::size_t bytes) {
  auto memory = std::make_shared<HostMemory>(bytes, "KV that is swapped out");
  const SwapId id = next_++;
  swapped_.emplace(id, SwappedKv{std::move(memory), tokens, dropped, std::move(classes), {}});
  bytes_ += bytes;
  return id;
}

SwappedKv& SwapSpace::at(SwapId id) {
  const auto found = swapped_.find(id);
  if (found == swapped_.end())
    throw Error("there is no swapped KV " + std::to_string(id) + "; it was released");
  return found->second;
}

SwappedKv& SwapSpace::idle(SwapId id) {
  SwappedKv& swapped = at(id);
  if (swapped.copying) throw Error("the swapped KV " + std::to_string(id) + " is being copied");
  return swapped;
}

std::shared_ptr<HostMemory> SwapSpace::remove(SwapId id) {
  std::shared_ptr<HostMemory> memory = std::move(at(id).memory);
  bytes_ -= memory->bytes();
  swapped_.erase(id);
  return memory;
}

}  // namespace tandem
