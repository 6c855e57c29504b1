#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "grammar/byte-groups.h"

namespace tandem {

// The bytes that each token stands for in the middle of a text, one token after another.
struct TokenBytes {
  std::vector<std::uint8_t> bytes;
  std::vector<std::int32_t> begins;     // [tokens + 1]
  std::vector<std::int32_t> special;    // tokens that steer the model and are no text
  std::vector<std::int32_t> endTokens;  // those that end an answer
};

// A model's tokens as a trie over their bytes, so that all that begin alike are looked at once. Special
// tokens are not in it.
class Vocabulary {
 public:
  // `size`: of a row of logits, which may be more than the tokens there are. Throws Error if the tokens do
  // not fit.
  Vocabulary(int size, TokenBytes tokens);

  // In preorder: a node's descendants are the nodes behind it, before `end`.
  struct Node {
    std::int32_t end;
    std::int32_t tokens;  // of those that lie before the node
    std::uint16_t depth;
    std::uint16_t height;  // of what is below
    std::uint8_t byte;
    ByteGroups below;  // of the bytes of its descendants
  };

  std::span<const Node> nodes() const { return std::span(nodes_).first(nodes_.size() - 1); }
  std::span<const std::int32_t> tokensAt(std::int32_t node) const { return tokensOf(node, node + 1); }
  std::span<const std::int32_t> tokensBelow(std::int32_t node) const {
    return tokensOf(node + 1, nodes_[node].end);
  }

  std::span<const std::uint8_t> bytesOf(std::int32_t token) const;
  std::span<const std::int32_t> endTokens() const { return tokens_.endTokens; }
  bool isEnd(std::int32_t token) const;
  // Whether some token is this byte alone, so that whatever needs the byte can be written.
  bool hasByte(std::uint8_t byte) const { return hasByte_[byte]; }

  int size() const { return size_; }
  std::size_t words() const { return (static_cast<std::size_t>(size_) + 31) / 32; }

 private:
  // Those that end at the nodes [begin, end).
  std::span<const std::int32_t> tokensOf(std::int32_t begin, std::int32_t end) const {
    return std::span(order_).subspan(nodes_[begin].tokens, nodes_[end].tokens - nodes_[begin].tokens);
  }

  int size_;
  TokenBytes tokens_;
  std::vector<Node> nodes_;          // and one behind them
  std::vector<std::int32_t> order_;  // tokens as the nodes at which they end
  std::vector<bool> hasByte_;
};

}  // namespace tandem
