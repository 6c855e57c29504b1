#include <immintrin.h>

namespace tandem::cpu {
namespace {

struct Vector {
  using Type = __m512d;
  static constexpr int lanes = 8;
  static Type load(const double* from) { return _mm512_loadu_pd(from); }
  static Type all(double value) { return _mm512_set1_pd(value); }
  static Type multiplyAdd(Type a, Type b, Type sum) { return _mm512_fmadd_pd(a, b, sum); }
  static void store(double* to, Type value) { _mm512_storeu_pd(to, value); }
};

}  // namespace
}  // namespace tandem::cpu

#include "cpu/product/kernels.inl"

namespace tandem::cpu {

// 24 of 32 registers hold sums.
const ProductKernel kAvx512Product = kKernel<12>;

}  // namespace tandem::cpu
