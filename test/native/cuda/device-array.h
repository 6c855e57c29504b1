#pragma once

// Memory that kernels see: the device's, or the host's where kernels are emulated. The tests of kernels are
// the same for both.

#include <span>
#include <utility>
#include <vector>

#include "core/error.h"
#include "cuda/stream.h"

#ifndef TANDEM_CUDA_EMULATION
#include <cuda_runtime.h>
#endif

namespace tandem::test {

// The stream that kernels of tests run on.
inline constexpr cuda::Stream kStream = nullptr;

#ifdef TANDEM_CUDA_EMULATION

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t count) : memory_(count) {}
  explicit DeviceArray(std::vector<T> values) : memory_(std::move(values)) {}

  T* data() { return memory_.data(); }
  std::size_t size() const { return memory_.size(); }
  std::vector<T> read() const { return memory_; }

 private:
  std::vector<T> memory_;
};

inline bool isEmulated() { return true; }

#else

inline void checkCuda(cudaError_t error) {
  if (error != cudaSuccess) throw Error(std::string("CUDA: ") + cudaGetErrorString(error));
}

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t count) : count_(count) {
    checkCuda(cudaMalloc(reinterpret_cast<void**>(&data_), count * sizeof(T)));
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    checkCuda(cudaMemcpy(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(DeviceArray&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), count_(std::exchange(other.count_, 0)) {}
  DeviceArray& operator=(DeviceArray&&) = delete;

  T* data() { return data_; }
  std::size_t size() const { return count_; }
  // Waits for the kernels before.
  std::vector<T> read() const {
    std::vector<T> values(count_);
    checkCuda(cudaMemcpy(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  T* data_ = nullptr;
  std::size_t count_ = 0;
};

inline bool isEmulated() { return false; }

#endif

}  // namespace tandem::test
