// Times each kernel against the copy bandwidth of the same run.
//
//   gpu-bench FILE.json [seconds] [part of a name]
//
// A memory-bound kernel's ratio is of copy bandwidth, counting what it must read and write; for a matmul of
// more than 64 rows the value is FLOP/s. PyTorch's times of the same shapes come from torch-baselines.py.

#include <cstdlib>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "cuda/append-kv.h"
#include "cuda/argmax.h"
#include "cuda/decode-attention.h"
#include "cuda/gather-pages.h"
#include "cuda/matmul-plan.h"
#include "cuda/matmul.h"
#include "cuda/outline-pages.h"
#include "cuda/partition-attention.h"
#include "cuda/partition-runs.h"
#include "cuda/prefill-attention.h"
#include "cuda/probe.h"
#include "cuda/random.h"
#include "cuda/requantize.h"
#include "cuda/rms-norm.h"
#include "cuda/runtime.h"
#include "cuda/sample.h"
#include "cuda/score-pages.h"
#include "cuda/select-pages.h"
#include "cuda/swiglu.h"
#include "gpu/device.h"
#include "gpu/json.h"
#include "gpu/measure.h"
#include "gpu/random-weight.h"
#include "gpu/synthetic-model.h"

using namespace tandem;
using namespace tandem::gpu;
using test::DeviceArray;
using test::kStream;

namespace {

class Bench {
 public:
  Bench(double seconds, std::string only) : end_(now() + seconds), only_(std::move(only)) {
    const std::size_t bytes = kTiny ? 1 << 20 : std::size_t{1} << 30;
    DeviceArray<std::byte> from(bytes), to(bytes);
    const double time =
        secondsOf(kStream, 0.2, [&] { test::copyOnDevice(to.data(), from.data(), bytes, kStream); });
    copyBytesPerSecond_ = 2 * static_cast<double>(bytes) / time;
    rows_.push_back({"copy on the device, read and written", 1e-9 * copyBytesPerSecond_, "GB/s"});
  }

  // A kernel that moves so many bytes. What no time is left for is named and left out.
  void memoryBound(const std::string& name, double bytes, const std::function<void()>& enqueue) {
    if (!isWanted(name)) return;
    const double rate = bytes / secondsOf(kStream, kBudget, enqueue);
    rows_.push_back({name, 1e-9 * rate, "GB/s", 1e-9 * copyBytesPerSecond_, rate / copyBytesPerSecond_});
  }

  // Seconds, to be compared with another program's.
  void timed(const std::string& name, const std::function<void()>& enqueue) {
    if (!isWanted(name)) return;
    rows_.push_back({name, 1e6 * secondsOf(kStream, kBudget, enqueue), "us"});
  }

  void computeBound(const std::string& name, double flop, const std::function<void()>& enqueue) {
    if (!isWanted(name)) return;
    rows_.push_back({name, 1e-12 * flop / secondsOf(kStream, kBudget, enqueue), "TFLOP/s"});
  }

  std::string json(const OpenDevice& device) const {
    std::vector<std::string> rows, skipped;
    for (const Row& row : rows_) rows.push_back(row.json());
    for (const std::string& name : skipped_) skipped.push_back(quoted(name));
    return "{\"device\": " + quoted(device.name) + ", \"driver\": " + quoted(device.driverVersion) +
           ",\n \"rows\": " + list(rows, ",\n  ") + ",\n \"skipped\": " + list(skipped) + "}\n";
  }

 private:
  // Notes what is not measured because no time is left.
  bool isWanted(const std::string& name) {
    if (name.find(only_) == std::string::npos) return false;
    if (now() <= end_) return true;
    skipped_.push_back(name);
    return false;
  }

  static constexpr double kBudget = kTiny ? 0.001 : 0.15;

