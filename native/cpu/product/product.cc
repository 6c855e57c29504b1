#include "cpu/product/product.h"

#include <algorithm>
#include <thread>
#include <vector>

#include "cpu/product/kernels.h"

namespace tandem::cpu {
namespace {

// A block of b [kDepth, kCols] takes 1 MB and stays in the second-level cache, with a block of a beside it.
constexpr std::int64_t kDepth = 256, kRows = 96, kCols = 512;
// Less than this is done sooner than a thread is started.
constexpr double kThreadFlops = 4e6;

std::int64_t roundUp(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Panels of `width` lines beside each other, each [depth, width]; missing lines are zeros.
void pack(const double* data, std::int64_t lineStride, std::int64_t depthStride, std::int64_t lines,
          std::int64_t depth, int width, double* out) {
  for (std::int64_t panel = 0; panel < lines; panel += width) {
    const std::int64_t there = std::min<std::int64_t>(width, lines - panel);
    for (std::int64_t k = 0; k < depth; ++k, out += width) {
      const double* from = data + panel * lineStride + k * depthStride;
      for (std::int64_t line = 0; line < there; ++line) out[line] = from[line * lineStride];
      std::fill(out + there, out + width, 0.0);
    }
  }
}

// The rows [begin, end) of the product.
void multiplyRows(const Product& p, const ProductKernel& kernel, std::int64_t begin, std::int64_t end) {
  const std::int64_t blockCols = roundUp(std::min(kCols, p.cols), kernel.cols);
  const std::int64_t blockDepth = std::min(kDepth, p.depth);
  std::vector<double> packedB(static_cast<std::size_t>(blockCols * blockDepth));
  std::vector<double> packedA(static_cast<std::size_t>(roundUp(kRows, kernel.rows) * blockDepth));
  std::vector<double> tile(static_cast<std::size_t>(kernel.rows) * kernel.cols);
  for (std::int64_t col = 0; col < p.cols; col += kCols) {
    const std::int64_t cols = std::min(kCols, p.cols - col);
    for (std::int64_t k = 0; k < p.depth; k += kDepth) {
      const std::int64_t depth = std::min(kDepth, p.depth - k);
      pack(p.b.data + k * p.b.rowStride + col * p.b.colStride, p.b.colStride, p.b.rowStride, cols, depth,
           kernel.cols, packedB.data());
      const bool add = p.add || k > 0;
      for (std::int64_t row = begin; row < end; row += kRows) {
        const std::int64_t rows = std::min(kRows, end - row);
        pack(p.a.data + row * p.a.rowStride + k * p.a.colStride, p.a.rowStride, p.a.colStride, rows, depth,
             kernel.rows, packedA.data());
        for (std::int64_t j = 0; j < cols; j += kernel.cols) {
          for (std::int64_t i = 0; i < rows; i += kernel.rows) {
            kernel.tile(depth, packedA.data() + i * depth, packedB.data() + j * depth, tile.data());
            const std::int64_t tileRows = std::min<std::int64_t>(kernel.rows, rows - i);
            const std::int64_t tileCols = std::min<std::int64_t>(kernel.cols, cols - j);
            for (std::int64_t r = 0; r < tileRows; ++r) {
              double* out = p.out + (row + i + r) * p.outStride + col + j;
              const double* from = tile.data() + r * kernel.cols;
              for (std::int64_t c = 0; c < tileCols; ++c) out[c] = add ? out[c] + from[c] : from[c];
            }
          }
        }
      }
    }
  }
}

}  // namespace

void multiply(const Product& product, int threads, Isa isa) {
  const ProductKernel kernel = productKernel(isa);
  const double flops = 2.0 * static_cast<double>(product.rows) * static_cast<double>(product.cols) *
                       static_cast<double>(product.depth);
  const std::int64_t tiles = (product.rows + kernel.rows - 1) / kernel.rows;
  const auto useful = static_cast<std::int64_t>(flops / kThreadFlops) + 1;
  const std::int64_t parts = std::max<std::int64_t>(1, std::min<std::int64_t>({threads, tiles, useful}));
  const auto border = [&](std::int64_t part) {
    return std::min(product.rows, tiles * part / parts * kernel.rows);
  };
  std::vector<std::jthread> others;
  for (std::int64_t part = 1; part < parts; ++part) {
    others.emplace_back([&, part] { multiplyRows(product, kernel, border(part), border(part + 1)); });
  }
  multiplyRows(product, kernel, 0, border(1));
}

}  // namespace tandem::cpu
