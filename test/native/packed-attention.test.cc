// Attention to packed pages by their codes, on the instruction sets that multiply those in bytes, with pages
// as no sequence of plausible values has them.

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "attention-case.h"
#include "check.h"
#include "cpu/attention/page-turns.h"

using namespace tandem;
using namespace tandem::cpu;

namespace {

// One head block, written element by element.
struct PackedPage {
  PackedPage(PrecisionClass precision, int headDim)
      : format{precision, 1, headDim}, bytes(format.pageBytes() / sizeof(std::uint16_t)) {}

  void setCode(std::size_t offset, std::size_t index, int code) {
    const auto [word, shift] = format.placeOf(index);
    std::uint16_t& bits = bytes[offset / 2 + word];
    bits = static_cast<std::uint16_t>((bits & ~(top() << shift)) | code << shift);
  }
  void setKey(int token, int channel, int code) {
    setCode(format.keys(0), PageFormat::packedKeyIndex(token, channel), code);
  }
  void setValue(int token, int channel, int code) {
    setCode(format.values(0), format.packedValueIndex(token, channel), code);
  }
  // Steps, then middles: of keys by channel, of values by token.
  bf16& keyScale(int i) { return bytes[format.keyScales(0) / 2 + i]; }
  bf16& valueScale(int i) { return bytes[format.valueScales(0) / 2 + i]; }

  double key(int token, int channel) {
    return element(format.keys(0), PageFormat::packedKeyIndex(token, channel), keyScale(channel),
                   keyScale(format.headDim + channel));
  }
  double value(int token, int channel) {
    return element(format.values(0), format.packedValueIndex(token, channel), valueScale(token),
                   valueScale(kPageTokens + token));
  }

  int top() const { return (1 << bitsOf(format.precision)) - 1; }

  PageFormat format;
  std::vector<bf16> bytes;

 private:
  double element(std::size_t offset, std::size_t index, bf16 step, bf16 middle) const {
    const auto [word, shift] = format.placeOf(index);
    const int code = bytes[offset / 2 + word] >> shift & top();
    return toFloat(middle) + toFloat(step) * (code - top() / 2.0);
  }
};

// Queries before neighbouring pages, and what they see of them.
struct PackedMeeting {
  PackedMeeting(PrecisionClass precision, int headDim, int queries)
      : headDim(headDim), queries(queries), stride((headDim + 31) / 32 * 32), q(queries * stride) {
    for (int i = 0; i < pagesTogether(precision); ++i) pages.emplace_back(precision, headDim);
    visible.assign(pages.size(), std::vector<std::uint32_t>(queries, 0xffffffffu));
    for (PackedPage& page : pages) {
      for (int i = 0; i < headDim; ++i) page.keyScale(i) = toBf16(1);
      for (int i = 0; i < kPageTokens; ++i) page.valueScale(i) = toBf16(1);
    }
  }

  template <class Code>
  void setKeys(Code code) {
    for (std::size_t i = 0; i < pages.size(); ++i) {
      for (int token = 0; token < kPageTokens; ++token) {
        for (int c = 0; c < headDim; ++c) pages[i].setKey(token, c, code(i, token, c));
      }
    }
  }
  template <class Code>
  void setValues(Code code) {
    for (std::size_t i = 0; i < pages.size(); ++i) {
      for (int token = 0; token < kPageTokens; ++token) {
        for (int c = 0; c < headDim; ++c) pages[i].setValue(token, c, code(i, token, c));
      }
    }
  }

  struct State {
    std::vector<float> maximum, sum, out;
  };

  float scale() const { return static_cast<float>(1.44269504 / std::sqrt(headDim)); }

  State run(Isa isa) const {
    const AttentionKernels kernels = attentionKernels(isa);
    std::vector<std::int16_t> numbers(static_cast<std::size_t>(queries) * kNumbersStride);
    std::vector<float> units(queries);
    kernels.quantizeQueries({queries, stride, q.data(), numbers.data(), units.data()});
    State state{std::vector<float>(queries, kNothingSeen), std::vector<float>(queries * kSumLanes),
                std::vector<float>(queries * headDim)};
    QueryTile tile{queries,          headDim,         stride, scale(), q.data(), state.maximum.data(),
                   state.sum.data(), state.out.data()};
    tile.numbers = numbers.data();
    tile.units = units.data();
    std::vector<PageCodes> codes;
    for (std::size_t i = 0; i < pages.size(); ++i) {
      const auto* bytes = reinterpret_cast<const std::byte*>(pages[i].bytes.data());
      const PageFormat& format = pages[i].format;
      PageCodes& page = codes.emplace_back();
      page.keys = bytes + format.keys(0);
      page.values = bytes + format.values(0);
      page.keyScales = bytes + format.keyScales(0);
      page.valueScales = bytes + format.valueScales(0);
      page.visible = visible[i].data();
    }
    Prefetch next[kMostTogether];
    kernels.attendCodes[static_cast<int>(pages[0].format.precision)](tile, codes, next);
    return state;
  }