  double end_;
  std::string only_;
  double copyBytesPerSecond_ = 0;
  std::vector<Row> rows_;
  std::vector<std::string> skipped_;
};

void benchRows(Bench& bench) {
  const int rows = kTiny ? 4 : 4096, hidden = kShape.hidden, ffn = kShape.ffn;
  const auto elements = static_cast<std::size_t>(rows) * hidden;
  const auto pattern = test::randomBf16s(1 << 12, 1);
  DeviceArray<bf16> x = test::repeated(pattern, elements), delta = test::repeated(pattern, elements),
                    out(elements);
  DeviceArray<float> gain(std::vector<float>(static_cast<std::size_t>(hidden), 1.0f));
  const std::string size = std::to_string(rows) + " x ";
  bench.memoryBound("rmsNorm " + size + std::to_string(hidden), 4.0 * static_cast<double>(elements), [&] {
    cuda::rmsNorm({x.data(), nullptr, gain.data(), out.data(), rows, hidden, 1e-5f}, kStream);
  });
  bench.memoryBound(
      "rmsNorm with residual " + size + std::to_string(hidden), 8.0 * static_cast<double>(elements), [&] {
        cuda::rmsNorm({x.data(), delta.data(), gain.data(), out.data(), rows, hidden, 1e-5f}, kStream);
      });
  bench.timed("rmsNorm 1 row, one after another: a launch", [&] {
    cuda::rmsNorm({x.data(), nullptr, gain.data(), out.data(), 1, hidden, 1e-5f}, kStream);
  });
  const auto gates = static_cast<std::size_t>(rows) * ffn;
  DeviceArray<bf16> gateUp = test::repeated(pattern, 2 * gates), gated(gates);
  bench.memoryBound("swiGlu " + size + std::to_string(ffn), 6.0 * static_cast<double>(gates), [&] {
    cuda::swiGlu({gateUp.data(), nullptr, gated.data(), rows, ffn}, kStream);
  });
}

void benchArgmax(Bench& bench) {
  const int rows = kTiny ? 2 : 64;
  const auto elements = static_cast<std::size_t>(rows) * kShape.vocab;
  DeviceArray<float> logits = test::repeated(test::randomFloats(1 << 12, 2), elements);
  DeviceArray<std::uint64_t> parts(cuda::argmaxScratch(rows, kShape.vocab) / sizeof(std::uint64_t));
  DeviceArray<std::int32_t> tokens(static_cast<std::size_t>(rows));
  bench.memoryBound("argmax " + std::to_string(rows) + " x " + std::to_string(kShape.vocab),
                    4.0 * static_cast<double>(elements), [&] {
                      cuda::argmax({logits.data(), parts.data(), tokens.data(), rows, kShape.vocab}, kStream);
                    });
}

// Calls as a step makes them, with what they upload and download and their wait; counting the logits once.
void benchSampler(Bench& bench) {
  struct Kind {
    const char* name;
    SampleParams params;
  };
  for (const int rows : kTiny ? std::vector<int>{2} : std::vector<int>{1, 64}) {
    const auto count = static_cast<std::size_t>(rows);
    DeviceArray<float> logits = test::repeated(test::randomFloats(1 << 16, 6, 3), count * kShape.vocab);
    cuda::DeviceSampler sampler(kShape.vocab, rows);
    for (const auto& [name, params] :
         {Kind{"greedy", {}}, Kind{"temperature", {.temperature = 0.7f}},
          Kind{"top-k 20 and top-p", {.temperature = 0.7f, .topP = 0.9f, .topK = 20}},
          Kind{"top-p 0.9", {.temperature = 0.7f, .topP = 0.9f}}, Kind{"5 logprobs", {.logprobs = 5}}}) {
      std::vector<SampleRequest> requests(count, {&params, 0, {}, {}});
      for (std::size_t row = 0; row < count; ++row) requests[row].position = static_cast<std::int64_t>(row);
      std::vector<SampleOutcome> outcomes(count);
      bench.memoryBound(std::string("DeviceSampler ") + name + " " + std::to_string(rows) + " x " +
                            std::to_string(kShape.vocab),
                        4.0 * static_cast<double>(logits.size()),
                        [&] { sampler.sample(logits.data(), requests, outcomes, kStream); });
    }
  }
}

void benchAttention(Bench& bench) {
  struct Load {
    int sequences, tokens;
  };
  const std::vector<Load> loads = kTiny ? std::vector<Load>{{2, 64}, {1, 544}}
                                        : std::vector<Load>{{64, 8192}, {16, 2048}, {1, 8192}, {1, 32768}};
  Shape shape = kShape;
  shape.layers = 1;
  for (const PrecisionClass precision : kPrecisionClasses) {
    for (const auto& [sequences, tokens] : loads) {
      SyntheticPages pages(shape, precision, sequences, tokens);
      DeviceArray<bf16> qkv = test::repeated(test::randomBf16s(1 << 12, 3),
                                             static_cast<std::size_t>(sequences) * shape.qkvWidth());
      DeviceArray<bf16> out(static_cast<std::size_t>(sequences) * shape.heads * shape.headDim);
      DeviceArray<float> parts(cuda::decodeAttentionScratch(sequences, tokens, shape.heads, shape.headDim) /
                               sizeof(float));
      bench.memoryBound(std::string("decodeAttention ") + nameOf(precision) + " " +
                            std::to_string(sequences) + " x " + std::to_string(tokens),
                        static_cast<double>(pages.bytesRead()), [&] {
                          cuda::decodeAttention({qkv.data(), pages.layer(0), pages.rows(), pages.contexts(),
                                                 sequences, tokens, shape.heads, 0, parts.data(), out.data()},
                                                kStream);
                        });
    }
  }
}

void benchPrefillAttention(Bench& bench) {
  struct Load {
    int tokens, context;
  };
  const std::vector<Load> loads = kTiny
                                      ? std::vector<Load>{{40, 0}, {16, 64}}
                                      : std::vector<Load>{{8192, 0}, {512, 0},     {512, 8192},  {512, 30000},
                                                          {2048, 0}, {2048, 8192}, {2048, 30000}};
  Shape shape = kShape;
  shape.layers = 1;
  for (const PrecisionClass precision : {PrecisionClass::bf16, PrecisionClass::int8}) {
    for (const auto& [tokens, context] : loads) {
      SyntheticPages pages(shape, precision, 1, context + tokens);
      DeviceArray<bf16> qkv =
          test::repeated(test::randomBf16s(1 << 12, 3), static_cast<std::size_t>(tokens) * shape.qkvWidth());
      DeviceArray<bf16> out(static_cast<std::size_t>(tokens) * shape.heads * shape.headDim);
      DeviceArray<cuda::QueryTile> tiles(tilesOf(shape, tokens, context));
      const double pairs = static_cast<double>(tokens) * context + 0.5 * tokens * (tokens + 1.0);
      bench.computeBound(std::string("prefillAttention ") + nameOf(precision) + " " + std::to_string(tokens) +
                             " behind " + std::to_string(context),
                         4.0 * shape.headDim * shape.heads * pairs, [&] {
                           cuda::prefillAttention(
                               {qkv.data(), pages.layer(0), tiles.data(), static_cast<int>(tiles.size()),
                                shape.heads, 0, out.data()},
                               kStream);
                         });
    }
  }
}

// Single rows of many sequences, as in decode, which are bound by reading keys once, and the last rows of a
// stretch of a prompt.
void benchProbe(Bench& bench) {
  struct Load {
    int sequences, rows, tokens;
  };
  const std::vector<Load> loads =
      kTiny ? std::vector<Load>{{2, 1, 64}, {1, 32, 544}}
            : std::vector<Load>{{64, 1, 8192}, {1, 1, 32768}, {1, 32, 8192}, {1, 32, 32768}};
  Shape shape = kShape;
  shape.layers = 1;
  const int tileRows = cuda::probeTileTokens(shape.heads, shape.kvHeads);
  for (const PrecisionClass precision : kPrecisionClasses) {
    for (const auto& [sequences, rows, tokens] : loads) {
      SyntheticPages pages(shape, precision, sequences, tokens);
      DeviceArray<bf16> qkv = test::repeated(test::randomBf16s(1 << 12, 3),
                                             static_cast<std::size_t>(sequences) * rows * shape.qkvWidth());
      const int pagesEach = (tokens + kPageTokens - 1) / kPageTokens;
      std::vector<cuda::ProbeTile> tiles;
      for (int sequence = 0; sequence < sequences; ++sequence) {
        for (int at = 0; at < rows; at += tileRows) {
          tiles.push_back({sequence * rows + at, std::min(tileRows, rows - at), sequence, tokens - rows + at,
                           sequence * pagesEach});
        }
      }
      const int count = static_cast<int>(tiles.size()), mostRows = std::min(rows, tileRows);
      DeviceArray<cuda::ProbeTile> all(tiles);
      DeviceArray<float> parts(cuda::probeScratch(count, mostRows, tokens, shape.heads, shape.kvHeads) /
                               sizeof(float));
      DeviceArray<std::uint32_t> sums(static_cast<std::size_t>(sequences) * pagesEach);
      const auto enqueue = [&] {
        cuda::probe({qkv.data(), pages.layer(0), all.data(), count, mostRows, tokens, shape.heads, 0,
                     parts.data(), sums.data()},
                    kStream);
      };
      const std::string name = std::string("probe ") + nameOf(precision) + " " + std::to_string(sequences) +
                               " x " + std::to_string(rows) + " rows at " + std::to_string(tokens);
      if (rows == 1) {
        bench.memoryBound(name, 0.5 * static_cast<double>(pages.bytesRead()), enqueue);
      } else {
        bench.computeBound(name, 2.0 * shape.headDim * shape.heads * sequences * rows * tokens, enqueue);
      }
    }
  }
}

// A stretch of a prompt that looks at every fourth page before it, and at all, with what finds these pages.
void benchSparsePrefill(Bench& bench) {
  const int tokens = kTiny ? 32 : 256;
  Shape shape = kShape;
  shape.layers = 1;
  for (const int context : kTiny ? std::vector<int>{256} : std::vector<int>{8192, 32768}) {
    SyntheticPages pages(shape, PrecisionClass::bf16, 1, context + tokens);
    DeviceArray<bf16> qkv =
        test::repeated(test::randomBf16s(1 << 12, 3), static_cast<std::size_t>(tokens) * shape.qkvWidth());
    DeviceArray<bf16> out(static_cast<std::size_t>(tokens) * shape.heads * shape.headDim);
    const int allPages = (context + tokens) / kPageTokens;
    for (const int every : {1, 4}) {
      std::vector<cuda::SeenWord> words;
      std::uint32_t seen = 0;
      for (int page = 0; page < allPages; ++page) {
        if (page % cuda::kWordPages == 0) words.push_back({0, seen});
        if (page % every != 0 && page < context / kPageTokens) continue;
        words.back().bits |= 1u << (page % cuda::kWordPages);
        ++seen;
      }
      DeviceArray<cuda::SeenRow> rows(std::vector<cuda::SeenRow>{{allPages, 0}});
      DeviceArray<cuda::SeenWord> deviceWords(words);
      DeviceArray<std::int32_t> slots(std::vector<std::int32_t>{0});
      DeviceArray<std::uint64_t> gathered(static_cast<std::size_t>(allPages));
      const int closed = static_cast<int>(seen) * kPageTokens - tokens;
      DeviceArray<cuda::QueryTile> tiles(tilesOf(shape, tokens, closed));
      const cuda::PageTables from = pages.layer(0);
      cuda::PageTables to = from;
      to.entries = gathered.data();
      to.slots = slots.data();
      bench.timed("prefillAttention bf16 " + std::to_string(tokens) + " behind " + std::to_string(context) +
                      ", gathered: every " + (every == 1 ? "page" : "fourth page"),
                  [&] {
                    cuda::gatherPages(
                        {from, rows.data(), deviceWords.data(), 1, allPages, true, gathered.data()}, kStream);
                    cuda::prefillAttention({qkv.data(), to, tiles.data(), static_cast<int>(tiles.size()),
                                            shape.heads, 0, out.data()},
                                           kStream);
                  });
    }
  }
}

// Int4 pages that become far, and the entries of their outlines.
class FarPages {
 public:
  FarPages(const PageFormat& own, const std::vector<std::uint64_t>& entries)
      : outline_(own.in(PrecisionClass::far)),
        details_(entries.size() * own.pageBytes(), "far pages"),
        outlines_(entries.size() * outline_.pageBytes()),
        conversions_(conversionsOf(own, entries)) {}

