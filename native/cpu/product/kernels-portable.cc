namespace tandem::cpu {
namespace {

struct Vector {
  using Type = double;
  static constexpr int lanes = 1;
  static Type load(const double* from) { return *from; }
  static Type all(double value) { return value; }
  static Type multiplyAdd(Type a, Type b, Type sum) { return a * b + sum; }
  static void store(double* to, Type value) { *to = value; }
};

}  // namespace
}  // namespace tandem::cpu

#include "cpu/product/kernels.inl"

namespace tandem::cpu {

const ProductKernel kPortableProduct = kKernel<4>;

}  // namespace tandem::cpu
