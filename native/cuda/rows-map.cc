#include "cuda/rows-map.h"

#include <cuda_runtime.h>

#include "core/error.h"
#include "cuda/check.h"

namespace tandem::cuda {
namespace {

using Encode = decltype(cuTensorMapEncodeTiled);

Encode* findEncode() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  checkCuda(
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found),
      "cuTensorMapEncodeTiled");
  check(found == cudaDriverEntryPointSuccess,
        "the CUDA driver has no cuTensorMapEncodeTiled: it is older than 12.0");
  return reinterpret_cast<Encode*>(function);
}

}  // namespace

bool hasWgmma() {
  int device = 0, major = 0, minor = 0;
  checkCuda(cudaGetDevice(&device), "cudaGetDevice");
  checkCuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "compute capability");
  checkCuda(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "compute capability");
  return major == 9 && minor == 0;
}

RowsMap makeRowsMap(const void* rows, std::int64_t count, std::int64_t cols, int boxRows) {
  static Encode* const encode = findEncode();
  constexpr cuuint32_t kBoxCols = 64;
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(cols), static_cast<cuuint64_t>(count)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(cols) * 2};
  const cuuint32_t box[] = {kBoxCols, static_cast<cuuint32_t>(boxRows)}, elementStrides[] = {1, 1};
  RowsMap map;
  const CUresult result =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<void*>(rows), sizes, strides, box,
             elementStrides, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  check(result == CUDA_SUCCESS,
        "cuTensorMapEncodeTiled refused a matmul's x: it must be aligned to 16 bytes");
  return map;
}

}  // namespace tandem::cuda
