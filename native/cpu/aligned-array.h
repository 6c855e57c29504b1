#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace tandem::cpu {

// Uninitialized memory aligned to a cache line, grown when needed and kept. Growing forgets what was in it.
template <class T>
class AlignedArray {
 public:
  void reserve(std::size_t count) {
    if (count <= capacity_) return;
    memory_.reset();
    capacity_ = 0;
    memory_.reset(static_cast<T*>(::operator new(count * sizeof(T), kAlignment)));
    capacity_ = count;
  }

  T* data() const { return memory_.get(); }
  std::size_t capacity() const { return capacity_; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Free {
    void operator()(T* memory) const { ::operator delete(memory, kAlignment); }
  };

  std::unique_ptr<T, Free> memory_;
  std::size_t capacity_ = 0;
};

}  // namespace tandem::cpu
