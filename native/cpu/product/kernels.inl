// A tile of sums that stays in registers: `Vector` of the including file says what a register is. Everything
// is in an unnamed namespace and nothing inline from elsewhere is called, so that no code for one processor
// is linked into another's.

#include "cpu/product/kernels.h"

namespace tandem::cpu {
namespace {

template <int Rows>
void tile(std::int64_t depth, const double* a, const double* b, double* out) {
  constexpr int kLanes = Vector::lanes;
  Vector::Type sums[Rows][2] = {};
  for (std::int64_t k = 0; k < depth; ++k, a += Rows, b += 2 * kLanes) {
    const Vector::Type left = Vector::load(b), right = Vector::load(b + kLanes);
    for (int row = 0; row < Rows; ++row) {
      const Vector::Type factor = Vector::all(a[row]);
      sums[row][0] = Vector::multiplyAdd(factor, left, sums[row][0]);
      sums[row][1] = Vector::multiplyAdd(factor, right, sums[row][1]);
    }
  }
  for (int row = 0; row < Rows; ++row) {
    Vector::store(out + row * 2 * kLanes, sums[row][0]);
    Vector::store(out + row * 2 * kLanes + kLanes, sums[row][1]);
  }
}

template <int Rows>
constexpr ProductKernel kKernel{Rows, 2 * Vector::lanes, tile<Rows>};

}  // namespace
}  // namespace tandem::cpu
