#pragma once

#include <any>
#include <string>

#include "cuda/stream.h"

struct CUgreenCtx_st;

namespace tandem::cuda {

// A set of SMs, as the driver describes it.
struct SmSet {
  int sms = 0;
  std::any resource;
};

struct SmLimits {
  int sms = 0;        // of the device
  int smallest = 0;   // SMs of the smallest set that can be split off
  int alignment = 0;  // sizes of split-off sets are multiples of it
};

// What lanes need of the driver to share a device; tests implement it without one. What fails throws Error.
class SplitDriver {
 public:
  using Context = CUgreenCtx_st*;

  virtual ~SplitDriver() = default;

  // Why this device cannot be split, for people; empty where it can.
  virtual std::string whyNoSplit() const = 0;
  virtual SmLimits limits() const = 0;

  // Disjoint sets: one of `sms` SMs, or as many more as alignment asks for, and one of the rest, which may be
  // empty.
  struct Split {
    SmSet first, rest;
  };
  virtual Split split(int sms) = 0;

  virtual Context createContext(const SmSet& sms) = 0;
  virtual void destroyContext(Context context) noexcept = 0;

  // A stream that does not wait for the default stream, on the context's SMs or, without one, on all of them.
  // Where SMs are shared, work of an urgent stream is scheduled first.
  virtual Stream createStream(Context context, bool urgent) = 0;
  virtual void destroyStream(Stream stream) noexcept = 0;

  // What is enqueued on `later` from now on waits for what is on `earlier` by now. Does not block.
  virtual void order(Stream earlier, Stream later) = 0;
};

}  // namespace tandem::cuda
