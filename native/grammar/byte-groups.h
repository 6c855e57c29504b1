#pragma once

#include <cstdint>

namespace tandem {

// Bytes that grammars mostly treat alike, as a bit for each group.
using ByteGroups = std::uint8_t;

constexpr int kByteGroups = 8;

// Of all groups the last is the one of which not all bytes are text by themselves.
constexpr ByteGroups groupOf(std::uint8_t byte) {
  if (byte >= 'a' && byte <= 'z') return 1 << 0;
  if (byte >= 'A' && byte <= 'Z') return 1 << 1;
  if (byte >= '0' && byte <= '9') return 1 << 2;
  if (byte == ' ') return 1 << 3;
  if (byte == '"') return 1 << 4;
  if (byte == '\\') return 1 << 5;
  if (byte > ' ' && byte <= '~') return 1 << 6;
  return 1 << 7;
}

}  // namespace tandem
