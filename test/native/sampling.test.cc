#include "cpu/sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

#include "check.h"
#include "core/random.h"
#include "cpu/sampling/adjust.h"

using namespace tandem;
using namespace tandem::cpu;
using namespace tandem::test;

namespace {

std::vector<float> randomLogits(std::size_t count, unsigned seed, float spread = 3) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

std::int32_t draw(Sampler& sampler, std::vector<float> logits, const SampleParams& params,
                  std::int64_t position = 0) {
  return sampler.sample(logits, {&params, position, {}, {}}).token;
}

// The distribution that the parameters ask for, in float64, by sorting everything.
std::map<std::int32_t, double> expectedDistribution(const std::vector<float>& logits,
                                                    const SampleParams& params) {
  std::vector<std::int32_t> order(logits.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int32_t>(i);
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return logits[a] > logits[b]; });
  if (params.topK > 0 && static_cast<std::size_t>(params.topK) < order.size()) order.resize(params.topK);
  std::vector<double> weights;
  double total = 0;
  for (const auto token : order) {
    weights.push_back(std::exp((static_cast<double>(logits[token]) - logits[order[0]]) / params.temperature));
    total += weights.back();
  }
  std::size_t kept = 0;
  for (double sum = 0; kept < order.size() && (kept == 0 || sum < params.topP * total); ++kept)
    sum += weights[kept];
  while (kept > 1 && weights[kept - 1] < params.minP) --kept;
  total = 0;
  for (std::size_t i = 0; i < kept; ++i) total += weights[i];
  std::map<std::int32_t, double> distribution;
  for (std::size_t i = 0; i < kept; ++i) distribution[order[i]] = weights[i] / total;
  return distribution;
}

// Pearson's test of draws at positions 0..n-1 against the expected distribution. The seeds are fixed, so a
// pass stays a pass; 4 standard deviations above the mean of chi-square is far from where a right sampler
// lands.
void expectDistribution(Sampler& sampler, const std::vector<float>& logits, const SampleParams& params,
                        const std::string& what, int draws = 8000) {
  const auto expected = expectedDistribution(logits, params);
  std::map<std::int32_t, int> counts;
  for (int position = 0; position < draws; ++position) {
    const std::int32_t token = draw(sampler, logits, params, position);
    isTrue(expected.contains(token), what + ": token " + std::to_string(token) + " must not be drawn");
    ++counts[token];
  }
  double chiSquare = 0, rareExpected = 0, rareSeen = 0;
  int cells = 0;
  const auto add = [&](double want, double seen) {
    chiSquare += (seen - want) * (seen - want) / want;
    ++cells;
  };
  for (const auto& [token, probability] : expected) {
    const double want = probability * draws, seen = counts[token];
    if (want >= 5) {
      add(want, seen);
    } else {
      rareExpected += want;
      rareSeen += seen;
    }
  }
  if (rareExpected >= 5) add(rareExpected, rareSeen);
  if (cells < 2) return;
  const double freedom = cells - 1;
  isTrue(chiSquare < freedom + 4 * std::sqrt(2 * freedom) + 4,
         what + ": chi-square " + std::to_string(chiSquare) + " with " + std::to_string(cells) + " cells");
}

}  // namespace

TEST("sampling: temperature 0 takes the best token, the lowest id among equals") {
  for (const Isa isa : availableIsas()) {
    Sampler sampler(rowKernels(isa));
    for (const std::size_t vocab : {1, 7, 64, 65, 1000, 128256}) {
      std::vector<float> logits = randomLogits(vocab, 1);
      for (const std::size_t best : {std::size_t{0}, vocab / 2, vocab - 1}) {
        std::vector<float> row = logits;
        row[best] = 50;
        row[vocab - 1] = 50;
        test::equal(draw(sampler, row, {}), static_cast<std::int32_t>(best), isaName(isa));
      }
    }
  }
}

