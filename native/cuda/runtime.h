#pragma once

// Memory, copies, events and waiting. `runtime.cc` does it by CUDA's runtime; in tests without a GPU
// test/native/cuda-emulated-runtime.cc does the same in host memory. What fails throws Error, and DeviceLost
// where the device can do nothing more for this process.

#include <cstddef>
#include <memory>

#include "cuda/stream.h"

struct CUevent_st;
struct CUgraphExec_st;

namespace tandem::cuda {

// Memory with one owner. A kind says how it is taken, for a purpose, and given back.
template <class Kind>
class OwnedMemory {
 public:
  OwnedMemory() = default;
  OwnedMemory(std::size_t bytes, const char* purpose)
      : data_(bytes == 0 ? nullptr : Kind::allocate(bytes, purpose)), bytes_(bytes) {}

  std::byte* data() const { return data_.get(); }
  std::size_t bytes() const { return bytes_; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data());
  }

 private:
  struct Free {
    void operator()(std::byte* data) const noexcept { Kind::free(data); }
  };
  std::unique_ptr<std::byte, Free> data_;
  std::size_t bytes_ = 0;
};

struct OnDevice {
  // `purpose` ends the sentence "the device has no N bytes left for ...".
  static std::byte* allocate(std::size_t bytes, const char* purpose);
  static void free(std::byte* data) noexcept;
};

struct PinnedOnHost {
  static std::byte* allocate(std::size_t bytes, const char* purpose);
  static void free(std::byte* data) noexcept;
};

// Memory of the device, uninitialised, aligned to 256 bytes. It is made and freed when lanes open and close,
// never in a step: both may wait for the whole device.
using DeviceMemory = OwnedMemory<OnDevice>;

// Host memory that the device copies from and to at full speed, and while the host does something else.
using PinnedMemory = OwnedMemory<PinnedOnHost>;

// These enqueue. Host memory that is not pinned is read before they return, and written slower.
void copyToDevice(void* to, const void* from, std::size_t bytes, Stream stream);
void copyToHost(void* to, const void* from, std::size_t bytes, Stream stream);
void copyOnDevice(void* to, const void* from, std::size_t bytes, Stream stream);
void setBytes(void* to, int value, std::size_t bytes, Stream stream);

// Waits for all that is on the stream, and throws what went wrong in it.
void synchronize(Stream stream);

// A point in a stream.
class Event {
 public:
  // `timed`: `secondsSince` may be asked; costs the device a little more.
  explicit Event(bool timed = false);

  void record(Stream stream);
  // What is enqueued on `later` from now on waits for the point; does not block.
  void holdBack(Stream later) const;
  // Blocks until the point is reached, and throws what went wrong before it.
  void wait() const;
  // Both timed and reached.
  double secondsSince(const Event& earlier) const;

 private:
  struct Destroy {
    void operator()(CUevent_st* event) const noexcept;
  };
  std::unique_ptr<CUevent_st, Destroy> event_;
};

// A stream on all SMs, behind nothing else; for loading and for copies beside the lanes.
class OwnStream {
 public:
  OwnStream();
  operator Stream() const { return stream_.get(); }

 private:
  struct Destroy {
    void operator()(CUstream_st* stream) const noexcept;
  };
  std::unique_ptr<CUstream_st, Destroy> stream_;
};

// Kernels that were recorded instead of run, to be run again and again with the same arguments, by one call.
class Graph {
 public:
  Graph() = default;
  explicit Graph(CUgraphExec_st* graph) : graph_(graph) {}

  explicit operator bool() const { return graph_ != nullptr; }
  void launch(Stream stream) const;

 private:
  struct Destroy {
    void operator()(CUgraphExec_st* graph) const noexcept;
  };
  std::unique_ptr<CUgraphExec_st, Destroy> graph_;
};

// From now on kernels that the calling thread launches on the stream are recorded and do not run. They run on
// this stream's SMs later on, whatever stream the graph is launched on.
void beginRecording(Stream stream);
Graph endRecording(Stream stream);
void abandonRecording(Stream stream) noexcept;

// The calling thread works with this device from now on. Every thread says so once.
void useDevice(int device);

struct MemoryInfo {
  std::size_t free = 0, total = 0;  // bytes
};
MemoryInfo deviceMemory();

}  // namespace tandem::cuda
