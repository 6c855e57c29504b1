#include "cpu/requantize/requantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "attention-case.h"
#include "check.h"

using namespace tandem;
using namespace tandem::test;

namespace {

constexpr PrecisionClass kPacked[] = {PrecisionClass::int4, PrecisionClass::int2};

// A full page of keys with outlier channels and of plain values.
Pages fullPage(PageFormat format, unsigned seed) {
  const AttentionShape shape{format.kvHeads, format.kvHeads, format.headDim};
  Sequence sequence(shape, kPageTokens, seed, format.precision);
  for (std::int64_t token = 0; token < kPageTokens; ++token) {
    for (int head = 0; head < format.kvHeads; ++head) {
      float* k = sequence.qkv.data() + token * sequence.cols + (format.kvHeads + head) * format.headDim;
      k[3] = k[3] * 4 + 60;
      k[7] = 0;
    }
  }
  AttentionLane(Isa::portable).all(sequence, kPageTokens);
  return std::move(sequence.pages);
}

PageConversion conversionOf(const Pages& page, std::vector<float>& to, PrecisionClass precision) {
  const PageFormat format = page.format.in(precision);
  to.assign(format.pageBytes() / sizeof(float), NAN);
  return {page.table[0], reinterpret_cast<std::byte*>(to.data()), page.format, format};
}

}  // namespace

TEST("page format: a packed page's bits are all used once, and cost what is said of them") {
  for (const PrecisionClass precision : kPacked) {
    const PageFormat format{precision, 1, 80};
    for (const bool keys : {true, false}) {
      std::vector<std::uint16_t> words(format.tileBytes() / 2);
      for (int token = 0; token < kPageTokens; ++token) {
        for (int channel = 0; channel < format.headDim; ++channel) {
          const auto [word, shift] = format.placeOf(keys ? PageFormat::packedKeyIndex(token, channel)
                                                         : format.packedValueIndex(token, channel));
          const int mask = ((1 << bitsOf(precision)) - 1) << shift;
          test::equal(words.at(word) & mask, 0, "bits used before");
          words[word] = static_cast<std::uint16_t>(words[word] | mask);
        }
      }
      for (const std::uint16_t word : words) test::equal(word, 0xffff, "bits of a word");
    }
  }
  const auto bits = [](PrecisionClass precision) {
    const PageFormat format{precision, 8, 128};
    return static_cast<double>(format.pageBytes()) * 8 / (2 * 8 * 128 * kPageTokens);
  };
  test::equal(bits(PrecisionClass::bf16), 16.0, "bits of bf16");
  test::equal(bits(PrecisionClass::int8), 8.25, "bits of int8");
  test::equal(bits(PrecisionClass::int4), 4.625, "bits of int4");
  test::equal(bits(PrecisionClass::int2), 2.625, "bits of int2");
}

TEST("requantize: every element comes back within half a step, whatever it came from") {
  for (const PrecisionClass from : {PrecisionClass::bf16, PrecisionClass::int8}) {
    for (const int headDim : {16, 64, 80, 128, 256}) {
      for (const PrecisionClass to : {PrecisionClass::int8, PrecisionClass::int4}) {
        if (to == from) continue;
        const Pages exact = fullPage({from, 2, headDim}, 31);
        Pages page = fullPage({from, 2, headDim}, 31);
        page.convert(Isa::portable, 0, to);
        for (int head = 0; head < 2; ++head) {
          for (int token = 0; token < kPageTokens; ++token) {
            double largestKey = 0, largestValue = 0;
            for (int c = 0; c < headDim; ++c) {
              largestKey = std::max(largestKey, std::abs(exact.key(head, token, c)));
              largestValue = std::max(largestValue, std::abs(exact.value(head, token, c)));
            }
            for (int c = 0; c < headDim; ++c) {
              const bool packed = isPacked(to);
              const double keyStep = packed ? page.keyStep(head, token, c) : largestKey / 127;
              const double valueStep = packed ? page.valueStep(head, token) : largestValue / 127;
              const std::string what = std::string(nameOf(from)) + " to " + nameOf(to);
              near(page.key(head, token, c), exact.key(head, token, c), 0.5001 * keyStep, what + ", key");
              near(page.value(head, token, c), exact.value(head, token, c), 0.5001 * valueStep,
                   what + ", value");
            }
          }
        }
      }
    }
  }
}

