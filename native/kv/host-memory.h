#pragma once

#include <cstddef>
#include <memory>

namespace tandem {

// Memory straight from the system: it costs nothing until it is touched, comes in large pages where the
// system has them, and goes back when its owner ends.
class HostMemory {
 public:
  // `purpose` ends the sentence "the system refused N bytes for ...".
  HostMemory(std::size_t bytes, const char* purpose);

  std::byte* data() const { return data_.get(); }
  std::size_t bytes() const { return data_.get_deleter().bytes; }

 private:
  struct Unmap {
    std::size_t bytes;
    void operator()(std::byte* data) const;
  };

  std::unique_ptr<std::byte[], Unmap> data_;
};

}  // namespace tandem