TEST("sampling: draws follow the distribution of every combination of limits") {
  const std::vector<float> logits = randomLogits(300, 2, 2);
  for (const Isa isa : availableIsas()) {
    Sampler sampler(rowKernels(isa));
    const auto check = [&](const char* what, SampleParams params) {
      params.seed = 42;
      expectDistribution(sampler, logits, params, std::string(isaName(isa)) + ", " + what);
    };
    check("temperature 1", {.temperature = 1});
    check("temperature 0.5", {.temperature = 0.5f});
    check("temperature 2", {.temperature = 2});
    check("top-k", {.temperature = 1, .topK = 10});
    check("top-k of 1", {.temperature = 1, .topK = 1});
    check("top-k above the vocabulary", {.temperature = 1, .topK = 5000});
    check("top-p", {.temperature = 1, .topP = 0.7f});
    check("tiny top-p", {.temperature = 1, .topP = 1e-6f});
    check("min-p", {.temperature = 1, .minP = 0.1f});
    check("top-k and top-p", {.temperature = 1.3f, .topP = 0.8f, .topK = 20});
    check("all", {.temperature = 1.5f, .topP = 0.9f, .topK = 50, .minP = 0.02f});
  }
}

TEST("sampling: a flat distribution needs more candidates than are tried first") {
  Sampler sampler(rowKernels(availableIsas().front()));
  expectDistribution(sampler, randomLogits(3000, 3, 0.2f), {.temperature = 1, .topP = 0.95f, .seed = 1},
                     "flat top-p", 30000);
  expectDistribution(sampler, randomLogits(3000, 3, 0.2f), {.temperature = 1, .seed = 1}, "flat", 30000);
}

TEST("sampling: a draw is the inverse of the cumulative distribution in the order of token ids") {
  const std::vector<float> logits = randomLogits(40000, 12, 2);
  for (const Isa isa : availableIsas()) {
    Sampler sampler(rowKernels(isa));
    for (const SampleParams& params :
         {SampleParams{.temperature = 1, .seed = 5}, SampleParams{.temperature = 1, .topK = 9000, .seed = 5},
          SampleParams{.temperature = 0.8f, .topP = 0.9f, .seed = 5},
          SampleParams{.temperature = 1, .minP = 0.01f, .seed = 5}}) {
      const auto distribution = expectedDistribution(logits, params);
      for (int position = 0; position < 40; ++position) {
        const std::int32_t token = draw(sampler, logits, params, position);
        isTrue(distribution.contains(token), "the token is within the limits");
        double before = 0;
        for (const auto& [other, probability] : distribution) before += other < token ? probability : 0;
        const double u = uniform(5, position);
        isTrue(u > before - 1e-5 && u < before + distribution.at(token) + 1e-5,
               "the token covers the number");
      }
    }
  }
}

TEST("sampling: equal logits at the limit are kept by lower id") {
  Sampler sampler(rowKernels(availableIsas().front()));
  const std::vector<float> logits(600, 1.0f);
  for (int position = 0; position < 200; ++position) {
    isTrue(draw(sampler, logits, {.temperature = 1, .topK = 3}, position) < 3, "top-k");
    isTrue(draw(sampler, logits, {.temperature = 1, .topP = 0.01f}, position) < 6, "top-p");
  }
}

TEST("sampling: a draw depends on seed and position alone") {
  const std::vector<float> logits = randomLogits(2000, 4, 1);
  Sampler one(rowKernels(availableIsas().front())), other(rowKernels(availableIsas().front()));
  SampleParams params{.temperature = 1};
  int differentSeed = 0, differentPosition = 0;
  for (int i = 0; i < 100; ++i) {
    params.seed = 7;
    const std::int32_t token = draw(one, logits, params, i);
    draw(other, randomLogits(50, 5), params, i + 1);
    test::equal(draw(other, logits, params, i), token, "the same seed and position");
    differentPosition += draw(one, logits, params, i + 1000) != token;
    params.seed = 8;
    differentSeed += draw(one, logits, params, i) != token;
  }
  isTrue(differentSeed > 90 && differentPosition > 90, "others differ");
}

TEST("sampling: uniform numbers fill [0, 1) evenly over positions and over seeds") {
  int byPosition[16] = {}, bySeed[16] = {}, byBoth[16] = {};
  for (std::uint64_t i = 0; i < 16000; ++i) {
    ++byPosition[static_cast<int>(uniform(3, i) * 16)];
    ++bySeed[static_cast<int>(uniform(i, 3) * 16)];
    ++byBoth[static_cast<int>(uniform(i, i) * 16)];
  }
  for (const auto& counts : {byPosition, bySeed, byBoth}) {
    for (int cell = 0; cell < 16; ++cell) near(counts[cell], 1000, 130, "cell " + std::to_string(cell));
  }
}