TEST("requantize: four levels lie where the error is least, not over a part of the range") {
  // The squared error of levels that cover so much of a group's range, each value at the nearest.
  const auto errorOver = [](const std::vector<double>& group, double covered) {
    const auto [low, high] = std::minmax_element(group.begin(), group.end());
    const double middle = (*low + *high) / 2, step = (*high - *low) / 3 * covered;
    double error = 0;
    for (const double x : group) {
      const double code = std::clamp(std::round((x - middle) / step + 1.5), 0.0, 3.0);
      error += std::pow(middle + step * (code - 1.5) - x, 2);
    }
    return error;
  };
  for (const int headDim : {64, 128}) {
    const Pages exact = fullPage({PrecisionClass::bf16, 1, headDim}, 37);
    Pages page = fullPage({PrecisionClass::bf16, 1, headDim}, 37);
    page.convert(Isa::portable, 0, PrecisionClass::int2);
    double keys = 0, values = 0, keysOver = 0, valuesOver = 0;
    for (int c = 0; c < headDim; ++c) {
      std::vector<double> channel;
      for (int token = 0; token < kPageTokens; ++token) {
        channel.push_back(exact.key(0, token, c));
        keys += std::pow(page.key(0, token, c) - channel.back(), 2);
      }
      keysOver += c == 7 ? 0 : errorOver(channel, 0.8);  // that one is zero
    }
    for (int token = 0; token < kPageTokens; ++token) {
      std::vector<double> ofToken;
      for (int c = 0; c < headDim; ++c) {
        ofToken.push_back(exact.value(0, token, c));
        values += std::pow(page.value(0, token, c) - ofToken.back(), 2);
      }
      valuesOver += errorOver(ofToken, 0.8);
    }
    isTrue(keys < 0.97 * keysOver, "keys: " + std::to_string(keys / keysOver));
    isTrue(values < 0.9 * valuesOver, "values: " + std::to_string(values / valuesOver));
  }
}

TEST("requantize: a channel far from zero keeps the steps of its own range") {
  Pages page = fullPage({PrecisionClass::bf16, 1, 64}, 32);
  page.convert(Isa::portable, 0, PrecisionClass::int4);
  double widest = 0;
  for (int c = 0; c < 64; ++c) widest = std::max(widest, page.keyStep(0, 0, c));
  isTrue(page.keyStep(0, 0, 20) < widest / 8, "the outlier's step is its own");
}

TEST("requantize: all instruction sets and any team write the same bytes") {
  for (const PrecisionClass from : {PrecisionClass::bf16, PrecisionClass::int8}) {
    for (const PrecisionClass to : {PrecisionClass::int8, PrecisionClass::int4, PrecisionClass::int2}) {
      if (to == from) continue;
      for (const int headDim : {16, 80, 128}) {
        std::vector<Pages> pages;
        for (unsigned seed = 0; seed < 5; ++seed) pages.push_back(fullPage({from, 2, headDim}, 33 + seed));
        std::vector<std::vector<float>> expected(pages.size()), actual(pages.size());
        std::vector<PageConversion> plain, others;
        for (std::size_t i = 0; i < pages.size(); ++i) {
          plain.push_back(conversionOf(pages[i], expected[i], to));
          cpu::requantizePage(Isa::portable, plain.back());
          others.push_back(conversionOf(pages[i], actual[i], to));
        }
        for (const Isa isa : availableIsas()) {
          ThreadTeam team(2);
          team.pin(coresFor(2));
          cpu::requantize(isa, team, others);
          for (std::size_t i = 0; i < pages.size(); ++i) {
            test::equal(std::memcmp(actual[i].data(), expected[i].data(), expected[i].size() * sizeof(float)),
                        0, std::string(isaName(isa)) + " to " + nameOf(to));
          }
        }
      }
    }
  }
}

TEST("requantize: an int4 page becomes far by a copy, and its outline has its key scales and its place") {
  constexpr int kHeads = 3;
  for (const int headDim : {16, 80, 128}) {
    std::vector<Pages> pages;
    const PageFormat int4{PrecisionClass::int4, kHeads, headDim}, far = int4.in(PrecisionClass::far);
    std::vector<std::vector<float>> outlines(4), places(4);
    std::vector<PageConversion> conversions;
    for (unsigned i = 0; i < 4; ++i) {
      pages.push_back(fullPage({PrecisionClass::bf16, kHeads, headDim}, 41 + i));
      pages.back().convert(Isa::portable, 0, PrecisionClass::int4);
    }
    const auto fill = [&] {
      conversions.clear();
      for (unsigned i = 0; i < 4; ++i) {
        outlines[i].assign(far.pageBytes() / sizeof(float), NAN);
        places[i].assign(int4.pageBytes() / sizeof(float), NAN);
        conversions.push_back({pages[i].table[0], reinterpret_cast<std::byte*>(outlines[i].data()), int4, far,
                               reinterpret_cast<std::byte*>(places[i].data())});
      }
    };
    const auto expectFar = [&](const std::string& what) {
      for (const auto& [from, to, fromFormat, toFormat, detail] : conversions) {
        test::equal(std::memcmp(detail, from, int4.pageBytes()), 0, what + ", its bytes");
        for (int head = 0; head < kHeads; ++head) {
          const std::size_t bytes = std::size_t{4} * static_cast<std::size_t>(headDim);
          test::equal(std::memcmp(to + head * bytes, from + int4.keyScales(head), bytes), 0,
                      what + ", key scales of head " + std::to_string(head));
        }
        const PageContent content = contentOf(to, far);
        test::isTrue(content.data == detail, what + ", where its outline leads");
        test::isTrue(content.format.precision == PrecisionClass::int4, what + ", to what");
      }
    };
    for (const Isa isa : availableIsas()) {
      fill();
      ThreadTeam team(2);
      team.pin(coresFor(2));
      cpu::requantize(isa, team, conversions);
      expectFar("by a team");
      fill();
      for (const PageConversion& conversion : conversions) cpu::requantizePage(isa, conversion);
      expectFar("one by one");
    }
  }
}

