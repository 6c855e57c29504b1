#include "cuda/sample.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "check.h"
#include "core/random.h"
#include "cpu/sampling/sampler.h"
#include "cuda/sample-kernels.h"
#include "device-array.h"
#include "random.h"

using namespace tandem;
using namespace tandem::test;

namespace {

struct Request {
  SampleParams params = {};
  std::int64_t position = 0;
  std::vector<TokenCount> seen = {};
  std::vector<std::int32_t> suppressed = {};
  std::vector<std::uint32_t> allowed = {};

  SampleRequest view() const { return {&params, position, seen, suppressed, allowed}; }
};

std::vector<SampleOutcome> sampleWith(cuda::DeviceSampler& sampler, const std::vector<float>& logits,
                                      const std::vector<Request>& requests) {
  DeviceArray<float> on(logits);
  std::vector<SampleRequest> views;
  for (const Request& request : requests) views.push_back(request.view());
  std::vector<SampleOutcome> outcomes(requests.size());
  sampler.sample(on.data(), views, outcomes, kStream);
  return outcomes;
}

std::vector<SampleOutcome> sampleOnDevice(const std::vector<float>& logits,
                                          const std::vector<Request>& requests) {
  cuda::DeviceSampler sampler(static_cast<int>(logits.size() / requests.size()),
                              static_cast<int>(requests.size()));
  return sampleWith(sampler, logits, requests);
}

std::vector<float> rowOf(const std::vector<float>& logits, std::size_t rows, std::size_t row) {
  const auto vocab = static_cast<std::ptrdiff_t>(logits.size() / rows);
  const auto begin = logits.begin() + static_cast<std::ptrdiff_t>(row) * vocab;
  return {begin, begin + vocab};
}

void expectSame(const SampleOutcome& actual, const SampleOutcome& expected, const std::string& what) {
  test::equal(actual.token, expected.token, what);
  test::equal(actual.topTokens.size(), expected.topTokens.size(), what + ": tokens reported");
  const auto close = [&](float a, float b) {
    if (a != b) near(a, b, 4e-7 * std::abs(b) + 1e-7, what + ": log probability");
  };
  close(actual.logprob, expected.logprob);
  for (std::size_t i = 0; i < expected.topTokens.size(); ++i) {
    test::equal(actual.topTokens[i], expected.topTokens[i], what + ": reported " + std::to_string(i));
    close(actual.topLogprobs[i], expected.topLogprobs[i]);
  }
}

// All requests as one batch against the processor, one after another.
void expectAsOnProcessor(const std::vector<float>& logits, const std::vector<Request>& requests,
                         const std::string& what) {
  const auto outcomes = sampleOnDevice(logits, requests);
  cpu::Sampler sampler(cpu::rowKernels(Isa::portable));
  for (std::size_t row = 0; row < requests.size(); ++row) {
    std::vector<float> copy = rowOf(logits, requests.size(), row);
    expectSame(outcomes[row], sampler.sample(copy, requests[row].view()),
               what + ", row " + std::to_string(row));
  }
}

// A request for every combination of limits; those of every list of rows that DeviceSampler makes.
std::vector<Request> everyLimit() {
  std::vector<Request> requests;
  for (const float temperature : {0.0f, 0.6f, 1.0f, 3.0f}) {
    for (const int topK : {0, 1, 20, 200}) {
      for (const float topP : {1.0f, 0.9f, 0.3f, 1e-6f}) {
        for (const float minP : {0.0f, 0.05f}) {
          const auto number = static_cast<std::int64_t>(requests.size());
          requests.push_back({.params = {.temperature = temperature,
                                         .topP = topP,
                                         .topK = topK,
                                         .minP = minP,
                                         .seed = static_cast<std::uint64_t>(number) * 77},
                              .position = number});
        }
      }
    }
  }
  return requests;
}

// `count` tokens spread over the vocabulary, each once.
std::vector<TokenCount> seenTokens(int count, int vocab) {
  std::vector<TokenCount> seen;
  for (int i = 0; i < count; ++i) {
    seen.push_back({static_cast<std::int32_t>(std::int64_t{i} * vocab / count), i % 4});
  }
  return seen;
}

// The same logits in every row.
std::vector<float> repeatedRow(const std::vector<float>& row, std::size_t rows) {
  std::vector<float> all;
  for (std::size_t i = 0; i < rows; ++i) all.insert(all.end(), row.begin(), row.end());
  return all;
}

}  // namespace

