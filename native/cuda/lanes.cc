#include "cuda/lanes.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "core/error.h"

namespace tandem::cuda {
namespace {

// More are not told apart by the scheduler (engine/scheduler/splits.ts), and each pair takes device memory.
constexpr int kMostSplits = 16;

int roundedUp(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace

Lanes::Lanes(SplitDriver& driver)
    : driver_(&driver),
      limits_(driver.limits()),
      whyNoSplit_(driver.whyNoSplit()),
      whole_{open(nullptr, 0), open(nullptr, 1)} {
  if (!whyNoSplit_.empty()) return;
  try {
    table_ = makeTable();
    if (table_.empty()) whyNoSplit_ = "the device has too few SMs for two groups";
  } catch (const Error& error) {
    whyNoSplit_ = error.what();
  }
}

Lanes::Share Lanes::open(const SmSet* sms, int lane) const {
  Share share{sms ? sms->sms : limits_.sms, {nullptr, {driver_}}, {nullptr, {driver_}}};
  if (sms) share.context.reset(driver_->createContext(*sms));
  share.stream.reset(driver_->createStream(share.context.get(), lane == 1));
  return share;
}

std::vector<Lanes::Pair> Lanes::makeTable() const {
  check(limits_.smallest > 0 && limits_.alignment > 0, "the driver names no smallest group of SMs");
  const int group = roundedUp(limits_.smallest, limits_.alignment);
  const int groups = limits_.sms / group;
  const int notch = group * ((groups + kMostSplits) / (kMostSplits + 1));
  std::vector<Pair> table;
  for (int prefill = notch; limits_.sms - prefill >= group; prefill += notch) {
    // Prefill takes the split-off set, whose SMs the driver keeps in whole clusters; the rest has no such
    // promise, and decode needs none.
    const SplitDriver::Split split = driver_->split(prefill);
    // A driver that gives more than was asked for may leave too little, or repeat the split before.
    if (split.rest.sms < limits_.smallest) break;
    if (!table.empty() && split.first.sms <= table.back()[0].sms) continue;
    table.push_back({open(&split.first, 0), open(&split.rest, 1)});
  }
  return table;
}

std::vector<int> Lanes::splits() const {
  std::vector<int> units;
  for (const Pair& pair : table_) units.push_back(pair[0].sms);
  return units;
}

const Lanes::Pair& Lanes::nearest(int prefillUnits) const {
  if (prefillUnits < 0 || prefillUnits > limits_.sms) {
    throw Error("the prefill lane cannot have " + std::to_string(prefillUnits) + " of " +
                std::to_string(limits_.sms) + " SMs");
  }
  if (prefillUnits == 0 || prefillUnits == limits_.sms || table_.empty()) return whole_;
  const auto distance = [&](const Pair& pair) { return std::abs(pair[0].sms - prefillUnits); };
  return *std::min_element(table_.begin(), table_.end(),
                           [&](const Pair& a, const Pair& b) { return distance(a) < distance(b); });
}

Lanes::LaneStream Lanes::enter(int lane, int prefillUnits) {
  check(lane == 0 || lane == 1, "a lane is 0 (prefill) or 1 (decode)");
  const Share& share = nearest(prefillUnits)[lane];
  const Stream stream = share.stream.get();
  if (last_[lane] != nullptr && last_[lane] != stream) driver_->order(last_[lane], stream);
  last_[lane] = stream;
  return {stream, share.sms};
}

}  // namespace tandem::cuda
