// Attention alone, on heads as Llama-3's have them: decode in GB/s of pages read, prefill in GFLOP/s of the
// products it must make (4 * headDim a row, head and visible token). Wall time beside CPU time, since the
// machine may be shared.
//
//   bench-attention [threads] [isa]

#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <random>
#include <vector>

#include "core/bf16.h"
#include "core/thread-team.h"
#include "cpu/attention/attention.h"
#include "cpu/cores.h"

using namespace tandem;

namespace {

constexpr AttentionShape kShape{32, 8, 128};
constexpr std::int64_t kCols = (kShape.heads + 2 * kShape.kvHeads) * kShape.headDim;
constexpr std::int64_t kOutCols = kShape.heads * kShape.headDim;

double cpuSeconds() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

struct Timing {
  double wall, cpu;
};

// Medians over repetitions that take about a second together, after one that is not counted.
Timing measure(const std::function<void()>& body) {
  using Clock = std::chrono::steady_clock;
  body();
  std::vector<double> walls, cpus;
  const auto begin = Clock::now();
  while (walls.size() < 5 || (Clock::now() - begin < std::chrono::seconds(1) && walls.size() < 1000)) {
    const auto start = Clock::now();
    const double cpu = cpuSeconds();
    body();
    cpus.push_back(cpuSeconds() - cpu);
    walls.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  const auto median = [](std::vector<double>& values) {
    std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
    return values[values.size() / 2];
  };
  return {median(walls), median(cpus)};
}

// The pages of one layer of some sequences, full of plausible values.
class Cache {
 public:
  Cache(PrecisionClass precision, int sequences, std::int64_t tokens)
      : format_{precision, kShape.kvHeads, kShape.headDim}, tables_(sequences) {
    const std::size_t pages = static_cast<std::size_t>((tokens + kPageTokens - 1) / kPageTokens);
    const std::size_t bytes = pages * sequences * format_.pageBytes();
    memory_.reset(static_cast<std::byte*>(::operator new(bytes, kHugePage)));
    // As the arena of the KV pool.
    madvise(memory_.get(), bytes, MADV_HUGEPAGE);
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    // One random page, repeated: drawing gigabytes of numbers would take longer than the measurement.
    std::vector<std::byte> page(format_.pageBytes());
    for (int head = 0; head < kShape.kvHeads; ++head) {
      for (std::size_t i = 0; i < 2 * format_.tileElements(); ++i) {
        if (precision == PrecisionClass::bf16) {
          const bf16 value = toBf16(normal(random));
          std::memcpy(page.data() + format_.keys(head) + 2 * i, &value, 2);
        } else {
          page[format_.keys(head) + i] = static_cast<std::byte>(random() % 255 - 127);
        }
      }
      if (precision == PrecisionClass::bf16) continue;
      const std::vector<float> scales(2 * kPageTokens, 0.01f);
      std::memcpy(page.data() + format_.keyScales(head), scales.data(), format_.scaleBytes());
    }
    for (std::size_t i = 0; i < pages * sequences; ++i) {
      std::byte* place = memory_.get() + i * format_.pageBytes();
      std::copy(page.begin(), page.end(), place);
      tables_[i / pages].push_back(place);
    }
  }

  KvView view(int sequence) const { return {format_, tables_[sequence]}; }

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

const char* nameOf(PrecisionClass precision) { return precision == PrecisionClass::bf16 ? "bf16" : "int8"; }

// One step of `count` tokens for each sequence, at the end of `tokens`.
Timing measureStep(Isa isa, ThreadTeam& team, const Cache& cache, int sequences, std::int64_t tokens,
                   std::int64_t count) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  std::vector<float> qkv(sequences * count * kCols), out(sequences * count * kOutCols);
  for (float& x : qkv) x = normal(random);
  std::vector<EntryRows> entries;
  std::vector<KvView> views;
  for (int i = 0; i < sequences; ++i) {
    entries.push_back({i * count, count, tokens - count});
    views.push_back(cache.view(i));
  }
  cpu::AttentionWorkspace workspace;
  const std::int64_t rows = sequences * count;
  return measure([&] {
    cpu::attention(isa, team, workspace, {qkv.data(), rows, kCols}, entries, views, kShape,
                   {out.data(), rows, kOutCols});
  });
}

}  // namespace

int main(int argc, char** argv) {
  const auto& cores = cpu::allowedCores();
  const int threads = argc > 1 ? std::clamp(std::atoi(argv[1]), 1, static_cast<int>(cores.size()))
                               : static_cast<int>(cores.size());
  const Isa isa = argc > 2 ? parseIsa(argv[2]) : availableIsas().front();
  ThreadTeam team(threads);
  team.pin(std::span(cores).first(threads));
  std::printf("%s, %d threads; 32 heads, 8 KV heads of 128\n", isaName(isa), threads);

  for (const PrecisionClass precision : {PrecisionClass::bf16, PrecisionClass::int8}) {
    for (const std::int64_t tokens : {1024, 8192}) {
      for (const int sequences : {1, 8}) {
        const Cache cache(precision, sequences, tokens);
        const Timing time = measureStep(isa, team, cache, sequences, tokens, 1);
        const double bytes = static_cast<double>(cache.bytes(sequences, tokens));
        std::printf("decode  %s  %5ld tokens x %d: %8.1f us, %6.1f GB/s (%5.1f GB per CPU second)\n",
                    nameOf(precision), static_cast<long>(tokens), sequences, 1e6 * time.wall,
                    1e-9 * bytes / time.wall, 1e-9 * bytes / time.cpu);
      }
    }
  }
  for (const PrecisionClass precision : {PrecisionClass::bf16, PrecisionClass::int8}) {
    for (const std::int64_t tokens : {512, 2048}) {
      const Cache cache(precision, 1, tokens);
      const Timing time = measureStep(isa, team, cache, 1, tokens, tokens);
      const double flop = 4.0 * kShape.headDim * kShape.heads * static_cast<double>(tokens) *
                          static_cast<double>(tokens + 1) / 2;
      std::printf("prefill %s  %5ld rows:       %8.1f us, %6.1f GFLOP/s (%5.1f GFLOP per CPU second)\n",
                  nameOf(precision), static_cast<long>(tokens), 1e6 * time.wall, 1e-9 * flop / time.wall,
                  1e-9 * flop / time.cpu);
    }
  }
}
