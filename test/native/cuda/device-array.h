#pragma once

// Memory that kernels see: the device's, or the host's where kernels are emulated. The tests of kernels are
// the same for both.

#include <algorithm>
#include <cstring>
#include <string>
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

inline void synchronize(cuda::Stream) {}

inline void copyOnDevice(void* to, const void* from, std::size_t bytes, cuda::Stream) {
  std::memcpy(to, from, bytes);
}

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

// Waits for what is on the stream, and throws what went wrong in it.
inline void synchronize(cuda::Stream stream) { checkCuda(cudaStreamSynchronize(stream)); }

inline void copyOnDevice(void* to, const void* from, std::size_t bytes, cuda::Stream stream) {
  checkCuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream));
}

#endif

// `count` values that begin with `pattern` and repeat it: drawing all of a large matrix would take longer
// than what it is for.
template <class T>
DeviceArray<T> repeated(const std::vector<T>& pattern, std::size_t count) {
  DeviceArray<T> array(count);
  const std::vector<T> begin(pattern.begin(), pattern.begin() + std::min(count, pattern.size()));
  DeviceArray<T> source(begin);
  copyOnDevice(array.data(), source.data(), begin.size() * sizeof(T), kStream);
  for (std::size_t done = begin.size(); done < count;) {
    const std::size_t more = std::min(done, count - done);
    copyOnDevice(array.data() + done, array.data(), more * sizeof(T), kStream);
    done += more;
  }
  synchronize(kStream);
  return array;
}

}  // namespace tandem::test