TEST("cuda sample: chooses what the processor chooses, with every combination of limits") {
  const std::vector<Request> requests = everyLimit();
  for (const int vocab : {1, 37, 300, 4097, 9001}) {
    const auto logits = randomFloats(requests.size() * static_cast<std::size_t>(vocab), 11, 3);
    expectAsOnProcessor(logits, requests, "vocabulary of " + std::to_string(vocab));
  }
}

TEST("cuda sample: and in a large vocabulary, peaked and flat") {
  for (const auto& [vocab, deviation] : {std::pair{128256, 2.5f}, std::pair{cuda::kMaxSampleVocab, 0.3f}}) {
    const std::vector<Request> requests = {
        {.params = {.temperature = 1, .topP = 0.9f, .seed = 5}, .position = 1},
        {.params = {.temperature = 0.7f, .topP = 0.8f, .topK = 20, .seed = 6}, .position = 2},
        {.params = {.temperature = 1.5f, .topP = 0.7f, .topK = 40000, .seed = 7}, .position = 3},
        {.params = {.temperature = 1, .minP = 0.2f, .seed = 8, .logprobs = 5}, .position = 4}};
    expectAsOnProcessor(randomFloats(requests.size() * static_cast<std::size_t>(vocab), 12, deviation),
                        requests, "vocabulary of " + std::to_string(vocab));
  }
}

TEST("cuda sample: equal logits at a limit are kept by lower token, whatever part they lie in") {
  constexpr int kVocab = 9001;
  std::vector<Request> requests;
  for (int position = 0; position < 12; ++position) {
    for (const SampleParams& params :
         {SampleParams{.temperature = 1, .topK = 3}, SampleParams{.temperature = 1, .topK = 5000},
          SampleParams{.temperature = 1, .topP = 0.01f}, SampleParams{.temperature = 1, .topP = 0.77f},
          SampleParams{.temperature = 1, .topP = 0.5f, .topK = 4},
          SampleParams{.temperature = 1, .topP = 0.5f, .topK = 6000},
          SampleParams{.temperature = 1, .topP = 0.5f, .minP = 1}}) {
      requests.push_back({.params = params, .position = position});
    }
  }
  const std::vector<float> one(kVocab, 1.5f);
  expectAsOnProcessor(repeatedRow(one, requests.size()), requests, "all equal");
  std::vector<float> coarse = randomFloats(kVocab, 13, 1);
  for (float& logit : coarse) logit = std::round(logit);
  expectAsOnProcessor(repeatedRow(coarse, requests.size()), requests, "a few values");
  std::vector<float> zeros(kVocab, -0.0f);
  for (int i = 0; i < kVocab; i += 2) zeros[i] = 0.0f;
  expectAsOnProcessor(repeatedRow(zeros, requests.size()), requests, "both zeros");
}

TEST("cuda sample: extreme temperatures and logits") {
  std::vector<Request> requests;
  for (const float temperature : {1e-42f, 1e-6f, 0.01f, 100.0f, 1e30f}) {
    for (const SampleParams& limits : {SampleParams{}, SampleParams{.topP = 0.9f}, SampleParams{.topK = 5},
                                       SampleParams{.topK = 100}, SampleParams{.minP = 0.5f}}) {
      SampleParams params = limits;
      params.temperature = temperature;
      params.seed = 3;
      requests.push_back({.params = params, .position = static_cast<std::int64_t>(requests.size())});
    }
  }
  const std::size_t vocab = 5000;
  expectAsOnProcessor(randomFloats(requests.size() * vocab, 14, 2), requests, "usual logits");
  expectAsOnProcessor(randomFloats(requests.size() * vocab, 15, 1e30f), requests, "huge logits");
  expectAsOnProcessor(randomFloats(requests.size() * vocab, 16, 1e-30f), requests, "tiny logits");
  auto holes = randomFloats(requests.size() * vocab, 17, 2);
  for (std::size_t i = 0; i < holes.size(); ++i) {
    if (i % vocab % 997 != 3) holes[i] = -INFINITY;
  }
  expectAsOnProcessor(holes, requests, "few that are not minus infinity");
}

