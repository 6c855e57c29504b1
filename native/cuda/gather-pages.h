#pragma once

#include <cstdint>

#include "cuda/page-tables.h"
#include "cuda/stream.h"

namespace tandem::cuda {

// Of 32 neighbouring pages those that are seen, and how many are seen before them.
struct SeenWord {
  std::uint32_t bits;
  std::uint32_t before;
};

inline constexpr int kWordPages = 32;

// The pages of a sequence that are seen.
struct SeenRow {
  std::int32_t pages;  // in all
  std::int32_t word;   // where its words begin
};

// Writes for each sequence of a step a row of a table in which attention finds the pages that are seen, one
// after another if they close up, else where they are, with nothing at the others. All on the device but
// `mostPages`.
struct GatherPages {
  PageTables tables;
  const SeenRow* rows = nullptr;  // [sequences]
  const SeenWord* words = nullptr;
  int sequences = 0;
  int mostPages = 0;
  bool closesUp = false;
  std::uint64_t* to = nullptr;  // [sequences, tables.slotStride]
};

void gatherPages(const GatherPages& problem, Stream stream);

}  // namespace tandem::cuda
