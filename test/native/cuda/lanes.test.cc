#include "cuda/lanes.h"

#include "check.h"
#include "fake-driver.h"

using namespace tandem;
using namespace tandem::test;
using cuda::Lanes;

namespace {

constexpr cuda::SmLimits kHopper{132, 8, 8}, kAmpere{108, 4, 2}, kAda{142, 2, 2};

std::string text(const std::vector<int>& values) {
  std::ostringstream all;
  for (std::size_t i = 0; i < values.size(); ++i) all << (i > 0 ? " " : "") << values[i];
  return all.str();
}

}  // namespace

TEST("lanes: 132 SMs in groups of 8 give fifteen splits, decode taking the odd four") {
  FakeDriver driver(kHopper);
  Lanes lanes(driver);
  test::equal(lanes.whyNoSplit(), std::string(), "no reason to fall back");
  test::equal(text(lanes.splits()), std::string("8 16 24 32 40 48 56 64 72 80 88 96 104 112 120"), "splits");
  test::equal(lanes.enter(0, 120).sms, 120, "prefill");
  test::equal(lanes.enter(1, 120).sms, 12, "decode has the group of 8 and the odd four");
}

TEST("lanes: smaller groups are joined until the splits are sixteen at most") {
  for (const cuda::SmLimits limits : {kHopper, kAmpere, kAda, cuda::SmLimits{148, 8, 8},
                                      cuda::SmLimits{24, 2, 2}, cuda::SmLimits{46, 4, 4}}) {
    FakeDriver driver(limits);
    Lanes lanes(driver);
    const std::vector<int> splits = lanes.splits();
    isTrue(splits.size() >= 8 && splits.size() <= 16, "splits: " + text(splits));
    for (const int prefill : splits) {
      test::equal(prefill % limits.alignment, 0, "a multiple of the alignment");
      isTrue(prefill >= limits.smallest && limits.sms - prefill >= limits.smallest,
             "both lanes have a group");
      const auto first = lanes.enter(0, prefill), second = lanes.enter(1, prefill);
      test::equal(first.sms, prefill, "prefill");
      test::equal(first.sms + second.sms, limits.sms, "no SM is lost");
      test::equal(driver.sms.at(first.stream), first.sms, "prefill's stream has its SMs");
      test::equal(driver.sms.at(second.stream), second.sms, "decode's stream has its SMs");
    }
  }
}

TEST("lanes: a split is the one nearest to what was asked for, the smaller of two") {
  FakeDriver driver(kHopper);
  Lanes lanes(driver);
  for (const auto& [asked, given] :
       {std::pair{1, 8}, {11, 8}, {12, 8}, {13, 16}, {64, 64}, {123, 120}, {131, 120}}) {
    test::equal(lanes.enter(0, asked).sms, given, "asked for " + std::to_string(asked));
  }
  throws([&] { lanes.enter(0, -1); }, "-1 of 132");
  throws([&] { lanes.enter(1, 133); }, "133 of 132");
}

TEST("lanes: a lane that is alone has the whole device") {
  FakeDriver driver(kAmpere);
  Lanes lanes(driver);
  for (const int prefill : {108, 0}) {
    lanes.enter(0, 56);
    test::equal(lanes.enter(0, prefill).sms, 108, "prefill");
    test::equal(lanes.enter(1, prefill).sms, 108, "decode");
  }
}

TEST("lanes: a step runs behind the lane's last one when the split has changed, and only then") {
  FakeDriver driver(kHopper);
  Lanes lanes(driver);
  const auto before = lanes.enter(0, 64);
  lanes.enter(0, 64);
  isTrue(driver.ordered.empty(), "the same stream is in order by itself");
  const auto after = lanes.enter(0, 96);
  test::equal(driver.ordered.size(), std::size_t{1}, "orders");
  isTrue(driver.ordered[0] == std::pair(before.stream, after.stream), "old before new");
  lanes.enter(1, 96);
  test::equal(driver.ordered.size(), std::size_t{1}, "the other lane's first step waits for nothing");
}

TEST("lanes: where the device cannot be split, both streams have all SMs and decode goes first") {
  FakeDriver driver({132, 0, 0});
  driver.refusal = "a MIG slice is not split further";
  Lanes lanes(driver);
  test::equal(lanes.whyNoSplit(), driver.refusal, "reason");
  isTrue(lanes.splits().empty(), "no splits");
  const auto prefill = lanes.enter(0, 64), decode = lanes.enter(1, 64);
  test::equal(prefill.sms, 132, "prefill");
  test::equal(decode.sms, 132, "decode");
  isTrue(prefill.stream != decode.stream, "two streams");
  isTrue(driver.urgent.at(decode.stream) && !driver.urgent.at(prefill.stream), "decode has priority");
  isTrue(driver.asked.empty(), "the driver was not asked");
}

TEST("lanes: a context that cannot be made leaves two streams and nothing else open") {
  for (const int failing : {0, 1, 7}) {
    FakeDriver driver(kHopper);
    driver.failingContext = failing;
    const Lanes lanes(driver);
    isTrue(lanes.whyNoSplit().find("out of memory") != std::string::npos, "reason");
    isTrue(lanes.splits().empty(), "no splits");
    test::equal(driver.contexts.size(), std::size_t{0}, "contexts");
    test::equal(driver.sms.size(), std::size_t{2}, "streams");
  }
}

TEST("lanes: a device of one group is not split") {
  FakeDriver driver({14, 8, 8});
  const Lanes lanes(driver);
  isTrue(lanes.whyNoSplit().find("too few") != std::string::npos, "reason");
}

TEST("lanes: the table holds what the driver gave, not what was asked for") {
  FakeDriver generous(kHopper);
  generous.extraOfFirst = 5;  // rounds up to the next group
  Lanes lanes(generous);
  test::equal(text(lanes.splits()), std::string("16 24 32 40 48 56 64 72 80 88 96 104 112 120"), "splits");

  FakeDriver wasteful(kHopper);
  wasteful.unusedOfRest = 6;
  Lanes fewer(wasteful);
  test::equal(fewer.splits().back(), 112, "what would leave decode less than a group is left out");
  test::equal(fewer.enter(1, 112).sms, 14, "decode");
}

TEST("lanes: everything is closed, streams before their contexts") {
  FakeDriver driver(kAda);
  {
    const Lanes lanes(driver);
    test::equal(driver.contexts.size(), 2 * lanes.splits().size(), "contexts");
    test::equal(driver.sms.size(), 2 * lanes.splits().size() + 2, "streams");
  }
  test::equal(driver.contexts.size(), std::size_t{0}, "contexts");
  test::equal(driver.sms.size(), std::size_t{0}, "streams");
  isTrue(!driver.contextEndedBeforeStream, "streams end first");
}