TEST("cuda sample: penalties, bias and suppressed tokens, with all kinds of draws and logprobs") {
  constexpr int kVocab = 6007;
  std::vector<Request> requests;
  for (const SampleParams& draw :
       {SampleParams{}, SampleParams{.temperature = 1}, SampleParams{.temperature = 1, .topP = 0.9f},
        SampleParams{.temperature = 1, .topK = 10}, SampleParams{.temperature = 1, .topK = 1000}}) {
    for (const int logprobs : {-1, 0, 5}) {
      for (const int seen : {0, 3, 3000}) {
        Request request{.params = draw, .position = static_cast<std::int64_t>(requests.size())};
        request.params.logprobs = logprobs;
        request.params.seed = 21;
        if (seen > 0) {
          request.params.repetitionPenalty = 1.3f;
          request.params.frequencyPenalty = 0.37f;
          request.params.presencePenalty = -0.21f;
          request.seen = seenTokens(seen, kVocab);
        }
        if (requests.size() % 2 == 0) {
          // Token 4999 was seen too, and 77 stands elsewhere in each list: other threads change it.
          request.params.bias = {{77, 100.0f}, {4999, -100.0f}, {5, 3.25f}};
          request.suppressed = {11, 12, 13, 14, 77};
        }
        requests.push_back(std::move(request));
      }
    }
  }
  expectAsOnProcessor(randomFloats(requests.size() * kVocab, 18, 3), requests, "adjusted");
}

