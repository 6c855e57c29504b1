#include "core/ops.h"

#include <string>

#include "core/error.h"

namespace tandem {

void Buffer::checkFits(std::int64_t rows, std::int64_t cols, std::int64_t elements) {
  if (rows >= 0 && cols >= 0 && (cols == 0 || rows <= elements / cols)) return;
  throw Error("a tensor of " + std::to_string(rows) + " x " + std::to_string(cols) +
              " does not fit a buffer of " + std::to_string(elements) + " elements");
}

void checkWritten(Tensor x, std::int64_t row, std::span<const float> values) {
  const auto count = static_cast<std::int64_t>(values.size());
  check(row >= 0 && row <= x.rows && x.cols > 0 && count % x.cols == 0 && count / x.cols <= x.rows - row,
        "rows that are written must be some of the tensor's");
}

}  // namespace tandem
