#include "grammar/vocabulary.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "core/error.h"

namespace tandem {

Vocabulary::Vocabulary(int size, TokenBytes tokens)
    : size_(size), tokens_(std::move(tokens)), hasByte_(256, false) {
  const std::vector<std::int32_t>& begins = tokens_.begins;
  check(!begins.empty() && begins.front() == 0 && std::is_sorted(begins.begin(), begins.end()) &&
            static_cast<std::size_t>(begins.back()) == tokens_.bytes.size(),
        "a vocabulary's tokens do not lie one behind another in its bytes");
  const auto count = static_cast<std::int32_t>(begins.size() - 1);
  check(count <= size_, "a vocabulary has more tokens than a row of logits");
  std::vector<bool> isText(count, true);
  for (const auto* list : {&tokens_.special, &tokens_.endTokens}) {
    for (const std::int32_t token : *list) {
      if (token < 0 || token >= size_)
        throw Error("token " + std::to_string(token) + " is not in the vocabulary");
      if (token < count) isText[token] = false;
    }
  }
  for (std::int32_t token = 0; token < count; ++token) {
    const std::size_t length = bytesOf(token).size();
    check(length <= std::numeric_limits<std::uint16_t>::max(), "a token of the vocabulary is too long");
    if (isText[token] && length > 0) order_.push_back(token);
    if (isText[token] && length == 1) hasByte_[bytesOf(token)[0]] = true;
  }
  std::stable_sort(order_.begin(), order_.end(), [&](std::int32_t a, std::int32_t b) {
    return std::ranges::lexicographical_compare(bytesOf(a), bytesOf(b));
  });

  std::vector<std::int32_t> path;  // the nodes of the token before
  std::span<const std::uint8_t> before;
  const auto close = [&](std::size_t depth) {
    for (; path.size() > depth; path.pop_back()) {
      Node& node = nodes_[path.back()];
      node.end = static_cast<std::int32_t>(nodes_.size());
      if (path.size() == 1) continue;
      Node& parent = nodes_[path[path.size() - 2]];
      parent.height = std::max<std::uint16_t>(parent.height, node.height + 1);
      parent.below |= node.below | groupOf(node.byte);
    }
  };
  const auto begin = [&](std::size_t tokens, std::size_t depth, std::uint8_t byte) {
    nodes_.push_back({0, static_cast<std::int32_t>(tokens), static_cast<std::uint16_t>(depth), 0, byte, 0});
  };
  for (std::size_t i = 0; i < order_.size(); ++i) {
    const auto bytes = bytesOf(order_[i]);
    const auto common = static_cast<std::size_t>(std::ranges::mismatch(before, bytes).in2 - bytes.begin());
    close(common);
    for (std::size_t depth = common; depth < bytes.size(); ++depth) {
      path.push_back(static_cast<std::int32_t>(nodes_.size()));
      begin(i, depth + 1, bytes[depth]);
    }
    before = bytes;
  }
  close(0);
  begin(order_.size(), 0, 0);
}

std::span<const std::uint8_t> Vocabulary::bytesOf(std::int32_t token) const {
  if (token < 0 || static_cast<std::size_t>(token) + 1 >= tokens_.begins.size()) return {};
  return std::span(tokens_.bytes)
      .subspan(tokens_.begins[token], tokens_.begins[token + 1] - tokens_.begins[token]);
}

bool Vocabulary::isEnd(std::int32_t token) const {
  return std::ranges::find(tokens_.endTokens, token) != tokens_.endTokens.end();
}

}  // namespace tandem
