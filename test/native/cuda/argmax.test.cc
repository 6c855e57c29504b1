#include "cuda/argmax.h"

#include <algorithm>

#include "check.h"
#include "device-array.h"
#include "random.h"

using namespace tandem;
using namespace tandem::test;

namespace {

std::vector<std::int32_t> argmaxOf(const std::vector<float>& logits, int vocab) {
  const auto rows = static_cast<std::int64_t>(logits.size()) / vocab;
  DeviceArray<float> on(logits);
  DeviceArray<std::uint64_t> parts(cuda::argmaxScratch(rows, vocab) / sizeof(std::uint64_t));
  DeviceArray<std::int32_t> tokens(static_cast<std::size_t>(rows));
  cuda::argmax({on.data(), parts.data(), tokens.data(), rows, vocab}, kStream);
  return tokens.read();
}

}  // namespace

TEST("cuda argmax: finds the highest of each row, over several blocks") {
  for (const int vocab : {1, 33, 8192, 8193, 20000}) {
    const std::vector<float> logits = randomFloats(3 * static_cast<std::size_t>(vocab), 5, 4, -20);
    const auto tokens = argmaxOf(logits, vocab);
    for (int row = 0; row < 3; ++row) {
      const auto begin = logits.begin() + std::int64_t{row} * vocab;
      test::equal(tokens[row], static_cast<std::int32_t>(std::max_element(begin, begin + vocab) - begin),
                  "vocabulary of " + std::to_string(vocab));
    }
  }
}

TEST("cuda argmax: of equals the lowest token, and both zeros are equal") {
  std::vector<float> logits(20000, -5.0f);
  logits[19000] = logits[8200] = logits[8199] = 3;
  test::equal(argmaxOf(logits, 20000)[0], 8199, "of three");
  test::equal(argmaxOf(std::vector<float>(300, -1.0f), 300)[0], 0, "of all");
  test::equal(argmaxOf({-1, -0.0f, 0.0f, -2}, 4)[0], 1, "minus zero before zero");
}

TEST("cuda argmax: says why no token can be chosen") {
  std::vector<float> logits = randomFloats(3 * 9000, 6);
  logits[8999] = NAN;
  logits[100] = INFINITY;
  logits[9000 + 8500] = INFINITY;
  std::fill(logits.begin() + 18000, logits.end(), -INFINITY);
  const auto tokens = argmaxOf(logits, 9000);
  test::equal(tokens[0], cuda::kNanLogits, "NaN, though there is infinity");
  test::equal(tokens[1], cuda::kInfiniteLogits, "infinity");
  test::equal(tokens[2], cuda::kNoLogits, "everything suppressed");
}

TEST("cuda argmax: a suppressed token is not chosen, the smallest number is") {
  test::equal(argmaxOf({-INFINITY, -3e38f, -INFINITY}, 3)[0], 1, "token");
}
