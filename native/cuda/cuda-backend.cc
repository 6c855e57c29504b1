#include "cuda/cuda-backend.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "cuda/cuda-kv-memory.h"
#include "cuda/cuda-ops.h"
#include "cuda/device-copies.h"
#include "cuda/driver.h"
#include "cuda/lanes.h"
#include "cuda/matmul.h"
#include "cuda/page-converter.h"
#include "cuda/runtime.h"
#include "cuda/slot-tables.h"

namespace tandem::cuda {
namespace {

// 512 KB each with a vocabulary of 128k. The head's weights, of which a decode step would read a gigabyte
// again for every further round, cost more than that.
constexpr std::int64_t kLogitRows = 256;

class CudaBuffer final : public Buffer {
 public:
  CudaBuffer(std::int64_t elements, Element element)
      : elements_(elements),
        element_(element),
        memory_(
            static_cast<std::size_t>(elements) * (element == Element::logit ? sizeof(float) : sizeof(bf16)),
            "activations; lower the tokens of a step") {}

  Tensor tensor(std::int64_t rows, std::int64_t cols) const override {
    checkFits(rows, cols, elements_);
    return {memory_.data(), rows, cols, element_};
  }

 private:
  std::int64_t elements_;
  Element element_;
  DeviceMemory memory_;
};

DeviceFacts usableDevice(const CudaOptions& options) {
  CudaFacts facts = findCuda();
  if (!facts.problem.empty()) throw Error("CUDA cannot be used: " + facts.problem);
  const auto devices = static_cast<int>(facts.devices.size());
  if (devices == 0) throw Error("CUDA cannot be used: there is no device");
  if (options.device < 0 || options.device >= devices) {
    throw Error("there is no CUDA device " + std::to_string(options.device) + "; this machine has " +
                std::to_string(devices) + ", counted from 0");
  }
  DeviceFacts device = std::move(facts.devices[static_cast<std::size_t>(options.device)]);
  if (!device.problem.empty()) throw Error(device.name + " cannot be used: " + device.problem);
  return device;
}

std::size_t budgetOf(double fraction) {
  if (!(fraction > 0 && fraction <= 1)) {
    throw Error("a device's memory can be used to a fraction above 0 and up to 1, not " +
                std::to_string(fraction));
  }
  return static_cast<std::size_t>(static_cast<double>(deviceMemory().free) * fraction);
}

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(const CudaOptions& options)
      : facts_(usableDevice(options)),
        isa_("sm_" + std::to_string(facts_.major) + std::to_string(facts_.minor)),
        driver_(openDriver(facts_.index)),
        budget_(budgetOf(options.memoryFraction)),
        freeAtStart_(deviceMemory().free),
        lanes_(*driver_),
        planned_(facts_.index) {}

  const char* kind() const override { return "cuda"; }
  std::string name() const override { return facts_.name; }
  const char* isa() const override { return isa_.c_str(); }
  int units() const override { return lanes_.units(); }

  std::optional<std::vector<int>> splits() const override {
    // Without green contexts both lanes have all SMs, decode's with priority, however they are split: one
    // split lets them run at once.
    if (!lanes_.whyNoSplit().empty()) return std::vector<int>{lanes_.units() / 2};
    return lanes_.splits();
  }

  std::unique_ptr<Weight> packWeight(std::span<const CheckpointMatrix> parts, WeightLayout layout,
                                     WeightClass weightClass) override {
    const std::lock_guard lock(loading_);
    useDevice(facts_.index);
    return cuda::packWeight(parts, layout, weightClass, loadStream_);
  }

  void keep(std::span<const float> values) override {
    const std::lock_guard lock(loading_);
    useDevice(facts_.index);
    copies_.add(values, loadStream_);
  }

  void keep(const CheckpointMatrix& table) override {
    const std::lock_guard lock(loading_);
    useDevice(facts_.index);
    copies_.add(table, loadStream_);
  }

  std::unique_ptr<Buffer> allocate(std::int64_t elements, Element element) override {
    check(elements >= 0, "a buffer cannot have a negative size");
    useDevice(facts_.index);
    return std::make_unique<CudaBuffer>(elements, element);
  }

  std::int64_t logitRows() const override { return kLogitRows; }

  std::unique_ptr<KvMemory> allocateKv(std::size_t bytes) override {
    useDevice(facts_.index);
    if (bytes > freeMemory()) {
      throw Error("the KV cache of " + std::to_string(bytes) + " bytes does not fit: of the " +
                  std::to_string(budget_) + " bytes of " + facts_.name +
                  " that may be used, the model and the lanes leave " + std::to_string(freeMemory()) +
                  "; lower --kv-memory, the tokens of a step or the number of sequences");
    }
    return std::make_unique<CudaKvMemory>(facts_.index, bytes, planned_);
  }

  // What is pinned has one address for host and device.
  std::shared_ptr<std::byte> allocateFar(std::size_t bytes) override {
    useDevice(facts_.index);
    auto memory = std::make_shared<PinnedMemory>(bytes, "far pages; lower --pack-far-memory");
    return {memory, memory->data()};
  }

  std::size_t freeMemory() const override {
    useDevice(facts_.index);
    const std::size_t free = deviceMemory().free;
    const std::size_t used = freeAtStart_ > free ? freeAtStart_ - free : 0;
    return budget_ > used ? budget_ - used : 0;
  }

  void requantize(std::span<const PageConversion> conversions) override {
    const std::lock_guard lock(converting_);
    useDevice(facts_.index);
    planned_.holdBack(convertStream_);
    converter_.convert(conversions, convertStream_);
  }

  std::unique_ptr<Ops> openLane(int lane, const LaneLimits& limits) override {
    check(lane == 0 || lane == 1, "a lane is 0 (prefill) or 1 (decode)");
    check(!ops_[lane], "a lane was opened twice");
    useDevice(facts_.index);
    synchronize(loadStream_);  // what it uploaded is read from other streams from now on
    if (!tables_) tables_ = std::make_unique<SlotTables>(limits.layers, limits.slots, limits.slotPages);
    auto ops = std::make_unique<CudaOps>(facts_.index, limits, *tables_, copies_);
    ops_[lane] = ops.get();
    return ops;
  }

  void claimUnits(int lane, int first, int count) override {
    check((lane == 0 || lane == 1) && ops_[lane], "a lane must be opened before it claims units");
    useDevice(facts_.index);
    const auto [stream, sms] = lanes_.enter(lane, lane == 0 ? count : first);
    // Read before the wait: copies that come in between are waited for twice rather than not at all.
    if (const std::uint64_t copies = planned_.count(); copies != seenCopies_[lane]) {
      planned_.holdBack(stream);
      seenCopies_[lane] = copies;
    }
    ops_[lane]->enter(stream, sms);
  }

  void releaseUnits(int lane) override { ops_[lane]->leave(); }

 private:
  const DeviceFacts facts_;
  const std::string isa_;
  const std::unique_ptr<SplitDriver> driver_;
  const std::size_t budget_, freeAtStart_;
  Lanes lanes_;
  PlannedCopies planned_;
  std::array<std::uint64_t, 2> seenCopies_{};
  std::mutex converting_;
  OwnStream convertStream_;
  PageConverter converter_;
  std::mutex loading_;
  OwnStream loadStream_;
  DeviceCopies copies_;
  std::unique_ptr<SlotTables> tables_;
  std::array<CudaOps*, 2> ops_{};  // owned by who opened them
};

}  // namespace

std::unique_ptr<Backend> makeCudaBackend(const CudaOptions& options) {
  return std::make_unique<CudaBackend>(options);
}

}  // namespace tandem::cuda
