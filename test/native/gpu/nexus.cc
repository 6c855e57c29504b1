// What prefill and decode do to each other: steps of both alone and together, on two streams and on each
// split by green contexts.
//
//   gpu-nexus FILE.json [seconds]
//
// The file holds `samples` in the format of engine/calibration/sample.ts, of the model's shape in `spec`, and
// the interference matrix as rows. Prefill's matmuls read bf16
// weights, which cost a prefill of hundreds of tokens no time.

#include <atomic>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "cuda/lanes.h"
#include "gpu/device.h"
#include "gpu/json.h"
#include "gpu/measure.h"
#include "gpu/synthetic-model.h"

using namespace tandem;
using namespace tandem::gpu;

namespace {

// A step of one lane, with its load as engine/calibration/sample.ts counts it.
struct Work {
  std::string name, load;
  std::function<void(cuda::Lanes::LaneStream, unsigned)> enqueue;
};

constexpr int kFewSplits = 5;
constexpr std::size_t kLeastSteps = kTiny ? 1 : 5;

class Matrix {
 public:
  Matrix(cuda::Lanes& lanes, double seconds, std::size_t measurements)
      : lanes_(lanes),
        end_(now() + seconds),
        each_(kTiny ? 0 : 0.5 * seconds / static_cast<double>(measurements)) {}

  // Seconds of a step alone on a lane at the present split; also by operator class.
  double alone(int lane, const Work& work, int split) {
    const cuda::Lanes::LaneStream share = lanes_.enter(lane, split);
    const auto timed = [&](unsigned classes) {
      return stepSeconds(share.stream, each_, [&] { work.enqueue(share, classes); });
    };
    const double seconds = timed(kAllOps);
    const double classes[] = {timed(kMatmul), lane == 0 ? timed(kPrefillAttention) : 0,
                              lane == 1 ? timed(kDecodeAttention) : 0, timed(kOther)};
    std::vector<std::string> opSeconds;
    for (const double value : classes) opSeconds.push_back(number(value));
    samples_.push_back("{\"load\": " + work.load + ", \"units\": " + std::to_string(share.sms) +
                       ", \"other\": null, \"seconds\": " + number(seconds) +
                       ", \"opSeconds\": " + list(opSeconds) + "}");
    return seconds;
  }

  struct Together {
    double prefill, decode;
  };

  // Seconds of a step of each lane while the other is never idle.
  Together together(const Work& prefill, const Work& decode, int split) {
    const auto first = lanes_.enter(0, split), second = lanes_.enter(1, split);
    const Together seconds{beside(first, prefill, second, decode), beside(second, decode, first, prefill)};
    // Lanes that both have all SMs are no split: what they cost each other is not what the model describes.
    if (first.sms + second.sms <= lanes_.units()) {
      addSample(prefill, first.sms, decode, second.sms, seconds.prefill);
      addSample(decode, second.sms, prefill, first.sms, seconds.decode);
    }
    return seconds;
  }

  void addRow(const Work& prefill, const Work& decode, const std::string& how, double prefillAlone,
              double decodeAlone, const Together& both) {
    rows_.push_back("{\"prefill\": " + quoted(prefill.name) + ", \"decode\": " + quoted(decode.name) +
                    ", \"how\": " + quoted(how) + ", \"prefillAlone\": " + number(prefillAlone) +
                    ", \"decodeAlone\": " + number(decodeAlone) + ", \"prefillTogether\": " +
                    number(both.prefill) + ", \"decodeTogether\": " + number(both.decode) + "}");
  }

  bool outOfTime() const { return now() > end_; }
  std::string samples() const { return list(samples_, ",\n  "); }
  std::string rows() const { return list(rows_, ",\n  "); }

 private:
  // Each step is waited for, as an engine waits for its tokens.
  template <class Enqueue>
  static double stepSeconds(cuda::Stream stream, double budget, Enqueue&& enqueue) {
    enqueue();
    test::synchronize(stream);
    std::vector<double> steps;
    const double end = now() + budget;
    while (steps.size() < kLeastSteps || now() < end) {
      const double begin = now();
      enqueue();
      test::synchronize(stream);
      steps.push_back(now() - begin);
    }
    return median(steps);
  }