TEST("requantize: equal values come back as they are, zeros among them") {
  for (const float value : {0.0f, 1.0f, -3.5f, 60.0f}) {
    for (const PrecisionClass to : kPacked) {
      Pages page = fullPage({PrecisionClass::bf16, 1, 32}, 34);
      auto* elements = reinterpret_cast<bf16*>(page.table[0]);
      std::fill_n(elements, 2 * page.format.tileElements(), toBf16(value));
      page.convert(Isa::portable, 0, to);
      near(page.key(0, 5, 7), value, 0, "key");
      near(page.value(0, 5, 7), value, 0, "value");
    }
  }
}

TEST("requantize: what is not finite stays visible in all that shares its scale, and nowhere else") {
  for (const Isa isa : availableIsas()) {
    for (const float broken : {NAN, INFINITY, -INFINITY}) {
      for (const PrecisionClass to : kPacked) {
        Pages page = fullPage({PrecisionClass::bf16, 1, 32}, 35);
        auto* elements = reinterpret_cast<bf16*>(page.table[0]);
        elements[PageFormat::keyIndex(9, 4)] = toBf16(broken);
        elements[page.format.tileElements() + page.format.valueIndex(9, 4)] = toBf16(broken);
        page.convert(isa, 0, to);
        for (int token = 0; token < kPageTokens; ++token) {
          for (int c = 0; c < 32; ++c) {
            test::equal(std::isfinite(page.key(0, token, c)), c != 4, "key");
            test::equal(std::isfinite(page.value(0, token, c)), token != 9, "value");
          }
        }
      }
      Pages page = fullPage({PrecisionClass::bf16, 1, 32}, 35);
      reinterpret_cast<bf16*>(page.table[0])[PageFormat::keyIndex(9, 5)] = toBf16(broken);
      page.convert(isa, 0, PrecisionClass::int8);
      for (int token = 0; token < kPageTokens; ++token) {
        test::equal(std::isfinite(page.key(0, token, 4)), token != 9, "key in int8");
      }
    }
  }
}

TEST("requantize: refuses what is not a step down, by name") {
  const auto convert = [](PrecisionClass from, PrecisionClass to, int headDim = 64) {
    std::vector<float> memory(1 << 16);
    auto* bytes = reinterpret_cast<std::byte*>(memory.data());
    cpu::requantizePage(Isa::portable, {bytes, bytes, {from, 1, 64}, {to, 1, headDim}});
  };
  throws([&] { convert(PrecisionClass::bf16, PrecisionClass::bf16); }, "from bf16 to bf16");
  throws([&] { convert(PrecisionClass::int8, PrecisionClass::bf16); }, "from int8 to bf16");
  throws([&] { convert(PrecisionClass::int4, PrecisionClass::int2); }, "from int4 to int2");
  throws([&] { convert(PrecisionClass::bf16, PrecisionClass::none); }, "from bf16 to none");
  throws([&] { convert(PrecisionClass::none, PrecisionClass::int2); }, "from none to int2");
  throws([&] { convert(PrecisionClass::bf16, PrecisionClass::far); }, "from bf16 to far");
  throws([&] { convert(PrecisionClass::int2, PrecisionClass::far); }, "from int2 to far");
  throws([&] { convert(PrecisionClass::far, PrecisionClass::far); }, "from far to far");
  throws([&] { convert(PrecisionClass::far, PrecisionClass::int4); }, "from far to int4");
  throws([&] { convert(PrecisionClass::int4, PrecisionClass::far); }, "needs a place");
  throws([&] { convert(PrecisionClass::bf16, PrecisionClass::int4, 32); }, "formats do not fit");
}
