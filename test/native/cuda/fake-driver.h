#pragma once

// A driver without a device: it divides SMs by the rules it is given, counts what is open, and fails when
// told to.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "cuda/split-driver.h"

namespace tandem::test {

class FakeDriver final : public cuda::SplitDriver {
 public:
  explicit FakeDriver(cuda::SmLimits limits) : limits_(limits) {}

  using Stream = cuda::Stream;

  // One that no driver has had before: what was enqueued in a stream may outlive it.
  static Stream freshStream() {
    static std::atomic<std::uintptr_t> last = 0;
    return reinterpret_cast<Stream>(++last);
  }

  std::string refusal;        // what whyNoSplit says
  int failingContext = -1;    // the how-manieth context cannot be made
  int unusedOfRest = 0;       // SMs that no split hands out
  int extraOfFirst = 0;       // SMs that each group has beyond what was asked for
  std::vector<int> asked;     // SMs of each split
  std::map<Stream, int> sms;  // of every open stream
  std::map<Stream, bool> urgent;
  std::map<Context, int> contexts;  // SMs of every open one
  std::vector<std::pair<Stream, Stream>> ordered;
  bool contextEndedBeforeStream = false;

  std::string whyNoSplit() const override { return refusal; }
  cuda::SmLimits limits() const override { return limits_; }

  Split split(int count) override {
    asked.push_back(count);
    const int least = std::max(count, limits_.smallest) + extraOfFirst;
    const int first = (least + limits_.alignment - 1) / limits_.alignment * limits_.alignment;
    check(first <= limits_.sms, "more SMs than there are");
    return {{first, first}, {std::max(0, limits_.sms - first - unusedOfRest), 0}};
  }

  Context createContext(const cuda::SmSet& set) override {
    check(made_++ != failingContext, "cuGreenCtxCreate failed: out of memory");
    const auto context = reinterpret_cast<Context>(++handle_);
    contexts[context] = set.sms;
    return context;
  }

  void destroyContext(Context context) noexcept override {
    for (const auto& [stream, owner] : owners_) contextEndedBeforeStream |= owner == context;
    contexts.erase(context);
  }

  Stream createStream(Context context, bool isUrgent) override {
    const Stream stream = freshStream();
    sms[stream] = context ? contexts.at(context) : limits_.sms;
    urgent[stream] = isUrgent;
    if (context) owners_[stream] = context;
    return stream;
  }

  void destroyStream(Stream stream) noexcept override {
    sms.erase(stream);
    owners_.erase(stream);
  }

  void order(Stream earlier, Stream later) override { ordered.emplace_back(earlier, later); }

 private:
  cuda::SmLimits limits_;
  std::uintptr_t handle_ = 0;
  int made_ = 0;
  std::map<Stream, Context> owners_;
};

}  // namespace tandem::test
