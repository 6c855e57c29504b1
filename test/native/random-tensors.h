#pragma once

// Random tensors in a file, as a checkpoint has them, with their values in float64 and the sums that
// references make of them.

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/bf16.h"
#include "model/model-spec.h"

namespace tandem::test {

class RandomTensors {
 public:
  RandomTensors(const RandomTensors&) = delete;
  RandomTensors& operator=(const RandomTensors&) = delete;

  const std::string& path() const { return path_; }
  const std::vector<TensorEntry>& tensors() const { return tensors_; }

 protected:
  using Vector = std::vector<double>;

  explicit RandomTensors(unsigned seed) : random_(seed) {
    char path[] = "/tmp/tandem-test-XXXXXX";
    file_ = fdopen(mkstemp(path), "wb");
    path_ = path;
  }
  ~RandomTensors() { unlink(path_.c_str()); }

  // When all tensors have been added.
  void close() { std::fclose(file_); }

  void add(const std::string& name, std::vector<std::int64_t> shape, double deviation, double mean = 0) {
    std::size_t count = 1;
    for (const std::int64_t size : shape) count *= static_cast<std::size_t>(size);
    std::normal_distribution<double> normal(mean, deviation);
    Vector& values = values_[name];
    const auto begin = static_cast<std::uint64_t>(std::ftell(file_));
    for (std::size_t i = 0; i < count; ++i) {
      // Rounded to bf16, so that bf16 weights are exact on both sides.
      const float value = toFloat(toBf16(static_cast<float>(normal(random_))));
      values.push_back(value);
      std::fwrite(&value, sizeof value, 1, file_);
    }
    tensors_.push_back(
        {name, CheckpointType::f32, std::move(shape), 0, begin, begin + count * sizeof(float), {}});
  }

  static void add(Vector& x, const Vector& y) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
  }

  static Vector multiply(const Vector& matrix, const Vector& x) {
    Vector y(matrix.size() / x.size());
    for (std::size_t row = 0; row < y.size(); ++row) {
      for (std::size_t i = 0; i < x.size(); ++i) y[row] += matrix[row * x.size() + i] * x[i];
    }
    return y;
  }

  std::mt19937 random_;
  std::FILE* file_;
  std::vector<TensorEntry> tensors_;
  std::map<std::string, Vector> values_;

 private:
  std::string path_;
};

}  // namespace tandem::test