  // Against float64. scoreError: by how much a score may differ, in units of the exponent of 2; valueError:
  // by how much an output may beside
  void expect(Isa isa, double scoreError, double valueError, const std::string& what) {
    const State state = run(isa);
    const std::string where = std::string(isaName(isa)) + ", " + nameOf(pages[0].format.precision) + " of " +
                              std::to_string(headDim) + ", " + std::to_string(queries) + " queries, " + what;
    for (int query = 0; query < queries; ++query) {
      std::vector<double> scores;
      double highest = -INFINITY, total = 0, sum = 0;
      for (std::size_t i = 0; i < pages.size(); ++i) {
        for (int token = 0; token < kPageTokens; ++token) {
          double score = 0;
          for (int c = 0; c < headDim; ++c) score += toFloat(q[query * stride + c]) * pages[i].key(token, c);
          const bool isSeen = visible[i][query] >> token & 1;
          scores.push_back(isSeen ? score * scale() : -INFINITY);
          highest = std::max(highest, scores.back());
        }
      }
      for (double& score : scores) total += score = std::exp2(score - highest);
      test::near(state.maximum[query], highest, scoreError, where + ": the maximum");
      for (int lane = 0; lane < kSumLanes; ++lane) sum += state.sum[query * kSumLanes + lane];
      for (int c = 0; c < headDim; ++c) {
        double out = 0, apart = 0;
        for (std::size_t i = 0; i < scores.size(); ++i) {
          if (scores[i] == 0) continue;
          const double value = pages[i / kPageTokens].value(static_cast<int>(i % kPageTokens), c);
          out += scores[i] / total * value;
          apart += scores[i] / total * std::abs(value);
        }
        test::near(state.out[query * headDim + c] / sum, out, valueError + 2 * scoreError * apart,
                   where + ": out " + std::to_string(query) + ", " + std::to_string(c));
      }
    }
  }

  int headDim, queries, stride;
  std::vector<bf16> q;
  std::vector<PackedPage> pages;
  std::vector<std::vector<std::uint32_t>> visible;
};

std::vector<Isa> isasInBytes() {
  std::vector<Isa> isas;
  for (const Isa isa : availableIsas()) {
    if (test::multipliesInBytes(isa)) isas.push_back(isa);
  }
  return isas;
}

// Of every class, in heads of every kind, and as many queries as there are kinds of groups.
template <class Body>
void forMeetings(Body body) {
  for (const PrecisionClass precision : {PrecisionClass::int4, PrecisionClass::int2}) {
    for (const int headDim : {16, 64, 80, 128, 256}) {
      for (const int queries : {1, 3, 16}) body(PackedMeeting(precision, headDim, queries));
    }
  }
}

// Queries and a turn, in all forms that kernels take them in.
class TurnedCase {
 public:
  TurnedCase(int heads, int headDim)
      : heads_(heads),
        headDim_(headDim),
        floats_(heads * headDim),
        numbers_(heads * kNumbersStride),
        units_(heads),
        turns_(headDim),
        turnNumbers_(headDim) {}

  // `angle`: of the first pair of channels; that of the others grows.
  template <class Value>
  void set(Value value, double angle) {
    for (float& x : floats_) x = static_cast<float>(value(0));
    for (int head = 0; head < heads_; ++head) {
      float largest = 0;
      for (int c = 0; c < headDim_; ++c) largest = std::max(largest, std::abs(floats_[head * headDim_ + c]));
      units_[head] = largest / 32767;
      for (int c = 0; c < headDim_; ++c) {
        const long number = std::lrint(floats_[head * headDim_ + c] / units_[head]);
        numbers_[head * kNumbersStride + c] = static_cast<std::int16_t>(number);
      }
    }
    const int half = headDim_ / 2;
    for (int i = 0; i < half; ++i) {
      turns_[i] = static_cast<float>(std::cos(angle * (i + 1)));
      turns_[half + i] = static_cast<float>(std::sin(angle * (i + 1)));
    }
    for (int i = 0; i < headDim_; ++i) {
      turnNumbers_[i] = static_cast<std::int16_t>(std::lrint(turns_[i] * kTurnUnit));
    }
  }

  TurnedQueries queries() const {
    const int half = headDim_ / 2;
    TurnedQueries of{floats_.data(), 0, 1, heads_, headDim_, turns_.data(), turns_.data() + half};
    of.numbers = numbers_.data();
    of.units = units_.data();
    of.cosineNumbers = turnNumbers_.data();
    of.sineNumbers = turnNumbers_.data() + half;
    return of;
  }