TEST("cuda sample: only what a mask allows, with all kinds of draws, adjustments and logprobs") {
  for (const int vocab : {33, 4096, 9001}) {
    std::vector<Request> requests;
    for (const SampleParams& draw :
         {SampleParams{}, SampleParams{.temperature = 1}, SampleParams{.temperature = 1, .topP = 0.9f},
          SampleParams{.temperature = 1, .topK = 10}, SampleParams{.temperature = 1, .topK = 1000}}) {
      for (const int logprobs : {-1, 0, 5}) {
        // Of all tokens one in so many may be drawn: a few, or half, or one alone.
        for (const int oneIn : {0, 2, 13, 100'000}) {
          Request request{.params = draw, .position = static_cast<std::int64_t>(requests.size())};
          request.params.logprobs = logprobs;
          request.params.seed = 31;
          if (oneIn > 0) {
            request.allowed.resize(static_cast<std::size_t>(cuda::sampleMaskWords(vocab)));
            for (int token = vocab - 1; token >= 0; token -= oneIn) {
              request.allowed[static_cast<std::size_t>(token) / 32] |= 1u << (token % 32);
            }
          }
          if (requests.size() % 3 == 0) request.params.bias = {{7, 100.0f}, {vocab - 1, -3.0f}};
          requests.push_back(std::move(request));
        }
      }
    }
    const auto logits = randomFloats(requests.size() * static_cast<std::size_t>(vocab), 32, 3);
    expectAsOnProcessor(logits, requests, "vocabulary of " + std::to_string(vocab));
    const auto outcomes = sampleOnDevice(logits, requests);
    for (std::size_t row = 0; row < requests.size(); ++row) {
      const auto token = static_cast<std::size_t>(outcomes[row].token);
      if (requests[row].allowed.empty()) continue;
      isTrue((requests[row].allowed[token / 32] >> (token % 32) & 1) != 0, "the token is allowed");
    }
  }
}

TEST("cuda sample: biases of one token are added in their order") {
  // 1e9 swallows the 3; a different order, or their sum first, would leave it.
  const Request request{.params = {.bias = {{1, 3.0f}, {2, 7.0f}, {1, 1e9f}, {1, -1e9f}, {2, -1.0f}}}};
  std::vector<float> logits(100, 0.0f);
  logits[50] = 2;
  expectAsOnProcessor(logits, {request}, "bias");
  logits[50] = 6.5f;
  test::equal(sampleOnDevice(logits, {request})[0].token, 50, "7 - 1 is less than 6.5");
}

TEST("cuda sample: a draw is the inverse of the cumulative distribution, exact beyond float32") {
  constexpr int kVocab = 40001;
  const std::vector<float> logits = randomFloats(kVocab, 19, 1);
  std::vector<float> weights(kVocab);
  const float highest = *std::max_element(logits.begin(), logits.end());
  const double total = cpu::rowKernels(Isa::portable)
                           .exponentials(logits.data(), kVocab, highest, 1 / 0.8f, -INFINITY, weights.data());
  std::vector<Request> requests;
  for (int position = 0; position < 40; ++position) {
    requests.push_back({.params = {.temperature = 0.8f, .seed = 9}, .position = position});
  }
  const auto outcomes = sampleOnDevice(repeatedRow(logits, requests.size()), requests);
  for (int position = 0; position < 40; ++position) {
    const std::int32_t token = outcomes[position].token;
    double before = 0;
    for (int other = 0; other < token; ++other) before += weights[other];
    const double u = uniform(9, static_cast<std::uint64_t>(position));
    isTrue(before / total < u + 1e-8 && (before + weights[token]) / total > u - 1e-8,
           "the token covers the number");
  }
}

TEST("cuda sample: frequencies are those of the distribution that the limits leave") {
  constexpr int kVocab = 50, kRows = 64, kCalls = 20;
  const std::vector<float> row = randomFloats(kVocab, 20, 1.5f);
  const std::vector<float> logits = repeatedRow(row, kRows);
  std::vector<std::int32_t> order(kVocab);
  for (int i = 0; i < kVocab; ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return row[a] > row[b]; });
  cuda::DeviceSampler sampler(kVocab, kRows);
  for (const SampleParams& limits :
       {SampleParams{.temperature = 1.2f}, SampleParams{.temperature = 1.2f, .topK = 12},
        SampleParams{.temperature = 1.2f, .topP = 0.8f}}) {
    std::vector<double> expected;
    double total = 0;
    for (const std::int32_t token : order) {
      expected.push_back(std::exp((double{row[token]} - row[order[0]]) / limits.temperature));
      total += expected.back();
    }
    std::size_t kept = limits.topK > 0 ? static_cast<std::size_t>(limits.topK) : 0;
    for (double sum = 0; limits.topK == 0 && kept < order.size() && sum < limits.topP * total; ++kept) {
      sum += expected[kept];
    }
    total = 0;
    for (std::size_t i = 0; i < kept; ++i) total += expected[i];

    std::map<std::int32_t, int> counts;
    std::vector<Request> requests(kRows, {.params = limits});
    for (int call = 0; call < kCalls; ++call) {
      for (int i = 0; i < kRows; ++i) requests[i].position = call * kRows + i;
      for (const SampleOutcome& outcome : sampleWith(sampler, logits, requests)) ++counts[outcome.token];
    }
    double chiSquare = 0, rareExpected = 0, rareSeen = 0;
    int cells = 0, seen = 0;
    for (std::size_t i = 0; i < kept; ++i) {
      const double want = expected[i] / total * kRows * kCalls, got = counts[order[i]];
      seen += counts[order[i]];
      if (want < 5) {
        rareExpected += want;
        rareSeen += got;
      } else {
        chiSquare += (got - want) * (got - want) / want;
        ++cells;
      }
    }
    if (rareExpected >= 5) {
      chiSquare += (rareSeen - rareExpected) * (rareSeen - rareExpected) / rareExpected;
      ++cells;
    }
    test::equal(seen, kRows * kCalls, "none is drawn beyond the limits");
    // The seeds are fixed: a pass stays a pass.
    const double freedom = cells - 1;
    isTrue(chiSquare < freedom + 4 * std::sqrt(2 * freedom),
           "chi-square " + std::to_string(chiSquare) + " with " + std::to_string(cells) + " cells");
  }
}

TEST("cuda sample: alone and in a crowd, the first time and later, the same to the last bit") {
  constexpr int kVocab = 5003;
  std::vector<Request> requests = everyLimit();
  for (std::size_t row = 0; row < requests.size(); ++row) {
    if (row % 3 == 0) requests[row].params.logprobs = static_cast<int>(row % 7);
    if (row % 4 == 1) requests[row].seen = seenTokens(100, kVocab);
    if (row % 4 == 1) requests[row].params.presencePenalty = 1;
  }
  const auto logits = randomFloats(requests.size() * kVocab, 21, 3);
  cuda::DeviceSampler sampler(kVocab, static_cast<int>(requests.size()));
  const auto crowd = sampleWith(sampler, logits, requests);
  for (std::size_t row = 0; row < requests.size(); row += 5) {
    const SampleOutcome alone = sampleWith(sampler, rowOf(logits, requests.size(), row), {requests[row]})[0];
    test::equal(alone.token, crowd[row].token, "token");
    test::equal(alone.logprob, crowd[row].logprob, "log probability");
    isTrue(alone.topTokens == crowd[row].topTokens && alone.topLogprobs == crowd[row].topLogprobs,
           "the best");
  }
}

