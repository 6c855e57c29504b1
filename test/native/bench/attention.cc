// Attention alone, on heads as Llama-3's have them: decode in GB/s of pages read, and how much of what a
// class saves in bytes against bf16 it saves in time; prefill in GFLOP/s of the products it must make (4 *
// headDim a row, head and visible token). Wall time beside CPU time, since the machine may be shared.
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

// Medians over repetitions in alternation, which take about two seconds together, after one that is not
// counted.
std::vector<Timing> measure(const std::vector<std::function<void()>>& bodies) {
  using Clock = std::chrono::steady_clock;
  for (const auto& body : bodies) body();
  std::vector<std::vector<double>> walls(bodies.size()), cpus(bodies.size());
  const auto begin = Clock::now();
  while (walls[0].size() < 5 || (Clock::now() - begin < std::chrono::seconds(2) && walls[0].size() < 1000)) {
    for (std::size_t i = 0; i < bodies.size(); ++i) {
      const auto start = Clock::now();
      const double cpu = cpuSeconds();
      bodies[i]();
      cpus[i].push_back(cpuSeconds() - cpu);
      walls[i].push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
  }
  const auto median = [](std::vector<double>& values) {
    std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
    return values[values.size() / 2];
  };
  std::vector<Timing> timings;
  for (std::size_t i = 0; i < bodies.size(); ++i) timings.push_back({median(walls[i]), median(cpus[i])});
  return timings;
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
    for (std::byte& byte : page) byte = static_cast<std::byte>(random() % 255 - 127);
    for (int head = 0; head < kShape.kvHeads; ++head) {
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
std::vector<Timing> measureSteps(Isa isa, ThreadTeam& team, const std::vector<Cache>& caches, int sequences,
                                 std::int64_t tokens, std::int64_t count) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  std::vector<float> qkv(sequences * count * kCols), out(sequences * count * kOutCols);
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
      cpu::attention(isa, team, workspace, {qkv.data(), rows, kCols}, entries, views, kShape,
                     {out.data(), rows, kOutCols});
    });
  }
  return measure(steps);
}

std::vector<Cache> cachesOf(int sequences, std::int64_t tokens) {
  std::vector<Cache> caches;
  for (const PrecisionClass precision : kPrecisionClasses) caches.emplace_back(precision, sequences, tokens);
  return caches;
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

  for (const std::int64_t tokens : {1024, 8192}) {
    for (const int sequences : {1, 8}) {
      const std::vector<Cache> caches = cachesOf(sequences, tokens);
      const std::vector<Timing> times = measureSteps(isa, team, caches, sequences, tokens, 1);
      for (std::size_t i = 0; i < caches.size(); ++i) {
        const double bytes = static_cast<double>(caches[i].bytes(sequences, tokens));
        const double speed = times[0].wall / times[i].wall;
        const double fewer = static_cast<double>(caches[0].bytes(sequences, tokens)) / bytes;
        std::printf(
            "decode  %s  %5ld tokens x %d: %8.1f us, %6.1f GB/s (%5.1f GB per CPU second); %.2f x bf16 of "
            "%.2f x fewer bytes: %.2f\n",
            nameOf(kPrecisionClasses[i]), static_cast<long>(tokens), sequences, 1e6 * times[i].wall,
            1e-9 * bytes / times[i].wall, 1e-9 * bytes / times[i].cpu, speed, fewer, speed / fewer);
      }
    }
  }
  for (const std::int64_t tokens : {512, 2048}) {
    const std::vector<Cache> caches = cachesOf(1, tokens);
    const std::vector<Timing> times = measureSteps(isa, team, caches, 1, tokens, tokens);
    const double flop = 4.0 * kShape.headDim * kShape.heads * static_cast<double>(tokens) *
                        static_cast<double>(tokens + 1) / 2;
    for (std::size_t i = 0; i < caches.size(); ++i) {
      std::printf("prefill %s  %5ld rows:       %8.1f us, %6.1f GFLOP/s (%5.1f GFLOP per CPU second)\n",
                  nameOf(kPrecisionClasses[i]), static_cast<long>(tokens), 1e6 * times[i].wall,
                  1e-9 * flop / times[i].wall, 1e-9 * flop / times[i].cpu);
    }
  }
}
