#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "cuda/split-driver.h"

namespace tandem::cuda {

// How the two lanes share a device. A green context's SMs are fixed for its life, so every split that may be
// asked for is made at start: a pair of contexts with a stream each. Changing the split is choosing another
// pair, and takes effect at each lane's next step.
//
// Where the driver cannot split the device, or fails while the table is made, both lanes have streams on all
// SMs, decode's with priority; `whyNoSplit` says why.
class Lanes {
 public:
  // The driver must outlive it.
  explicit Lanes(SplitDriver& driver);

  int units() const { return limits_.sms; }
  const std::string& whyNoSplit() const { return whyNoSplit_; }

  // SMs of prefill in each split, ascending; decode has the rest. Empty without green contexts.
  std::vector<int> splits() const;

  struct LaneStream {
    Stream stream;
    int sms;
  };

  // The stream for the next step of a lane, 0 prefill or 1 decode, behind what the lane's last step enqueued:
  // of the split nearest to so many SMs of prefill, the smaller of two. With none or all of them, the lane
  // that has some has the device. Called by the lane's own thread.
  LaneStream enter(int lane, int prefillUnits);

 private:
  struct DestroyContext {
    SplitDriver* driver;
    void operator()(SplitDriver::Context context) const { driver->destroyContext(context); }
  };
  struct DestroyStream {
    SplitDriver* driver;
    void operator()(Stream stream) const { driver->destroyStream(stream); }
  };
  struct Share {
    int sms = 0;
    std::unique_ptr<CUgreenCtx_st, DestroyContext> context;
    std::unique_ptr<CUstream_st, DestroyStream> stream;  // ends before its context
  };
  using Pair = std::array<Share, 2>;

  Share open(const SmSet* sms, int lane) const;
  std::vector<Pair> makeTable() const;
  const Pair& nearest(int prefillUnits) const;

  SplitDriver* driver_;
  SmLimits limits_;
  std::string whyNoSplit_;
  Pair whole_;
  std::vector<Pair> table_;  // ascending in prefill's SMs
  std::array<Stream, 2> last_{};
};

}  // namespace tandem::cuda