TEST("cuda sample: logits that no token can be drawn from are refused by name, and the next are not") {
  constexpr int kVocab = 5000;
  cuda::DeviceSampler sampler(kVocab, 3);
  for (const SampleParams& params :
       {SampleParams{}, SampleParams{.temperature = 1}, SampleParams{.temperature = 1, .topK = 2},
        SampleParams{.temperature = 1, .topP = 0.5f, .topK = 200}, SampleParams{.logprobs = 1},
        SampleParams{.temperature = 1, .logprobs = 1, .bias = {{3, 1.0f}}}}) {
    const std::vector<Request> requests(3, {.params = params});
    const auto right = randomFloats(3 * kVocab, 22);
    for (const int at : {0, 4097, 4999}) {
      auto logits = right;
      logits[kVocab + at] = NAN;
      throws([&] { sampleWith(sampler, logits, requests); }, "the model produced NaN logits");
      logits[kVocab + at] = INFINITY;
      throws([&] { sampleWith(sampler, logits, requests); }, "the model produced infinite logits");
    }
    auto none = right;
    std::fill(none.begin(), none.begin() + kVocab, -INFINITY);
    throws([&] { sampleWith(sampler, none, requests); }, "no token may be drawn");
    cpu::Sampler processor(cpu::rowKernels(Isa::portable));
    const auto outcomes = sampleWith(sampler, right, requests);
    for (std::size_t row = 0; row < 3; ++row) {
      auto copy = rowOf(right, 3, row);
      expectSame(outcomes[row], processor.sample(copy, requests[row].view()), "afterwards");
    }
  }
  // What is suppressed may be anything.
  std::vector<Request> requests(1);
  requests[0].params.temperature = 1;
  requests[0].suppressed = {0, 2};
  isTrue(sampleOnDevice({NAN, 1, INFINITY, 1}, requests)[0].token % 2 == 1, "NaN and infinity suppressed");
  requests[0].suppressed = {0, 1, 2, 3};
  throws([&] { sampleOnDevice({NAN, 1, INFINITY, 1}, requests); }, "no token may be drawn");
  requests[0].suppressed.clear();
  requests[0].allowed = {0b1010};
  isTrue(sampleOnDevice({NAN, 1, INFINITY, 1}, requests)[0].token % 2 == 1, "NaN and infinity not allowed");
  requests[0].allowed = {0};
  throws([&] { sampleOnDevice({NAN, 1, INFINITY, 1}, requests); }, "suppressed or not allowed");
}

TEST("cuda sample: what is asked for in vain is refused by name") {
  const std::vector<float> logits(10, 1.0f);
  std::vector<Request> requests(1);
  requests[0].seen = {{10, 1}};
  throws([&] { sampleOnDevice(logits, requests); },
         "token 10 of the penalties is outside the vocabulary of 10");
  requests[0].seen.clear();
  requests[0].suppressed = {-1};
  throws([&] { sampleOnDevice(logits, requests); }, "token -1 of the suppressed");
  requests[0].suppressed.clear();
  requests[0].params.bias = {{12, 1.0f}};
  throws([&] { sampleOnDevice(logits, requests); }, "token 12 of the logit bias");
  requests[0].params.bias.clear();
  requests[0].allowed = {~0u, ~0u};
  throws([&] { sampleOnDevice(logits, requests); }, "a mask of allowed tokens does not fit the vocabulary");
  requests[0].allowed.clear();
  requests[0].params.logprobs = 65;
  throws([&] { sampleOnDevice(logits, requests); }, "up to 64");
  throws([&] { cuda::DeviceSampler(cuda::kMaxSampleVocab + 1, 1); }, "262145");
  cuda::DeviceSampler sampler(10, 1);
  throws([&] { sampleWith(sampler, repeatedRow(logits, 2), std::vector<Request>(2)); }, "up to 1 rows");
  test::equal(sampleWith(sampler, {}, {}).size(), std::size_t{0}, "no rows");
}

