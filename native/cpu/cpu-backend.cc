#include "cpu/cpu-backend.h"

#include <array>
#include <mutex>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/thread-team.h"
#include "cpu/aligned-array.h"
#include "cpu/cores.h"
#include "cpu/cpu-ops.h"
#include "cpu/matmul/matmul.h"
#include "cpu/requantize/requantize.h"
#include "cpu/unit-claims.h"
#include "kv/host-memory.h"

namespace tandem {
namespace {

class CpuBuffer final : public Buffer {
 public:
  CpuBuffer(std::int64_t elements, Element element) : elements_(elements), element_(element) {
    check(elements >= 0, "a buffer cannot have a negative size");
    memory_.reserve(static_cast<std::size_t>(elements));
  }

  Tensor tensor(std::int64_t rows, std::int64_t cols) const override {
    checkFits(rows, cols, elements_);
    return {memory_.data(), rows, cols, element_};
  }

 private:
  std::int64_t elements_;
  Element element_;
  cpu::AlignedArray<float> memory_;
};

std::vector<int> chooseCores(int units) {
  const std::vector<int>& allowed = cpu::allowedCores();
  if (units < 1 || units > static_cast<int>(allowed.size())) {
    throw Error("this process may use 1 to " + std::to_string(allowed.size()) + " cores, not " +
                std::to_string(units));
  }
  return {allowed.begin(), allowed.begin() + units};
}

class CpuBackend final : public Backend {
 public:
  CpuBackend(int units, Isa isa) : isa_(isa), cores_(chooseCores(units)), claims_(units) {}

  const char* kind() const override { return "cpu"; }
  const char* isa() const override { return isaName(isa_); }
  int units() const override { return static_cast<int>(cores_.size()); }

  std::unique_ptr<Weight> packWeight(std::span<const CheckpointMatrix> parts, WeightLayout layout,
                                     WeightClass weightClass) override {
    const std::lock_guard lock(packing_);
    // Packing leads the team on whatever thread loads the model, which must not stay pinned.
    const cpu::AffinityGuard guard;
    if (!packers_) packers_ = std::make_unique<ThreadTeam>(units());
    pin(*packers_, cores_);
    return cpu::packWeight(parts, layout, weightClass, *packers_);
  }

  // Ops read the model's values where they are.
  void keep(std::span<const float>) override {}
  void keep(const CheckpointMatrix&) override {}

  std::unique_ptr<Buffer> allocate(std::int64_t elements, Element element) override {
    return std::make_unique<CpuBuffer>(elements, element);
  }

  // A vocabulary of 128k in float32 is 512 KB a row, and the weights are read from the same memory for each
  // few rows anyway.
  std::int64_t logitRows() const override { return 32; }

  std::unique_ptr<KvMemory> allocateKv(std::size_t bytes) override { return allocateHostKv(bytes); }

  std::shared_ptr<std::byte> allocateFar(std::size_t bytes) override {
    auto memory = std::make_shared<HostMemory>(bytes, "far pages; lower --pack-far-memory");
    return {memory, memory->data()};
  }
  std::size_t freeMemory() const override { return 0; }

  void requantize(std::span<const PageConversion> conversions) override {
    for (const PageConversion& conversion : conversions) cpu::requantizePage(isa_, conversion);
  }

  std::unique_ptr<Ops> openLane(int lane, const LaneLimits&) override {
    check(lane == 0 || lane == 1, "a lane is 0 (prefill) or 1 (decode)");
    check(!teams_[lane], "a lane was opened twice");
    teams_[lane] = std::make_unique<ThreadTeam>(units());
    return std::make_unique<cpu::CpuOps>(isa_, *teams_[lane], units());
  }

  void claimUnits(int lane, int first, int count) override {
    check((lane == 0 || lane == 1) && teams_[lane], "a lane must be opened before it claims units");
    claims_.claim(lane, first, count);
    pin(*teams_[lane], std::span(cores_).subspan(first, count));
  }

  void releaseUnits(int lane) override { claims_.release(lane); }

 private:
  // A thread alone goes where the system finds room: pinned, the engines of several processes with a core
  // each would all share the first.
  void pin(ThreadTeam& team, std::span<const int> cores) const {
    if (units() > 1) team.pin(cores);
  }

  const Isa isa_;
  const std::vector<int> cores_;
  cpu::UnitClaims claims_;
  std::array<std::unique_ptr<ThreadTeam>, 2> teams_;
  std::mutex packing_;
  std::unique_ptr<ThreadTeam> packers_;
};

}  // namespace

std::unique_ptr<Backend> makeCpuBackend(int units, std::optional<Isa> isa) {
  const Isa chosen = isa.value_or(availableIsas().front());
  // An instruction set that this machine lacks is refused by its name.
  return std::make_unique<CpuBackend>(units, parseIsa(isaName(chosen)));
}

}  // namespace tandem
