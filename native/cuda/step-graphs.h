#pragma once

#include <cstdint>
#include <map>
#include <tuple>

#include "cuda/partition-attention.h"
#include "cuda/runtime.h"

namespace tandem::cuda {

// The layers of a lane's decode steps as graphs: one call instead of some ten launches a layer, and less time
// between two kernels. Steps of the same kind launch the same kernels with the same arguments; what differs
// they read from memory. A kind is recorded when it comes for the second time, so that a batch that changes
// with every step records nothing.
class StepGraphs {
 public:
  struct Kind {
    Stream stream = nullptr;
    int sequences = 0;  // that are seen whole
    int mostTokens = 0;
    PartitionSizes partitions = {};

    auto operator<=>(const Kind&) const = default;
  };

  enum class Turn : std::uint8_t {
    run,     // launch the layers' kernels
    record,  // launch them behind `begin`, which runs none of them, then `end`
    replay   // launch none of them, then `end`
  };

  // What the next step does if it is of this kind.
  Turn next(const Kind& kind);

  void begin();
  // Runs the layers.
  void end();
  // A step fails while it is recorded.
  void abandon() noexcept;

 private:
  struct Entry {
    Graph graph;
    std::uint64_t lastUse = 0;
  };

  bool canRecord(Stream stream);
  void forgetOldest();

  std::map<Kind, Entry> entries_;
  std::map<Kind, Entry>::iterator current_;
  bool recording_ = false;
  bool probed_ = false, works_ = false;
  std::uint64_t uses_ = 0;
};

}  // namespace tandem::cuda
