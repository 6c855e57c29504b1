#include "cuda/step-graphs.h"

#include <array>
#include <vector>

#include "check.h"
#include "cuda/embed.h"
#include "cuda/random.h"
#include "cuda/step-block.h"
#include "device-array.h"

#ifdef TANDEM_CUDA_EMULATION
#include "cuda-emulated-runtime.h"
#endif

using namespace tandem;
using namespace tandem::test;
using cuda::StepGraphs;
using Turn = StepGraphs::Turn;

namespace {

constexpr int kCols = 64;

// A step of one kernel, which reads its tokens from memory that stays where it is.
struct Steps {
  Steps() : table(randomBf16s(8 * kCols, 1)), tokens(std::vector<std::int32_t>{0}), out(kCols) {}

  std::vector<bf16> run(std::int32_t token, Turn expected, int mostTokens = 256) {
    cuda::copyToDevice(tokens.data(), &token, sizeof token, stream);
    const Turn turn = graphs.next({stream, 1, mostTokens});
    isTrue(turn == expected, "the turn of token " + std::to_string(token));
    if (turn == Turn::record) graphs.begin();
    if (turn != Turn::replay) cuda::embed({table.data(), tokens.data(), out.data(), 1, kCols}, stream);
    if (turn != Turn::run) graphs.end();
    cuda::synchronize(stream);
    return out.read();
  }

  std::vector<bf16> rowOf(std::int32_t token) const {
    const std::vector<bf16> all = table.read();
    return {all.begin() + token * kCols, all.begin() + (token + 1) * kCols};
  }

  cuda::OwnStream stream;
  DeviceArray<bf16> table;
  DeviceArray<std::int32_t> tokens;
  DeviceArray<bf16> out;
  StepGraphs graphs;
};

}  // namespace

TEST("step graphs: a kind is recorded when it comes again, and replayed on what its memory holds then") {
  Steps steps;
  const Turn turns[] = {Turn::run, Turn::record, Turn::replay, Turn::replay};
  for (int token = 0; token < 4; ++token) {
    isTrue(steps.run(token, turns[token]) == steps.rowOf(token), "row " + std::to_string(token));
  }
  isTrue(steps.run(5, Turn::run, 512) == steps.rowOf(5), "another kind is run");
  isTrue(steps.run(6, Turn::replay) == steps.rowOf(6), "the first kind is still known");
}

TEST("step graphs: the kinds that were used longest ago are forgotten") {
  Steps steps;
  steps.run(0, Turn::run);
  steps.run(1, Turn::record);
  for (int kind = 2; kind < 200; ++kind) {
    steps.run(2, Turn::run, 256 * kind);
    if (kind == 100) steps.run(3, Turn::replay);
  }
  steps.run(4, Turn::replay);
  for (int kind = 200; kind < 400; ++kind) steps.run(5, Turn::run, 256 * kind);
  isTrue(steps.run(6, Turn::run) == steps.rowOf(6), "recorded anew");
}

TEST("step graphs: a step that fails while it is recorded leaves the stream as it was") {
  Steps steps;
  steps.run(0, Turn::run);
  isTrue(steps.graphs.next({steps.stream, 1, 256}) == Turn::record, "comes again");
  steps.graphs.begin();
  steps.graphs.abandon();
  isTrue(steps.run(1, Turn::record) == steps.rowOf(1), "recorded by the next");
  isTrue(steps.run(2, Turn::replay) == steps.rowOf(2), "and replayed");
}

#ifdef TANDEM_CUDA_EMULATION

TEST("step graphs: one that is replayed behind a running one finds its own arrays") {
  Steps steps;
  cuda::StepBlock block(64, "a test");
  DeviceArray<bf16> first(kCols), second(kCols);
  const auto run = [&](std::int32_t token, Turn expected) {
    block.clear();
    const std::int32_t* tokens = block.add(std::array{token});
    block.upload(steps.stream);
    isTrue(steps.graphs.next({steps.stream, 1, 256}) == expected,
           "the turn of token " + std::to_string(token));
    if (expected == Turn::record) steps.graphs.begin();
    if (expected != Turn::replay) {
      cuda::embed({steps.table.data(), tokens, steps.out.data(), 1, kCols}, steps.stream);
    }
    if (expected != Turn::run) steps.graphs.end();
  };
  run(0, Turn::run);
  run(1, Turn::record);
  {
    emulation::BusyDevice busy;
    run(2, Turn::replay);
    cuda::copyOnDevice(first.data(), steps.out.data(), kCols * sizeof(bf16), steps.stream);
    run(3, Turn::replay);
    cuda::copyOnDevice(second.data(), steps.out.data(), kCols * sizeof(bf16), steps.stream);
  }
  isTrue(first.read() == steps.rowOf(2), "the first one's row");
  isTrue(second.read() == steps.rowOf(3), "the second one's row");
}

#endif
