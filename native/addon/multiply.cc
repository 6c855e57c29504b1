#include "multiply.h"

#include <cmath>
#include <cstdint>

#include "core/error.h"
#include "cpu/cores.h"
#include "cpu/product/product.h"

namespace tandem::addon {
namespace {

std::int64_t readSize(Napi::Object object, const char* name) {
  const double value = object.Get(name).ToNumber().DoubleValue();
  // Products of two sizes stay exact.
  if (!(value >= 0 && value < 67108864 && value == std::floor(value))) {
    throw Error(std::string("multiply: ") + name + " must be a whole number below 2^26");
  }
  return static_cast<std::int64_t>(value);
}

// Refuses a matrix that reaches beyond its array.
const double* checked(const Napi::Value& value, std::int64_t rows, std::int64_t cols, std::int64_t rowStride,
                      std::int64_t colStride, const char* name) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_float64_array) {
    throw Error(std::string("multiply: ") + name + " must be a Float64Array");
  }
  const auto array = value.As<Napi::Float64Array>();
  const std::int64_t last = rows == 0 || cols == 0 ? -1 : (rows - 1) * rowStride + (cols - 1) * colStride;
  if (last >= static_cast<std::int64_t>(array.ElementLength())) {
    throw Error(std::string("multiply: ") + name + " is shorter than its shape says");
  }
  return array.Data();
}

}  // namespace

Napi::Value multiply(const Napi::CallbackInfo& info) {
  try {
    const auto shape = info[0].As<Napi::Object>();
    const auto size = [&](const char* name) { return readSize(shape, name); };
    cpu::Product product{};
    product.rows = size("rows");
    product.cols = size("cols");
    product.depth = size("depth");
    product.a.rowStride = size("aRowStride");
    product.a.colStride = size("aColStride");
    product.b.rowStride = size("bRowStride");
    product.b.colStride = size("bColStride");
    product.outStride = size("outStride");
    product.add = shape.Get("add").ToBoolean();
    product.a.data =
        checked(info[1], product.rows, product.depth, product.a.rowStride, product.a.colStride, "a");
    product.b.data =
        checked(info[2], product.depth, product.cols, product.b.rowStride, product.b.colStride, "b");
    checked(info[3], product.rows, product.cols, product.outStride, 1, "out");
    if (product.rows > 1 && product.outStride < product.cols) {
      throw Error("multiply: the rows of out overlap");
    }
    product.out = info[3].As<Napi::Float64Array>().Data();
    cpu::multiply(product, static_cast<int>(cpu::allowedCores().size()), availableIsas().front());
    return info.Env().Undefined();
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::exception& error) {
    throw Napi::Error::New(info.Env(), error.what());
  }
}

}  // namespace tandem::addon
