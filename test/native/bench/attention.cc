// Attention alone, on heads as Llama-3's have them (32 heads, 8 KV heads of 128), and decode also on heads
// that share no KV head, as Llama-2's: decode in GB/s of pages read, where the ratio to bf16's is how much of
// what a class saves in bytes it saves in time; prefill in GFLOP/s of the products it must make (4 * headDim
// a row, head and visible token). Prints a line of JSON a measurement; `tandem bench attention` reads them.
//
//   bench-attention [threads, 0: all] [isa]

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "core/bf16.h"
#include "core/thread-team.h"
#include "cpu/attention/attention.h"
#include "cpu/cores.h"

using namespace tandem;

namespace {

constexpr AttentionShape kShared{32, 8, 128}, kUnshared{32, 32, 128};

// Medians of the seconds of each in alternation, which takes about two seconds together, after one that is
// not counted.
std::vector<double> measure(const std::vector<std::function<void()>>& bodies) {
  using Clock = std::chrono::steady_clock;
  for (const auto& body : bodies) body();
  std::vector<std::vector<double>> times(bodies.size());
  const auto begin = Clock::now();
  while (times[0].size() < 5 || (Clock::now() - begin < std::chrono::seconds(2) && times[0].size() < 1000)) {
    for (std::size_t i = 0; i < bodies.size(); ++i) {
      const auto start = Clock::now();
      bodies[i]();
      times[i].push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
  }
  std::vector<double> medians;
  for (std::vector<double>& each : times) {
    std::nth_element(each.begin(), each.begin() + each.size() / 2, each.end());
    medians.push_back(each[each.size() / 2]);
  }
  return medians;
}

// The pages of one layer of some sequences, full of plausible values.
class Cache {
 public:
  Cache(const AttentionShape& shape, PrecisionClass precision, int sequences, std::int64_t tokens)
      : format_{precision, shape.kvHeads, shape.headDim}, tables_(sequences) {
    const std::size_t pages = static_cast<std::size_t>((tokens + kPageTokens - 1) / kPageTokens);
    const std::size_t bytes = pages * sequences * format_.pageBytes();
    memory_.reset(static_cast<std::byte*>(::operator new(bytes, kHugePage)));
    // As the arena of the KV pool.
    madvise(memory_.get(), bytes, MADV_HUGEPAGE);
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    // One random page, repeated: drawing gigabytes of numbers would take longer than the measurement.
    std::vector<std::byte> page(format_.pageBytes());
    for (std::byte& byte : page) byte = static_cast<std::byte>(random() % 255 - 127);
    for (int head = 0; head < shape.kvHeads; ++head) {
      std::byte* scales = page.data() + format_.keyScales(head);
      const std::size_t scaleBytes = format_.keyScaleBytes() + format_.valueScaleBytes();
      if (precision == PrecisionClass::bf16) {
        for (std::size_t i = 0; i < 2 * format_.tileElements(); ++i) {
          const bf16 value = toBf16(normal(random));
          std::memcpy(page.data() + format_.keys(head) + 2 * i, &value, 2);
        }
      } else if (precision == PrecisionClass::int8) {
        const std::vector<float> all(scaleBytes / sizeof(float), 0.01f);
        std::memcpy(scales, all.data(), scaleBytes);
      } else {
        const std::vector<bf16> all(scaleBytes / sizeof(bf16),
                                    toBf16(precision == PrecisionClass::int4 ? 0.3f : 1));
        std::memcpy(scales, all.data(), scaleBytes);
      }
    }
    for (std::size_t i = 0; i < pages * sequences; ++i) {
      std::byte* place = memory_.get() + i * format_.pageBytes();
      std::copy(page.begin(), page.end(), place);
      tables_[i / pages].push_back(place);
    }
  }

  KvView view(int sequence) const { return {format_, tables_[sequence], {}}; }

  std::size_t bytes(int sequences, std::int64_t tokens) const {
    return sequences * static_cast<std::size_t>(tokens) / kPageTokens * format_.pageBytes();
  }

 private:
  static constexpr std::align_val_t kHugePage{2 << 20};
  struct Free {
    void operator()(std::byte* memory) const { ::operator delete(memory, kHugePage); }
  };

  PageFormat format_;
  std::unique_ptr<std::byte, Free> memory_;
  std::vector<std::vector<std::byte*>> tables_;
};

// Steps of `count` tokens for each sequence, at the end of `tokens`; by cache.
std::vector<double> measureSteps(Isa isa, ThreadTeam& team, const AttentionShape& shape,
                                 const std::vector<Cache>& caches, int sequences, std::int64_t tokens,
                                 std::int64_t count) {
  const std::int64_t cols = std::int64_t{shape.heads + 2 * shape.kvHeads} * shape.headDim;
  const std::int64_t outCols = std::int64_t{shape.heads} * shape.headDim;
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  std::vector<float> qkv(sequences * count * cols), out(sequences * count * outCols);
  for (float& x : qkv) x = normal(random);
  cpu::AttentionWorkspace workspace;
  const std::int64_t rows = sequences * count;
  std::vector<std::function<void()>> steps;
  for (const Cache& cache : caches) {
    steps.push_back([&] {
      std::vector<EntryRows> entries;
      std::vector<KvView> views;
      for (int i = 0; i < sequences; ++i) {
        entries.push_back({i * count, count, tokens - count});
        views.push_back(cache.view(i));
      }
      cpu::attention(isa, team, workspace, {qkv.data(), rows, cols}, entries, views, shape,
                     {out.data(), rows, outCols});
    });
  }
  return measure(steps);
}

std::vector<Cache> cachesOf(const AttentionShape& shape, int sequences, std::int64_t tokens) {
  std::vector<Cache> caches;
  for (const PrecisionClass precision : kPrecisionClasses) {
    caches.emplace_back(shape, precision, sequences, tokens);
  }
  return caches;
}

// One measurement of every class, beside bf16's. amount: what each does in a step
void printRows(const std::string& what, const char* unit, const std::vector<double>& seconds,
               const std::vector<double>& amounts) {
  const double baseline = amounts[0] / seconds[0];
  for (std::size_t i = 0; i < seconds.size(); ++i) {
    const std::string beside = i == 0 ? "null" : std::to_string(1e-9 * baseline);
    std::printf("{\"name\":\"%s of %s\",\"value\":%f,\"unit\":\"%s\",\"baseline\":%s}\n", what.c_str(),
                nameOf(kPrecisionClasses[i]), 1e-9 * amounts[i] / seconds[i], unit, beside.c_str());
  }
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const auto& cores = cpu::allowedCores();
  const int most = static_cast<int>(cores.size()), asked = argc > 1 ? std::atoi(argv[1]) : 0;
  const int threads = asked > 0 ? std::min(asked, most) : most;
  const Isa isa = argc > 2 ? parseIsa(argv[2]) : availableIsas().front();
  ThreadTeam team(threads);
  team.pin(std::span(cores).first(threads));

  const auto decode = [&](const AttentionShape& shape, int sequences, std::int64_t tokens,
                          const std::string& heads) {
    const std::vector<Cache> caches = cachesOf(shape, sequences, tokens);
    std::vector<double> bytes;
    for (const Cache& cache : caches) bytes.push_back(static_cast<double>(cache.bytes(sequences, tokens)));
    printRows("decode, " + std::to_string(sequences) + " x " + std::to_string(tokens) + " tokens" + heads,
              "GB/s", measureSteps(isa, team, shape, caches, sequences, tokens, 1), bytes);
  };
  for (const std::int64_t tokens : {1024, 8192}) {
    for (const int sequences : {1, 8}) decode(kShared, sequences, tokens, "");
  }
  decode(kUnshared, 1, 8192, " on 32 KV heads");
  for (const std::int64_t tokens : {512, 2048}) {
    const std::vector<Cache> caches = cachesOf(kShared, 1, tokens);
    const double flop = 4.0 * kShared.headDim * kShared.heads * static_cast<double>(tokens) *
                        static_cast<double>(tokens + 1) / 2;
    printRows("prefill, " + std::to_string(tokens) + " rows", "GFLOP/s",
              measureSteps(isa, team, kShared, caches, 1, tokens, tokens),
              std::vector<double>(caches.size(), flop));
  }
}
