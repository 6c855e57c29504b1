#include <immintrin.h>

namespace tandem::cpu {
namespace {

struct Vector {
  using Type = __m256d;
  static constexpr int lanes = 4;
  static Type load(const double* from) { return _mm256_loadu_pd(from); }
  static Type all(double value) { return _mm256_set1_pd(value); }
  static Type multiplyAdd(Type a, Type b, Type sum) { return _mm256_fmadd_pd(a, b, sum); }
  static void store(double* to, Type value) { _mm256_storeu_pd(to, value); }
};

}  // namespace
}  // namespace tandem::cpu

#include "cpu/product/kernels.inl"

namespace tandem::cpu {

// 12 of 16 registers hold sums.
const ProductKernel kAvx2Product = kKernel<6>;

}  // namespace tandem::cpu