  double turned(int head, int channel) const {
    const int half = headDim_ / 2, i = channel % half;
    const double low = floats_[head * headDim_ + i], high = floats_[head * headDim_ + half + i];
    return channel < half ? low * turns_[i] - high * turns_[half + i]
                          : high * turns_[i] + low * turns_[half + i];
  }

 private:
  int heads_, headDim_;
  std::vector<float> floats_;
  std::vector<std::int16_t> numbers_;
  std::vector<float> units_;
  std::vector<float> turns_;  // cosines and sines
  std::vector<std::int16_t> turnNumbers_;
};

}  // namespace

TEST("packed attention: the largest codes with the largest bytes are summed up without overflow") {
  forMeetings([](PackedMeeting meeting) {
    const int top = meeting.pages[0].top();
    for (int query = 0; query < meeting.queries; ++query) {
      // All of one sign, which bytes have exactly.
      for (int c = 0; c < meeting.headDim; ++c) {
        meeting.q[query * meeting.stride + c] = toBf16(query % 2 == 0 ? 1.0f : -1.0f);
      }
    }
    meeting.setKeys([&](auto, int, int) { return top; });
    meeting.setValues([&](auto, int, int c) { return c % 5 == 4 ? 0 : top; });
    for (const Isa isa : isasInBytes()) meeting.expect(isa, 0.02, 1e-5, "all at the top");
  });
}

TEST("packed attention: equals float64 where each query sees other tokens, and the others hold anything") {
  std::mt19937 random(31);
  std::normal_distribution<float> normal;
  forMeetings([&](PackedMeeting meeting) {
    const auto any = [&](auto, int, int) {
      return static_cast<int>(random() % (meeting.pages[0].top() + 1));
    };
    meeting.setKeys(any);
    meeting.setValues(any);
    for (int query = 0; query < meeting.queries; ++query) {
      for (int c = 0; c < meeting.headDim; ++c) {
        meeting.q[query * meeting.stride + c] = toBf16(0.1f * normal(random));
      }
      // Of the first page nothing, one token or the last ones; of the last all up to one.
      meeting.visible.front()[query] = query % 3 == 0 ? 0 : 0xffffffffu << (31 - query % 3 * 7);
      meeting.visible.back()[query] = (2u << query) - 1;
    }
    for (std::size_t i = 0; i < meeting.pages.size(); ++i) {
      std::uint32_t seen = 0;
      for (const std::uint32_t tokens : meeting.visible[i]) seen |= tokens;
      for (int token = 0; token < kPageTokens; ++token) {
        const bool isSeen = seen >> token & 1;
        meeting.pages[i].valueScale(token) = toBf16(isSeen ? 1.0f : 1e30f);
        meeting.pages[i].valueScale(kPageTokens + token) = toBf16(isSeen ? normal(random) : -1e30f);
      }
    }
    const double scoreError = meeting.headDim * meeting.scale() * 0.4 * meeting.pages[0].top() / 254 / 8;
    for (const Isa isa : isasInBytes())
      meeting.expect(isa, scoreError, 0.01 * meeting.pages[0].top(), "masked");
  });
}

TEST("packed attention: steps may be zero, huge or all but vanish") {
  std::mt19937 random(32);
  for (const float step : {0.0f, 1e-30f, 1e25f}) {
    forMeetings([&](PackedMeeting meeting) {
      const auto any = [&](auto, int, int) {
        return static_cast<int>(random() % (meeting.pages[0].top() + 1));
      };
      meeting.setKeys(any);
      meeting.setValues(any);
      for (PackedPage& page : meeting.pages) {
        for (int i = 0; i < meeting.headDim; ++i) page.keyScale(i) = toBf16(step > 1 ? 0.0f : step);
        for (int i = 0; i < kPageTokens; ++i) page.valueScale(i) = toBf16(step);
        page.keyScale(meeting.headDim) = page.valueScale(kPageTokens) = toBf16(1.0f);
      }
      for (int query = 0; query < meeting.queries; ++query) {
        meeting.q[query * meeting.stride] = toBf16(static_cast<float>(query));
      }
      for (const Isa isa : isasInBytes()) {
        meeting.expect(isa, 1e-3, step > 1 ? step * 1e-4 * meeting.pages[0].top() : 1e-5,
                       "steps " + std::to_string(step));
      }
    });
  }
}

