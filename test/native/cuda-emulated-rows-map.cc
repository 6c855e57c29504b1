#include "core/error.h"
#include "cuda/rows-map.h"

namespace tandem::cuda {

bool hasWgmma() { return true; }

RowsMap makeRowsMap(const void* rows, std::int64_t count, std::int64_t cols, int boxRows) {
  check(cols % 8 == 0 && boxRows > 0 && boxRows <= 256, "a box has up to 256 rows, of aligned pieces");
  return {static_cast<const bf16*>(rows), count, cols, boxRows};
}

}  // namespace tandem::cuda