TEST("sampling: a temperature too small for its inverse leaves the best token") {
  Sampler sampler(rowKernels(availableIsas().front()));
  std::vector<float> logits = randomLogits(100, 6);
  logits[31] = 20;
  test::equal(draw(sampler, logits, {.temperature = 1e-42f}), 31, "token");
}

TEST("sampling: each penalty, the bias and suppression change logits as documented") {
  std::vector<float> logits = {2, -2, 1, 0.5f, 3, 4};
  SampleParams params;
  params.repetitionPenalty = 2;
  params.frequencyPenalty = 0.25f;
  params.presencePenalty = 0.5f;
  params.bias = {{3, 1.5f}, {0, -1.0f}};
  const std::vector<TokenCount> seen = {{0, 3}, {1, 1}, {4, 0}};
  const std::vector<std::int32_t> suppressed = {5};
  adjustLogits(logits, {&params, 0, seen, suppressed});
  near(logits[0], 2 / 2.0 - 3 * 0.25 - 0.5 - 1, 1e-6, "repeated, counted thrice, biased");
  near(logits[1], -2 * 2.0 - 0.25 - 0.5, 1e-6, "negative logits move down too");
  near(logits[2], 1, 0, "unseen");
  near(logits[3], 2, 0, "biased");
  near(logits[4], 1.5, 0, "in the prompt only: repetition alone");
  test::equal(logits[5], -INFINITY, "suppressed");
}

TEST("sampling: suppressed tokens are never drawn, and none left is an error") {
  Sampler sampler(rowKernels(availableIsas().front()));
  const std::vector<std::int32_t> suppressed = {0, 2};
  for (const SampleParams& params :
       {SampleParams{}, SampleParams{.temperature = 1}, SampleParams{.temperature = 1, .topK = 2},
        SampleParams{.temperature = 1, .topP = 0.99f}}) {
    std::vector<float> logits = {5, 1, 5};
    test::equal(sampler.sample(logits, {&params, 1, {}, suppressed}).token, 1, "the one that is left");
    std::vector<float> none = {5, -INFINITY, 5};
    throws([&] { sampler.sample(none, {&params, 1, {}, suppressed}); }, "no token may be drawn");
  }
}

TEST("sampling: NaN and infinity are refused by name wherever they stand") {
  for (const Isa isa : availableIsas()) {
    Sampler sampler(rowKernels(isa));
    for (const std::size_t at : {0, 63, 64, 199}) {
      for (const SampleParams& params :
           {SampleParams{}, SampleParams{.temperature = 1, .topK = 2}, SampleParams{.logprobs = 1}}) {
        std::vector<float> logits = randomLogits(200, 7);
        logits[at] = NAN;
        throws([&] { sampler.sample(logits, {&params, 0, {}, {}}); }, "the model produced NaN logits");
        logits[at] = INFINITY;
        throws([&] { sampler.sample(logits, {&params, 0, {}, {}}); }, "the model produced infinite logits");
      }
    }
  }
}

TEST("sampling: tokens outside the vocabulary are refused by name") {
  Sampler sampler(rowKernels(Isa::portable));
  std::vector<float> logits(10);
  SampleParams params;
  const std::vector<TokenCount> seen = {{10, 1}};
  throws([&] { sampler.sample(logits, {&params, 0, seen, {}}); }, "token 10 of the penalties");
  const std::vector<std::int32_t> suppressed = {-1};
  throws([&] { sampler.sample(logits, {&params, 0, {}, suppressed}); }, "token -1 of the suppressed");
  params.bias = {{12, 1.0f}};
  throws([&] { sampler.sample(logits, {&params, 0, {}, {}}); }, "token 12 of the logit bias");
}

