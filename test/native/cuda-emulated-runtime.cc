// native/cuda/runtime.h and driver.h without a device: its memory is the host's. Work runs when it is
// enqueued, or later where the device is busy; what is copied to the host arrives there only when the stream,
// or an event behind the copy, is waited for; so a result that is read too early is seen here too, and where
// the device is busy, host memory that is written too early. Fresh memory is full of NaN.

#include "cuda-emulated-runtime.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "core/error.h"
#include "cuda-emulated-work.h"
#include "cuda-emulation.h"
#include "cuda/driver.h"
#include "cuda/fake-driver.h"
#include "cuda/runtime.h"

struct CUevent_st {
  // What is written when the event is reached, which may be after its end.
  struct Reached {
    std::chrono::steady_clock::time_point at;
    std::atomic<std::uint64_t> order{0};  // among events and copies to the host
  };
  std::shared_ptr<Reached> reached = std::make_shared<Reached>();
  tandem::cuda::Stream stream = nullptr;
  bool isTimed = false;
  std::uint64_t work = 0;  // that was enqueued before it, itself included
};
struct CUgraphExec_st {
  std::vector<std::function<void()>> launches;
};

namespace tandem::cuda {
namespace {

constexpr std::size_t kDeviceBytes = std::size_t{4} << 30;
constexpr SmLimits kSms{16, 2, 2};
constexpr std::align_val_t kAlignment{256};

void checkDevice() {
  if (emulation::isLost())
    throw DeviceLost("the CUDA device is lost: an illegal memory access was encountered");
}

std::mutex mutex;
std::size_t held = 0;  // bytes of the device

struct Arrival {
  void* to;
  std::vector<std::byte> bytes;
  std::uint64_t order;
};
std::atomic<std::uint64_t> lastOrder = 0;
std::map<Stream, std::vector<Arrival>> underWay;

std::map<Stream, std::vector<std::function<void()>>> recordings;
std::atomic<int> recordingCount = 0;

void checkNotRecording(Stream stream) {
  check(!emulation::isRecording(stream), "only kernels can be recorded");
}

// Blocks until so much of what was enqueued is done.
void await(std::uint64_t work) {
  emulation::awaitWork(work);
  checkDevice();
}

// What the stream has copied to the host, up to a place in the order.
void arrive(Stream stream, std::uint64_t order) {
  const std::lock_guard lock(mutex);
  std::vector<Arrival>& all = underWay[stream];
  const auto end = std::ranges::find_if(all, [&](const Arrival& arrival) { return arrival.order > order; });
  for (auto arrival = all.begin(); arrival != end; ++arrival) {
    std::memcpy(arrival->to, arrival->bytes.data(), arrival->bytes.size());
  }
  all.erase(all.begin(), end);
}

std::byte* freshMemory(std::size_t bytes) {
  auto* data = static_cast<std::byte*>(::operator new(bytes, kAlignment));
  std::memset(data, 0xff, bytes);
  return data;
}

// Pinned memory, by address.
std::map<const std::byte*, std::size_t, std::less<>> pinned;

bool isPinned(const void* address) {
  const std::lock_guard lock(mutex);
  const auto* at = static_cast<const std::byte*>(address);
  const auto behind = pinned.upper_bound(at);
  return behind != pinned.begin() && at < std::prev(behind)->first + std::prev(behind)->second;
}

}  // namespace

// Memory of both kinds is freed behind all that was enqueued, as CUDA does.
void OnDevice::free(std::byte* data) noexcept {
  emulation::awaitWork(emulation::enqueuedWork());
  const std::lock_guard lock(mutex);
  std::size_t bytes;
  std::memcpy(&bytes, data - 256, sizeof bytes);
  held -= bytes;
  ::operator delete(data - 256, kAlignment);
}

std::byte* OnDevice::allocate(std::size_t bytes, const char* purpose) {
  checkDevice();
  const std::lock_guard lock(mutex);
  if (bytes > kDeviceBytes - held) {
    throw Error("the device has no " + std::to_string(bytes) + " bytes left for " + purpose + "; " +
                std::to_string(kDeviceBytes - held) + " bytes are free");
  }
  held += bytes;
  std::byte* block = freshMemory(bytes + 256);
  std::memcpy(block, &bytes, sizeof bytes);
  return block + 256;
}

void PinnedOnHost::free(std::byte* data) noexcept {
  emulation::awaitWork(emulation::enqueuedWork());
  const std::lock_guard lock(mutex);
  // What nobody has waited for does not arrive in what is there later.
  const std::byte* end = data + pinned.at(data);
  for (auto& [stream, all] : underWay) {
    std::erase_if(all, [&](const Arrival& arrival) { return arrival.to >= data && arrival.to < end; });
  }
  pinned.erase(data);
  ::operator delete(data, kAlignment);
}

std::byte* PinnedOnHost::allocate(std::size_t bytes, const char*) {
  std::byte* data = freshMemory(bytes);
  const std::lock_guard lock(mutex);
  pinned.emplace(data, bytes);
  return data;
}

void copyToDevice(void* to, const void* from, std::size_t bytes, Stream stream) {
  checkDevice();
  checkNotRecording(stream);
  if (bytes == 0) return;
  if (isPinned(from)) {
    emulation::enqueueWork([=] { std::memcpy(to, from, bytes); });
  } else {
    const auto* begin = static_cast<const std::byte*>(from);
    emulation::enqueueWork(
        [to, read = std::vector(begin, begin + bytes)] { std::memcpy(to, read.data(), read.size()); });
  }
}

void copyToHost(void* to, const void* from, std::size_t bytes, Stream stream) {
  checkDevice();
  checkNotRecording(stream);
  const auto* begin = static_cast<const std::byte*>(from);
  emulation::enqueueWork([=] {
    const std::lock_guard lock(mutex);
    underWay[stream].push_back({to, {begin, begin + bytes}, ++lastOrder});
  });
}

void copyOnDevice(void* to, const void* from, std::size_t bytes, Stream stream) {
  checkDevice();
  checkNotRecording(stream);
  if (bytes > 0) emulation::enqueueWork([=] { std::memcpy(to, from, bytes); });
}

void setBytes(void* to, int value, std::size_t bytes, Stream) {
  emulation::enqueueWork([=] { std::memset(to, value, bytes); });
}

void synchronize(Stream stream) {
  checkDevice();
  checkNotRecording(stream);
  await(emulation::enqueuedWork());
  arrive(stream, lastOrder);
}

void Event::Destroy::operator()(CUevent_st* event) const noexcept { delete event; }
Event::Event(bool timed) : event_(new CUevent_st) { event_->isTimed = timed; }
void Event::record(Stream stream) {
  checkDevice();
  checkNotRecording(stream);
  event_->stream = stream;
  event_->work = emulation::enqueueWork(
      [reached = event_->reached] {
        reached->at = std::chrono::steady_clock::now();
        reached->order = ++lastOrder;
      },
      !event_->isTimed);
}
void Event::holdBack(Stream) const {}
void Event::wait() const {
  checkDevice();
  await(event_->work);
  arrive(event_->stream, event_->reached->order);
}
double Event::secondsSince(const Event& earlier) const {
  return std::chrono::duration<double>(event_->reached->at - earlier.event_->reached->at).count();
}

void OwnStream::Destroy::operator()(CUstream_st* stream) const noexcept {
  const std::lock_guard lock(mutex);
  underWay.erase(stream);
}
OwnStream::OwnStream() : stream_(test::FakeDriver::freshStream()) {}

void Graph::Destroy::operator()(CUgraphExec_st* graph) const noexcept { delete graph; }

void Graph::launch(Stream stream) const {
  checkDevice();
  checkNotRecording(stream);
  // The graph may end before it has run.
  emulation::enqueueWork([launches = graph_->launches] {
    for (const auto& launch : launches) launch();
  });
}

void beginRecording(Stream stream) {
  checkDevice();
  const std::lock_guard lock(mutex);
  check(recordings.try_emplace(stream).second, "the stream is recorded already");
  ++recordingCount;
}

Graph endRecording(Stream stream) {
  checkDevice();
  const std::lock_guard lock(mutex);
  const auto recorded = recordings.extract(stream);
  check(!recorded.empty(), "the stream is not recorded");
  --recordingCount;
  return Graph(new CUgraphExec_st{std::move(recorded.mapped())});
}

void abandonRecording(Stream stream) noexcept {
  const std::lock_guard lock(mutex);
  if (recordings.erase(stream) > 0) --recordingCount;
}

CudaFacts findCuda() {
  CudaFacts facts;
  DeviceFacts& device = facts.devices.emplace_back();
  device.name = "an emulated device";
  device.major = 9;
  device.memoryBytes = kDeviceBytes;
  device.limits = kSms;
  return facts;
}

std::unique_ptr<SplitDriver> openDriver(int) { return std::make_unique<test::FakeDriver>(kSms); }

void useDevice(int device) { check(device == 0, "there is one emulated device"); }

MemoryInfo deviceMemory() {
  const std::lock_guard lock(mutex);
  return {kDeviceBytes - held, kDeviceBytes};
}

}  // namespace tandem::cuda

namespace tandem::emulation {

bool isRecording(cuda::Stream stream) {
  if (cuda::recordingCount == 0) return false;
  const std::lock_guard lock(cuda::mutex);
  return cuda::recordings.contains(stream);
}

void record(cuda::Stream stream, std::function<void()> launch) {
  const std::lock_guard lock(cuda::mutex);
  cuda::recordings.at(stream).push_back(std::move(launch));
}

LostDevice::LostDevice() { setLost(true); }
LostDevice::~LostDevice() { setLost(false); }

}  // namespace tandem::emulation
