#include "cuda/saliency-sums.h"

#include <vector>

#include "check.h"
#include "device-array.h"

using namespace tandem;
using namespace tandem::test;

namespace {

void write(std::uint32_t* to, const std::vector<std::uint32_t>& values) {
  cuda::copyToDevice(to, values.data(), values.size() * sizeof(std::uint32_t), kStream);
}

}  // namespace

TEST("cuda saliency sums: what was found is added to each array when it comes home") {
  cuda::SaliencySums sums(8);
  std::vector<std::uint32_t> first{1, 2}, second{10, 20, 30}, third{100};
  const std::vector<std::span<std::uint32_t>> both{first, second}, one{third};
  write(sums.place(both, kStream), {3, 4, 5, 6, 7});
  write(sums.place(one, kStream), {8});
  isTrue(first == std::vector<std::uint32_t>{1, 2}, "nothing before");
  sums.bringHome(kStream);
  isTrue(first == std::vector<std::uint32_t>{4, 6} && third == std::vector<std::uint32_t>{108}, "all of it");
  isTrue(second == std::vector<std::uint32_t>{15, 26, 37}, "all of the second");
  sums.place(both, kStream);
  sums.bringHome(kStream);
  isTrue(second == std::vector<std::uint32_t>{15, 26, 37}, "a new place begins with nothing");
}

TEST("cuda saliency sums: where there is no room for more, what is there comes home first") {
  cuda::SaliencySums sums(4);
  std::vector<std::uint32_t> first(3), second(2), third(5);
  const std::vector<std::span<std::uint32_t>> one{first}, two{second}, three{third};
  write(sums.place(one, kStream), {1, 2, 3});
  write(sums.place(two, kStream), {4, 5});
  isTrue(first == std::vector<std::uint32_t>{1, 2, 3}, "the first has come");
  sums.bringHome(kStream);
  isTrue(second == std::vector<std::uint32_t>{4, 5}, "the second comes later");
  isTrue(first == std::vector<std::uint32_t>{1, 2, 3}, "the first once");
  throws([&] { sums.place(three, kStream); }, "no room for so many sums");
}
