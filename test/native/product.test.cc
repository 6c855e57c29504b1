#include "cpu/product/product.h"

#include <random>
#include <vector>

#include "check.h"
#include "cpu/product/kernels.h"

namespace tandem::cpu {
namespace {

using test::near;

std::vector<double> randomNumbers(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  std::vector<double> numbers(count);
  for (double& number : numbers) number = normal(random);
  return numbers;
}

struct Size {
  std::int64_t rows, cols, depth;
};

// a is read transposed, b as a block of columns of a wider matrix.
void compare(Size size, bool add, int threads, Isa isa) {
  const std::int64_t wide = size.cols + 3, outStride = size.cols + 1;
  const auto a = randomNumbers(static_cast<std::size_t>(size.depth * size.rows), 1);
  const auto b = randomNumbers(static_cast<std::size_t>(size.depth * wide), 2);
  const auto before = randomNumbers(static_cast<std::size_t>(size.rows * outStride), 3);
  auto out = before;
  multiply({{a.data(), 1, size.rows},
            {b.data() + 2, wide, 1},
            out.data(),
            outStride,
            size.rows,
            size.cols,
            size.depth,
            add},
           threads, isa);
  for (std::int64_t row = 0; row < size.rows; ++row) {
    for (std::int64_t col = 0; col < size.cols; ++col) {
      double sum = add ? before[row * outStride + col] : 0;
      for (std::int64_t k = 0; k < size.depth; ++k) sum += a[k * size.rows + row] * b[k * wide + 2 + col];
      near(out[row * outStride + col], sum, 1e-11, "element");
    }
    test::equal(out[row * outStride + size.cols], before[row * outStride + size.cols], "behind the row");
  }
}

TEST("a product of views equals the sums written out") {
  for (const Isa isa : availableIsas()) {
    for (const Size size :
         {Size{1, 1, 1}, Size{5, 3, 7}, Size{13, 17, 300}, Size{200, 40, 33}, Size{25, 600, 9}}) {
      for (const bool add : {false, true}) compare(size, add, 3, isa);
    }
  }
}

TEST("a product has the same bits for any number of threads") {
  const Size size{300, 70, 310};
  const auto a = randomNumbers(static_cast<std::size_t>(size.rows * size.depth), 1);
  const auto b = randomNumbers(static_cast<std::size_t>(size.depth * size.cols), 2);
  const auto run = [&](int threads, Isa isa) {
    std::vector<double> out(static_cast<std::size_t>(size.rows * size.cols));
    multiply({{a.data(), size.depth, 1},
              {b.data(), size.cols, 1},
              out.data(),
              size.cols,
              size.rows,
              size.cols,
              size.depth,
              false},
             threads, isa);
    return out;
  };
  for (const Isa isa : availableIsas()) test::isTrue(run(1, isa) == run(4, isa), "same bits");
}

}  // namespace
}  // namespace tandem::cpu
