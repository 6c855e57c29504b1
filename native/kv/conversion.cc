#include <algorithm>
#include <string>
#include <utility>

#include "core/error.h"
#include "kv/kv-cache.h"

namespace tandem {
namespace {

// Whether a page is written again, of which another class is asked for.
bool isConverted(PrecisionClass held, PrecisionClass to) {
  return to == PrecisionClass::none ? !isPacked(held) : canBecome(held, to);
}

}  // namespace

std::optional<std::vector<PageConversion>> KvCache::startConversion(int slot, std::int64_t begin,
                                                                    std::int64_t end,
                                                                    std::span<const PrecisionClass> classes) {
  Sequence& sequence = idle(slot);
  const bool takesTail = classes.size() >= layers_ && std::ranges::none_of(classes.last(layers_), isPacked);
  const std::int64_t full = sequence.length / kPageTokens;
  if (begin < 0 || begin > end || end > (takesTail ? blocksFor(sequence.length) : full)) {
    throw Error("blocks " + std::to_string(begin) + " to " + std::to_string(end) + " of slot " +
                std::to_string(slot) + " are not all full and cannot be converted");
  }
  check(classes.size() == static_cast<std::size_t>(end - begin) * layers_,
        "a conversion needs a class for each page of its blocks");
  std::vector<Replacement> replacements;
  std::vector<PrecisionClass> wanted;
  for (std::size_t layer = 0; layer < layers_; ++layer) {
    for (std::int64_t block = begin; block < end; ++block) {
      const PrecisionClass held = sequence.classes[layer][block];
      const PrecisionClass to = classes[static_cast<std::size_t>(block - begin) * layers_ + layer];
      if (to == PrecisionClass::far && !isPacked(held)) {
        throw Error("page " + std::to_string(block) + " of slot " + std::to_string(slot) + " is in " +
                    nameOf(held) + "; only one in int4 becomes far");
      }
      if (!isConverted(held, to)) continue;
      replacements.push_back({layer, block, kGivenUp});
      wanted.push_back(to);
    }
  }
  const auto isFar = [](PrecisionClass precision) { return precision == PrecisionClass::far; };
  if (static_cast<std::size_t>(std::ranges::count_if(wanted, isFar)) > far_.freePlaces()) return std::nullopt;
  const std::optional<std::vector<PageId>> pages = take(wanted);
  if (!pages) return std::nullopt;
  std::vector<PageConversion> conversions;
  for (std::size_t i = 0; i < replacements.size(); ++i) {
    auto& [layer, block, page] = replacements[i];
    page = (*pages)[i];
    if (page == kGivenUp) continue;
    conversions.push_back({sequence.addresses[layer][block], pool_.data(page),
                           format().in(sequence.classes[layer][block]), format().in(wanted[i]),
                           isFar(wanted[i]) ? far_.take(page) : nullptr});
  }
  sequence.converting = std::move(replacements);
  sequence.convertsTail = end > full;
  sequence.written.store(false, std::memory_order_relaxed);
  return conversions;
}

std::vector<KvCache::Replacement> KvCache::endConversion(int slot) {
  Sequence& sequence = mayRun(slot);
  if (!sequence.converting) throw Error("slot " + std::to_string(slot) + " is not being converted");
  if (!sequence.written.load(std::memory_order_acquire)) {
    throw Error("the pages that slot " + std::to_string(slot) + " is being converted to are still written");
  }
  std::vector<Replacement> replacements = std::move(*sequence.converting);
  sequence.converting.reset();
  return replacements;
}

void KvCache::finishConversion(int slot) {
  for (const Replacement& replacement : endConversion(slot)) put(sequences_[slot], replacement);
}

void KvCache::dropConversion(int slot) {
  for (const Replacement& replacement : endConversion(slot)) releasePage(replacement.page);
}

}  // namespace tandem