TEST("cuda logprobs: of targets and of the best, as on the processor") {
  for (const int vocab : {3, 4096, 20011}) {
    constexpr std::size_t kRows = 5;
    auto logits = randomFloats(kRows * static_cast<std::size_t>(vocab), 23, 4);
    // Equals in several parts, and a row with fewer tokens than are asked for.
    logits[0] = logits[vocab / 2] = logits[vocab - 1] = 30;
    for (int token = 2; token < vocab; ++token) logits[static_cast<std::size_t>(vocab) + token] = -INFINITY;
    const std::vector<std::int32_t> targets = {vocab / 2, -1, 0, vocab - 1, 1};
    DeviceArray<float> on(logits);
    cuda::DeviceSampler sampler(vocab, kRows);
    cpu::Sampler processor(cpu::rowKernels(Isa::portable));
    for (const int k : {0, 1, 5, 64}) {
      std::vector<SampleOutcome> outcomes(kRows);
      sampler.logprobs(on.data(), targets, k, outcomes, kStream);
      for (std::size_t row = 0; row < kRows; ++row) {
        expectSame(outcomes[row], processor.logprobs(rowOf(logits, kRows, row), targets[row], k),
                   "vocabulary of " + std::to_string(vocab) + ", row " + std::to_string(row));
      }
    }
    isTrue(on.read() == logits, "the logits stay");
    std::vector<SampleOutcome> outcomes(1);
    throws([&] { sampler.logprobs(on.data(), std::vector{vocab}, 0, outcomes, kStream); },
           "outside the vocabulary");
    logits[1] = NAN;
    DeviceArray<float> bad(logits);
    throws([&] { sampler.logprobs(bad.data(), std::vector{0}, 0, outcomes, kStream); }, "NaN");
  }
}

TEST("cuda sample: counts the tokens that the call before drew, whether they were seen already or not") {
  const std::size_t vocab = 5000, rows = 3;
  const std::int32_t carried[] = {1, 0, 2};  // rows of the first call, which draw 101, 100 and 102
  std::vector<float> logits = randomFloats(rows * vocab, 3), later = randomFloats(rows * vocab, 4);
  std::vector<Request> before(rows), requests(rows);
  for (std::size_t row = 0; row < rows; ++row) {
    logits[row * vocab + 100 + row] = 9;
    later[row * vocab + 100 + carried[row]] = 9;  // the best, until it is counted
    requests[row].params = {
        .presencePenalty = 3, .frequencyPenalty = 2, .repetitionPenalty = 1.5f, .logprobs = 2};
    if (row > 0) requests[row].seen = seenTokens(1000, vocab);  // every fifth
  }
  requests[2].params.bias = {{101, 1.0f}, {4999, 2.0f}};
  std::vector<SampleRequest> views, carrying;
  for (const Request& request : before) views.push_back(request.view());
  for (std::size_t row = 0; row < rows; ++row) {
    carrying.push_back(requests[row].view());
    carrying.back().carried = carried[row];
  }
  DeviceArray<float> on(logits), laterOn(later);
  cuda::DeviceSampler sampler(vocab, rows);
  cuda::SampleTransfer first, second;
  std::vector<SampleOutcome> drawn(rows), outcomes(rows);
  sampler.sample(on.data(), views, drawn, first, kStream);
  sampler.sample(laterOn.data(), carrying, outcomes, second, kStream);
  cuda::synchronize(kStream);
  first.report();
  second.report();
  cpu::Sampler expected(cpu::rowKernels(Isa::portable));
  for (std::size_t row = 0; row < rows; ++row) {
    const std::int32_t token = 100 + carried[row];
    test::equal(drawn[static_cast<std::size_t>(carried[row])].token, token, "drawn by the first call");
    std::vector<TokenCount>& seen = requests[row].seen;
    const auto found = std::ranges::find(seen, token, &TokenCount::token);
    test::equal(found != seen.end(), row == 1, "seen before");
    if (found != seen.end()) {
      ++found->inOutput;
    } else {
      seen.push_back({token, 1});
    }
    std::vector<float> copy = rowOf(later, rows, row);
    isTrue(outcomes[row].token != token, "the token counts");
    expectSame(outcomes[row], expected.sample(copy, requests[row].view()), "row " + std::to_string(row));
  }
}