  void enqueue() {
    cuda::outlinePages({conversions_.data(), static_cast<int>(conversions_.size())}, kStream);
  }
  std::uint64_t entry(std::size_t index) { return cuda::pageEntry(outlineOf(index), PrecisionClass::far); }

 private:
  std::vector<PageConversion> conversionsOf(const PageFormat& own,
                                            const std::vector<std::uint64_t>& entries) {
    std::vector<PageConversion> conversions;
    for (std::size_t i = 0; i < entries.size(); ++i) {
      conversions.push_back({cuda::PageTables::pageOf(entries[i]), outlineOf(i), own, outline_,
                             details_.data() + i * own.pageBytes()});
    }
    return conversions;
  }
  std::byte* outlineOf(std::size_t index) { return outlines_.data() + index * outline_.pageBytes(); }

  PageFormat outline_;
  cuda::PinnedMemory details_;
  DeviceArray<std::byte> outlines_;
  DeviceArray<PageConversion> conversions_;
};

// Rows of sequences in partitions of the usual sizes, with mid full: a token of some sequences, as in decode,
// and what a step reads of a prompt at most; and a token of a sequence with many older pages.
void benchPartitions(Bench& bench) {
  struct Load {
    int sequences, rows, mid;
  };
  constexpr int kSink = 2, kScored = kTiny ? 5 : 512, kRecent = kTiny ? 2 : 24, kTop = kTiny ? 2 : 16;
  Shape shape = kShape;
  shape.layers = 1;
  const PageFormat exactFormat{PrecisionClass::bf16, shape.kvHeads, shape.headDim},
      packedFormat = exactFormat.in(PrecisionClass::int4);
  for (const auto& [sequences, rows, mid] :
       kTiny
           ? std::vector<Load>{{2, 1, 20}, {1, 3, 5}}
           : std::vector<Load>{{64, 1, kScored}, {1, 1, kScored}, {1, 256, kScored}, {1, 1, 16 * kScored}}) {
    const int pages = kSink + mid + kRecent, sinkTurn = mid;
    SyntheticPages exact(shape, PrecisionClass::bf16, sequences, (kSink + kRecent) * kPageTokens),
        packed(shape, PrecisionClass::int4, sequences, mid * kPageTokens);
    DeviceArray<std::uint64_t> entries(static_cast<std::size_t>(sequences) * pages);
    std::vector<cuda::PartitionedRow> list;
    for (int sequence = 0; sequence < sequences; ++sequence) {
      const auto copy = [&](int to, const cuda::PageTables& from, int first, int count) {
        test::copyOnDevice(entries.data() + sequence * pages + to,
                           from.entries + sequence * from.slotStride + first,
                           static_cast<std::size_t>(count) * sizeof(std::uint64_t), kStream);
      };
      copy(0, exact.layer(0), 0, kSink);
      copy(kSink, packed.layer(0), 0, mid);
      copy(kSink + mid, exact.layer(0), kSink, kRecent);
      for (int row = 0; row < rows; ++row) {
        list.push_back({sequence * rows + row, sequence, pages * kPageTokens - rows + row, kSink, kSink + mid,
                        sinkTurn});
      }
    }
    cuda::PageTables tables = exact.layer(0);
    tables.entries = entries.data();
    tables.slotStride = pages;
    const int count = static_cast<int>(list.size());
    const cuda::PartitionSizes sizes{count, mid, cuda::runsOf(list.back(), kTop)};
    DeviceArray<bf16> qkv =
        test::repeated(test::randomBf16s(1 << 12, 3), static_cast<std::size_t>(count) * shape.qkvWidth());
    DeviceArray<bf16> out(static_cast<std::size_t>(count) * shape.heads * shape.headDim);
    DeviceArray<float> turns =
        test::repeated(test::randomFloats(1 << 12, 7), static_cast<std::size_t>(mid + 1) * shape.headDim);
    DeviceArray<cuda::PartitionedRow> all(list);
    DeviceArray<std::byte> scratch(
        cuda::partitionScratch(sizes, shape.heads, shape.kvHeads, shape.headDim, kTop, kScored));

    const auto each = static_cast<std::size_t>(count) * shape.kvHeads;
    DeviceArray<std::uint32_t> orders(each * mid);
    cuda::SelectPages selection{qkv.data(), tables,  all.data(), count,        rows > 1,     shape.heads,
                                kTop,       kScored, mid,        turns.data(), orders.data()};
    DeviceArray<std::int32_t> chosen(each * static_cast<std::size_t>(selection.pageStride()));
    selection.pages = chosen.data();
    const std::size_t keyBytes = packedFormat.tileBytes() + packedFormat.keyScaleBytes();
    // Of each row. What rows of a prompt share counts once.
    const int older = selection.olderOf(mid), shortlist = std::min(older, selection.shortlist());
    const int together = std::min(rows, cuda::rowsScoredTogether(shape.heads / shape.kvHeads));
    const double looked =
        static_cast<double>(older) * static_cast<double>(packedFormat.keyScaleBytes()) +
        (static_cast<double>(mid - older) / together + shortlist) * static_cast<double>(keyBytes);
    const double seen =
        static_cast<double>((kSink + kRecent) * exactFormat.headBytes() + kTop * packedFormat.headBytes());
    const std::string load = std::to_string(sequences) + " x " + std::to_string(rows) + " rows behind " +
                             std::to_string(mid * kPageTokens) + " mid tokens";
    bench.memoryBound("selectPages " + load, static_cast<double>(each) * looked,
                      [&] { cuda::selectPages(selection, kStream); });
    const auto benchAttend = [&](const std::string& name) {
      bench.memoryBound("attendPartitions " + name, static_cast<double>(each) * (looked + seen), [&] {
        cuda::attendPartitions({qkv.data(), tables, all.data(), sizes, rows > 1, shape.heads, kTop, kScored,
                                turns.data(), scratch.data(), out.data()},
                               kStream);
      });
    };
    benchAttend(load);
    if (older == 0) continue;
    // As many bytes, of which those of the older half's shortlist and choice come over the bus.
    std::vector<std::uint64_t> moved = entries.read(), old;
    std::vector<std::size_t> places;
    for (int sequence = 0; sequence < sequences; ++sequence) {
      for (int page = 0; page < mid / 2; ++page) {
        places.push_back(static_cast<std::size_t>(sequence * pages + kSink + page));
        old.push_back(moved[places.back()]);
      }
    }
    FarPages far(packedFormat, old);
    far.enqueue();
    for (std::size_t i = 0; i < places.size(); ++i) moved[places[i]] = far.entry(i);
    DeviceArray<std::uint64_t> halfFar(moved);
    tables.entries = halfFar.data();
    benchAttend(load + ", half of them far");
  }
}

void benchRequantize(Bench& bench) {
  const int count = kTiny ? 2 : 4096;
  for (const PrecisionClass from : {PrecisionClass::bf16, PrecisionClass::int8}) {
    for (const PrecisionClass to : {PrecisionClass::int8, PrecisionClass::int4, PrecisionClass::int2}) {
      if (to == from) continue;
      const PageFormat fromFormat{from, kShape.kvHeads, kShape.headDim}, toFormat = fromFormat.in(to);
      DeviceArray<bf16> pages =
          test::repeated(test::randomBf16s(1 << 12, 6, 0.1f), count * fromFormat.pageBytes() / sizeof(bf16));
      DeviceArray<std::byte> made(count * toFormat.pageBytes());
      std::vector<PageConversion> conversions;
      for (int i = 0; i < count; ++i) {
        conversions.push_back({reinterpret_cast<std::byte*>(pages.data()) + i * fromFormat.pageBytes(),
                               made.data() + i * toFormat.pageBytes(), fromFormat, toFormat});
      }
      DeviceArray<PageConversion> all(conversions);
      bench.memoryBound(
          std::string("requantize ") + nameOf(from) + " to " + nameOf(to) + ", " + std::to_string(count) +
              " pages",
          static_cast<double>(count) * static_cast<double>(fromFormat.pageBytes() + toFormat.pageBytes()),
          [&] {
            cuda::requantize({all.data(), count, fromFormat}, kStream);
          });
    }
  }
}

void benchOutlines(Bench& bench) {
  const int count = kTiny ? 2 : 4096;
  const PageFormat own{PrecisionClass::int4, kShape.kvHeads, kShape.headDim};
  DeviceArray<bf16> pages =
      test::repeated(test::randomBf16s(1 << 12, 6, 0.1f), count * own.pageBytes() / sizeof(bf16));
  std::vector<std::uint64_t> entries;
  for (int i = 0; i < count; ++i) {
    entries.push_back(
        cuda::pageEntry(reinterpret_cast<std::byte*>(pages.data()) + i * own.pageBytes(), own.precision));
  }
  FarPages far(own, entries);
  bench.memoryBound("outlinePages, " + std::to_string(count) + " pages of int4",
                    static_cast<double>(count) *
                        static_cast<double>(2 * own.pageBytes() + own.in(PrecisionClass::far).pageBytes()),
                    [&] { far.enqueue(); });
}

struct MatrixShape {
  const char* name;
  int outputs, inputs;
};

std::vector<MatrixShape> matrices() {
  return {{"qkv", kShape.qkvWidth(), kShape.hidden},
          {"o", kShape.hidden, kShape.heads * kShape.headDim},
          {"gate-up", 2 * kShape.ffn, kShape.hidden},
          {"down", kShape.hidden, kShape.ffn},
          {"head", kShape.vocab, kShape.hidden}};
}

// The head multiplies the rows that are sampled, and those are few. One matrix shows rows between the tiles:
// a prompt's chunk often comes with some streams.
std::vector<int> rowCounts(const MatrixShape& matrix) {
  if (kTiny) return matrix.outputs == kShape.vocab ? std::vector{1} : std::vector{1, 65};
  if (matrix.outputs == kShape.vocab) return {1, 8, 16, 64};
  if (matrix.outputs == 2 * kShape.ffn) {
    return {1, 8, 16, 64, 192, 256, 257, 264, 320, 384, 512, 2048, 4096};
  }
  return {1, 8, 16, 64, 256, 512, 2048, 4096};
}

void benchMatmul(Bench& bench, const MatrixShape& matrix, WeightClass weightClass, int rows, int sms,
                 bool share, WeightsInTurn& weights, bf16* x, void* y) {
  const auto& [name, outputs, inputs] = matrix;
  const bool head = outputs == kShape.vocab;
  const auto number = [](int value) { return std::to_string(value); };
  const std::string title = std::string("matmul ") + (weightClass == WeightClass::bf16 ? "bf16 " : "int8 ") +
                            name + (share ? " on " + number(sms) + " SMs " : " ") + number(rows) + " x " +
                            number(outputs) + " x " + number(inputs);
  const auto enqueue = [&] {
    cuda::matmul(
        {x, &weights.next(), nullptr, y, head ? cuda::Epilogue::logits : cuda::Epilogue::store, rows}, sms,
        kStream);
  };
  if (rows <= cuda::kFewRows) {
    bench.memoryBound(title, static_cast<double>(weights.bytesEach()), enqueue);
  } else {
    bench.computeBound(title, 2.0 * rows * outputs * inputs, enqueue);
  }
}

void benchMatmuls(Bench& bench, int sms) {
  const int most = kTiny ? 65 : 4096, widest = std::max(2 * kShape.ffn, kShape.hidden);
  DeviceArray<bf16> x =
      test::repeated(test::randomBf16s(1 << 16, 5), static_cast<std::size_t>(most) * widest);
  DeviceArray<bf16> y(std::max(static_cast<std::size_t>(most) * widest,
                               static_cast<std::size_t>(cuda::kFewRows) * kShape.vocab * 2));
  for (const WeightClass weightClass : {WeightClass::bf16, WeightClass::int8}) {
    for (const MatrixShape& matrix : matrices()) {
      WeightsInTurn weights({matrix.outputs, matrix.inputs}, weightClass);
      for (const int rows : rowCounts(matrix)) {
        benchMatmul(bench, matrix, weightClass, rows, sms, false, weights, x.data(), y.data());
        if (matrix.outputs != kShape.qkvWidth()) continue;
        benchMatmul(bench, matrix, weightClass, rows, sms / 2, true, weights, x.data(), y.data());
      }
    }
  }
}

void benchSteps(Bench& bench, int sms) {
  SyntheticModel model(kShape);
  const int tokens = kTiny ? 64 : 2048;
  for (const int sequences : kTiny ? std::vector<int>{2} : std::vector<int>{1, 16}) {
    SyntheticPages pages(kShape, PrecisionClass::bf16, sequences, tokens);
    SyntheticModel::Decode decode(model, pages);
    bench.timed("decode step of " + std::to_string(kShape.layers) + " layers, " + std::to_string(sequences) +
                    " x " + std::to_string(tokens),
                [&] {
                  decode.enqueue({kStream, sms});
                });
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc < 2) throw Error("usage: gpu-bench FILE.json [seconds] [part of a name]");
    const OpenDevice device = openDevice();
    Bench bench(argc > 2 ? std::atof(argv[2]) : 120, argc > 3 ? argv[3] : "");
    benchAttention(bench);
    benchPrefillAttention(bench);
    benchProbe(bench);
    benchSparsePrefill(bench);
    benchPartitions(bench);
    benchRequantize(bench);
    benchOutlines(bench);
    const int sms = device.driver->limits().sms;
    benchMatmuls(bench, sms);
    benchRows(bench);
    benchArgmax(bench);
    benchSampler(bench);
    benchSteps(bench, sms);
    writeFile(argv[1], bench.json(device));
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gpu-bench: %s\n", error.what());
    return 1;
  }
}