TEST("packed attention: NaN in scales shows in what meets them, and in nothing else") {
  forMeetings([](PackedMeeting meeting) {
    for (bf16& x : meeting.q) x = toBf16(0.5f);
    const auto nans = [&](Isa isa) {
      const PackedMeeting::State state = meeting.run(isa);
      std::vector<bool> isNan;
      for (int query = 0; query < meeting.queries; ++query) {
        float sum = 0;
        for (int lane = 0; lane < kSumLanes; ++lane) sum += state.sum[query * kSumLanes + lane];
        isNan.push_back(std::isnan(state.out[query * meeting.headDim] / sum));
      }
      return isNan;
    };
    const std::vector<bool> none(meeting.queries, false), all(meeting.queries, true);
    for (const Isa isa : isasInBytes()) {
      test::isTrue(nans(isa) == none, "no NaN");
      PackedPage& page = meeting.pages.back();
      for (const int place : {0, meeting.headDim - 1, meeting.headDim, 2 * meeting.headDim - 1}) {
        const bf16 before = page.keyScale(place);
        page.keyScale(place) = toBf16(NAN);
        test::isTrue(nans(isa) == all, std::string(isaName(isa)) + ": in a key's scales");
        page.keyScale(place) = before;
      }
      for (const int place : {0, kPageTokens - 1, kPageTokens, 2 * kPageTokens - 1}) {
        const bf16 before = page.valueScale(place);
        page.valueScale(place) = toBf16(NAN);
        test::isTrue(nans(isa) == all, std::string(isaName(isa)) + ": in a value's scales");
        page.valueScale(place) = before;
      }
    }
  });
}

TEST("packed attention: AVX2 and AVX-VNNI get the same bits") {
  const auto isas = availableIsas();
  if (std::ranges::find(isas, Isa::avxVnni) == isas.end()) return;
  for (const std::vector<PrecisionClass>& mixture :
       {std::vector{PrecisionClass::int4}, {PrecisionClass::int2}}) {
    for (const AttentionShape shape : {AttentionShape{4, 1, 128}, AttentionShape{3, 1, 80},
                                       AttentionShape{20, 1, 16}, AttentionShape{2, 2, 256, 100}}) {
      for (const std::int64_t chunk : {1, 40}) {
        std::vector<std::vector<float>> outs;
        for (const Isa isa : {Isa::avx2, Isa::avxVnni}) {
          test::AttentionLane lane(isa);
          test::Sequence sequence(shape, 300, 33);
          lane.append(sequence, 260);
          // By AVX2, for both: the pages are to be the same.
          for (std::int64_t page = 0; page < 7; ++page) {
            sequence.pages.convert(Isa::avx2, page, mixture[0]);
          }
          lane.all(sequence, chunk);
          sequence.out.erase(sequence.out.begin(), sequence.out.begin() + 260 * shape.heads * shape.headDim);
          outs.push_back(sequence.out);
        }
        test::equal(std::memcmp(outs[0].data(), outs[1].data(), outs[0].size() * sizeof(float)), 0,
                    std::to_string(shape.headDim) + " of " + nameOf(mixture[0]));
      }
    }
  }
}

TEST("packed attention: what pages score has the same bits by AVX2 and AVX-VNNI, and equals float64") {
  std::mt19937 random(34);
  std::normal_distribution<float> normal;
  forMeetings([&](PackedMeeting meeting) {
    const int d = meeting.headDim, heads = std::min(meeting.queries, 5), top = meeting.pages[0].top();
    PackedPage& page = meeting.pages[0];
    TurnedCase turned(heads, d);
    for (const bool isTop : {false, true}) {
      turned.set([&](int) { return isTop ? 1 : normal(random); }, isTop ? 0 : 0.7);
      meeting.setKeys([&](auto, int, int) { return isTop ? top : static_cast<int>(random() % (top + 1)); });
      std::vector<std::vector<float>> scores;
      for (const Isa isa : isasInBytes()) {
        const AttentionKernels kernels = attentionKernels(isa);
        if (!kernels.scorePage) continue;
        std::vector<float> here(heads + 3);
        kernels.scorePage({turned.queries(), bitsOf(page.format.precision),
                           reinterpret_cast<const std::byte*>(page.bytes.data()), &page.keyScale(0),
                           &page.keyScale(d), here.data()});
        here.resize(heads);
        for (int head = 0; head < heads; ++head) {
          double best = -INFINITY, largest = 0;
          for (int token = 0; token < kPageTokens; ++token) {
            double score = 0;
            for (int c = 0; c < d; ++c) score += turned.turned(head, c) * page.key(token, c);
            best = std::max(best, score);
          }
          for (int c = 0; c < d; ++c) largest = std::max(largest, std::abs(turned.turned(head, c)));
          test::near(here[head], best, largest / 254 * top * std::sqrt(d) + 1e-4,
                     std::string(isaName(isa)) + ", the best of a page");
        }
        if (isa == Isa::avx2 || isa == Isa::avxVnni) scores.push_back(here);
      }
      if (scores.size() == 2) test::isTrue(scores[0] == scores[1], "the same bits");
    }
  });
}