  double beside(cuda::Lanes::LaneStream share, const Work& work, cuda::Lanes::LaneStream otherShare,
                const Work& other) const {
    std::atomic<bool> stop{false};
    std::atomic<int> done{0};
    std::exception_ptr failure;
    std::thread thread([&] {
      try {
        // One step is on its way while another is waited for, so that the lane has no gaps.
        while (!stop) {
          other.enqueue(otherShare, kAllOps);
          if (++done % 2 == 0) test::synchronize(otherShare.stream);
        }
        test::synchronize(otherShare.stream);
      } catch (...) {
        failure = std::current_exception();
        done = 2;
      }
    });
    while (done < 2) std::this_thread::yield();
    std::optional<double> seconds;
    std::exception_ptr ownFailure;
    try {
      seconds = stepSeconds(share.stream, each_, [&] { work.enqueue(share, kAllOps); });
    } catch (...) {
      ownFailure = std::current_exception();
    }
    stop = true;
    thread.join();
    for (const std::exception_ptr& error : {ownFailure, failure}) {
      if (error) std::rethrow_exception(error);
    }
    return *seconds;
  }

  void addSample(const Work& work, int units, const Work& other, int otherUnits, double seconds) {
    samples_.push_back("{\"load\": " + work.load + ", \"units\": " + std::to_string(units) +
                       ", \"other\": {\"load\": " + other.load + ", \"units\": " +
                       std::to_string(otherUnits) + "}, \"seconds\": " + number(seconds) + "}");
  }

  cuda::Lanes& lanes_;
  double end_, each_;
  std::vector<std::string> samples_, rows_;
};

struct Load {
  std::int64_t prefillTokens = 0;  // of a prompt from its first token on
  double prefillKvBytes = 0;
  std::int64_t sequences = 0, tokensEach = 0;  // of decode
  double decodeKvBytes = 0;

  std::string json() const {
    return "{\"prefillTokens\": " + std::to_string(prefillTokens) +
           ", \"prefillPairs\": " + std::to_string(prefillTokens * (prefillTokens + 1) / 2) +
           ", \"prefillKvBytes\": " + number(prefillKvBytes) +
           ", \"decodeSequences\": " + std::to_string(sequences) +
           ", \"decodeTokens\": " + std::to_string(sequences * tokensEach) +
           ", \"decodeKvBytes\": " + number(decodeKvBytes) + ", \"logitRows\": " + std::to_string(sequences) +
           "}";
  }
};

std::string spec() {
  const auto field = [](const char* name, int value) { return quoted(name) + ": " + std::to_string(value); };
  return "{" + field("layers", kShape.layers) + ", " + field("hidden", kShape.hidden) + ", " +
         field("heads", kShape.heads) + ", " + field("kvHeads", kShape.kvHeads) + ", " +
         field("headDim", kShape.headDim) + ", " + field("ffn", kShape.ffn) + ", " +
         field("vocab", kShape.vocab) + "}";
}

// Some of the splits, from end to end.
std::vector<int> fewOf(const std::vector<int>& splits) {
  if (static_cast<int>(splits.size()) <= kFewSplits) return splits;
  std::vector<int> few;
  for (int i = 0; i < kFewSplits; ++i) few.push_back(splits[i * (splits.size() - 1) / (kFewSplits - 1)]);
  return few;
}

struct Workloads {
  Workloads() : model(kShape) {
    for (const int tokens : kTiny ? std::vector<int>{16} : std::vector<int>{512, 2048}) {
      prefills.push_back(std::make_unique<SyntheticModel::Prefill>(model, tokens));
      prefill.push_back({std::to_string(tokens) + " tokens",
                         Load{tokens, static_cast<double>(prefills.back()->kvBytes())}.json(),
                         [&step = *prefills.back()](cuda::Lanes::LaneStream lane, unsigned classes) {
                           step.enqueue(lane, classes);
                         }});
    }
    struct Batch {
      int sequences, tokens;
    };
    for (const auto& [sequences, tokens] :
         kTiny ? std::vector<Batch>{{2, 64}} : std::vector<Batch>{{8, 2048}, {64, 4096}}) {
      pages.push_back(std::make_unique<SyntheticPages>(kShape, PrecisionClass::bf16, sequences, tokens));
      decodes.push_back(std::make_unique<SyntheticModel::Decode>(model, *pages.back()));
      decode.push_back({std::to_string(sequences) + " x " + std::to_string(tokens),
                        Load{0, 0, sequences, tokens, static_cast<double>(pages.back()->bytesRead())}.json(),
                        [&step = *decodes.back()](cuda::Lanes::LaneStream lane, unsigned classes) {
                          step.enqueue(lane, classes);
                        }});
    }
  }

