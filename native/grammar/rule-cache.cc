#include "grammar/rule-cache.h"

#include <utility>

namespace tandem {
namespace {

// A mask of 128k tokens has 16 KiB, and the rules of JSON have 170 states.
constexpr std::size_t kMostTokenBytes = std::size_t{32} << 20;
constexpr std::size_t kMostKeyBytes = std::size_t{4} << 20;

}  // namespace

RuleTokens::RuleTokens(std::size_t states, std::shared_ptr<TokenRoom> room)
    : states_(states), room_(std::move(room)) {}

RuleTokens::~RuleTokens() {
  for (const auto& tokens : states_) delete tokens.load();
  room_->bytes -= bytes_;
}

const StateTokens* RuleTokens::keep(std::int32_t state, StateTokens& tokens) {
  if (isFull()) return nullptr;
  tokens.ends.shrink_to_fit();
  auto kept = std::make_unique<const StateTokens>(std::move(tokens));
  const StateTokens* others = nullptr;
  if (!states_[state].compare_exchange_strong(others, kept.get(), std::memory_order_acq_rel)) return others;
  ++known_;
  bytes_ += kept->bytes();
  room_->bytes += kept->bytes();
  return kept.release();
}

RuleCache::RuleCache(std::shared_ptr<const Vocabulary> vocabulary)
    : vocabulary_(std::move(vocabulary)), room_(std::make_shared<TokenRoom>(kMostTokenBytes)) {}

std::shared_ptr<RuleTokens> RuleCache::find(std::string key, std::size_t states) {
  if (const auto found = rules_.find(key); found != rules_.end()) return found->second;
  if (room_->bytes > kMostTokenBytes / 2 || keyBytes_ > kMostKeyBytes) dropUnused();
  auto tokens = std::make_shared<RuleTokens>(states, room_);
  keyBytes_ += key.size();
  rules_.emplace(std::move(key), tokens);
  return tokens;
}

void RuleCache::dropUnused() {
  std::erase_if(rules_, [&](const auto& rule) {
    if (rule.second.use_count() > 1) return false;
    keyBytes_ -= rule.first.size();
    return true;
  });
}

}  // namespace tandem