TEST("logprobs: of the unmodified distribution, in float64, best first and ties by lower id") {
  for (const Isa isa : availableIsas()) {
    Sampler sampler(rowKernels(isa));
    std::vector<float> logits = randomLogits(5000, 8);
    logits[40] = logits[17] = logits[4000] = 15;
    double total = 0;
    for (const float logit : logits) total += std::exp(static_cast<double>(logit));
    const auto lnP = [&](std::int32_t token) { return static_cast<double>(logits[token]) - std::log(total); };

    const SampleOutcome scored = sampler.logprobs(logits, 123, 5);
    near(scored.logprob, lnP(123), 2e-6 * std::abs(lnP(123)), "target");
    test::equal(scored.topTokens.size(), std::size_t{5}, "count");
    test::equal(scored.topTokens[0], 17, "tie");
    test::equal(scored.topTokens[1], 40, "tie");
    test::equal(scored.topTokens[2], 4000, "tie");
    for (int i = 0; i < 5; ++i) near(scored.topLogprobs[i], lnP(scored.topTokens[i]), 2e-6, "top");

    SampleParams params{.repetitionPenalty = 3, .logprobs = 2};
    const std::vector<TokenCount> seen = {{17, 1}, {40, 2}};
    std::vector<float> row = logits;
    const SampleOutcome sampled = sampler.sample(row, {&params, 0, seen, {}});
    test::equal(sampled.token, 4000, "the penalties changed the choice");
    near(sampled.logprob, lnP(4000), 2e-6, "its probability is the model's own");
    test::equal(sampled.topTokens[0], 17, "and so are the best");
    test::equal(sampler.logprobs(logits, -1, 0).topTokens.size(), std::size_t{0}, "none asked for");
  }
}

TEST("selection: equals a full sort, for few and many, distinct and equal values") {
  std::mt19937 random(9);
  for (const Isa isa : availableIsas()) {
    const RowKernels kernels = rowKernels(isa);
    for (const bool coarse : {false, true}) {
      std::vector<float> row = randomLogits(3001, 10);
      for (float& value : row) {
        if (coarse) value = std::round(value);
      }
      std::vector<Candidate> all;
      for (std::size_t i = 0; i < row.size(); ++i) all.push_back({row[i], static_cast<std::int32_t>(i)});
      std::sort(all.begin(), all.end(), better);
      for (const std::size_t k : {0, 1, 2, 20, 700, 3001, 9999}) {
        std::vector<Candidate> best;
        selectBest(kernels, row, k, best);
        test::equal(best.size(), std::min(k, row.size()), "count");
        for (std::size_t i = 0; i < best.size(); ++i) test::equal(best[i].token, all[i].token, "token");
      }
    }
  }
}

TEST("sampling: draws only allowed tokens, with logprobs of the unmodified distribution") {
  std::vector<float> logits = randomLogits(1000, 5);
  std::vector<std::uint32_t> allowed(32, 0);
  const std::vector<std::int32_t> tokens{3, 31, 32, 640, 999};
  for (const std::int32_t token : tokens) allowed[token / 32] |= 1u << (token % 32);
  for (const Isa isa : availableIsas()) {
    Sampler sampler(rowKernels(isa));
    SampleParams params;
    params.temperature = 2;
    std::map<std::int32_t, int> drawn;
    for (int position = 0; position < 2000; ++position) {
      std::vector<float> row = logits;
      ++drawn[sampler.sample(row, {&params, position, {}, {}, allowed}).token];
    }
    test::equal(drawn.size(), tokens.size(), "each allowed token is drawn, and no other");
    for (const std::int32_t token : tokens) isTrue(drawn[token] > 0, "token " + std::to_string(token));

    params.temperature = 0;
    params.logprobs = 2;
    std::vector<float> row = logits;
    const SampleOutcome best = sampler.sample(row, {&params, 0, {}, {}, allowed});
    test::equal(best.token, *std::ranges::max_element(tokens, {}, [&](auto token) { return logits[token]; }),
                "best");
    std::vector<float> free = logits;
    const SampleOutcome unmasked = sampler.logprobs(free, best.token, 2);
    test::equal(best.logprob, unmasked.logprob, "its logprob among all tokens");
    isTrue(best.topTokens == unmasked.topTokens, "the likeliest of all tokens");
  }
  SampleParams params;
  Sampler sampler(rowKernels(Isa::portable));
  const std::vector<std::uint32_t> none(32, 0), tooShort(31, 1);
  std::vector<float> row = logits;
  throws([&] { sampler.sample(row, {&params, 0, {}, {}, none}); }, "suppressed or not allowed");
  row = logits;
  throws([&] { sampler.sample(row, {&params, 0, {}, {}, tooShort}); }, "does not fit the vocabulary");
}
