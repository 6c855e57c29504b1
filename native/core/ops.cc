#include "core/ops.h"

#include <string>

#include "core/error.h"

namespace tandem {

void Buffer::checkFits(std::int64_t rows, std::int64_t cols, std::int64_t elements) {
  if (rows >= 0 && cols >= 0 && (cols == 0 || rows <= elements / cols)) return;
  throw Error("a tensor of " + std::to_string(rows) + " x " + std::to_string(cols) +
              " does not fit a buffer of " + std::to_string(elements) + " elements");
}

}  // namespace tandem