  SyntheticModel model;
  std::vector<std::unique_ptr<SyntheticModel::Prefill>> prefills;
  std::vector<std::unique_ptr<SyntheticPages>> pages;
  std::vector<std::unique_ptr<SyntheticModel::Decode>> decodes;
  std::vector<Work> prefill, decode;
};

// Seconds from choosing another split to the end of a small step there, beyond those without a change.
double switchSeconds(cuda::Lanes& lanes, const std::vector<int>& splits, const Work& work) {
  const auto step = [&](int split) {
    const cuda::Lanes::LaneStream share = lanes.enter(1, split);
    work.enqueue(share, kOther);
    test::synchronize(share.stream);
  };
  const auto seconds = [&](int a, int b) {
    std::vector<double> steps;
    for (int i = 0; i < 60; ++i) {
      const double begin = now();
      step(i % 2 == 0 ? a : b);
      steps.push_back(now() - begin);
    }
    return median(steps);
  };
  step(splits.front());
  return seconds(splits.front(), splits.back()) - seconds(splits.back(), splits.back());
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc < 2) throw Error("usage: gpu-nexus FILE.json [seconds]");
    const OpenDevice device = openDevice();
    const double beforeLanes = now();
    cuda::Lanes lanes(*device.driver);
    const double openSeconds = now() - beforeLanes;
    if (!lanes.whyNoSplit().empty())
      std::fprintf(stderr, "no green contexts: %s\n", lanes.whyNoSplit().c_str());
    const std::vector<int> splits = fewOf(lanes.splits());
    Workloads work;

    const std::size_t pairs = work.prefill.size() * work.decode.size();
    const std::size_t ways = splits.size() + 1;
    const double seconds = argc > 2 ? std::atof(argv[2]) : 60;
    Matrix matrix(lanes, seconds, ways * (2 * pairs + 4 * (work.prefill.size() + work.decode.size())));
    bool complete = true;
    std::vector<int> all = {lanes.units()};
    all.insert(all.end(), splits.begin(), splits.end());
    for (const int split : all) {
      const bool whole = split == lanes.units();
      const std::string how = whole ? "two streams"
                                    : std::to_string(split) + " SMs for prefill, " +
                                          std::to_string(lanes.units() - split) + " for decode";
      std::vector<double> prefillAlone, decodeAlone;
      for (const Work& each : work.prefill) prefillAlone.push_back(matrix.alone(0, each, split));
      for (const Work& each : work.decode) decodeAlone.push_back(matrix.alone(1, each, split));
      for (std::size_t p = 0; p < work.prefill.size(); ++p) {
        for (std::size_t d = 0; d < work.decode.size(); ++d) {
          if (matrix.outOfTime()) {
            complete = false;
            continue;
          }
          matrix.addRow(work.prefill[p], work.decode[d], how, prefillAlone[p], decodeAlone[d],
                        matrix.together(work.prefill[p], work.decode[d], split));
        }
      }
    }
    writeFile(argv[1],
              "{\"device\": " + quoted(device.name) + ", \"driver\": " + quoted(device.driverVersion) +
                  ", \"units\": " + std::to_string(lanes.units()) +
                  ",\n \"smallestGroup\": " + std::to_string(device.driver->limits().smallest) +
                  ", \"whyNoSplit\": " + quoted(lanes.whyNoSplit()) +
                  ",\n \"openSeconds\": " + number(openSeconds) + ", \"switchSeconds\": " +
                  (splits.size() > 1 ? number(switchSeconds(lanes, splits, work.decode[0])) : "null") +
                  ", \"complete\": " + (complete ? "true" : "false") +
                  ",\n \"weights\": \"int8\", \"spec\": " + spec() + ",\n \"rows\": " + matrix.rows() +
                  ",\n \"samples\": " + matrix.samples() + "}\n");
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gpu-nexus: %s\n", error.what());
    return 1;
  }
}
