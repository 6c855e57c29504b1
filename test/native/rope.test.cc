#include "cpu/rope.h"

#include "attention-case.h"
#include "check.h"

using namespace tandem;
using namespace tandem::test;

namespace {

// Angles as a plain loop in long double.
void expectAngles(const cpu::RopeAngles& angles, const RopeTable& rope, std::span<const EntryRows> entries) {
  for (std::size_t entry = 0; entry < entries.size(); ++entry) {
    for (std::int64_t row = 0; row < entries[entry].count; ++row) {
      const auto cosines = angles.cosines(entry, row), sines = angles.sines(entry, row);
      for (std::size_t i = 0; i < rope.inverseFrequencies.size(); ++i) {
        const long double angle =
            static_cast<long double>(entries[entry].position + row) * rope.inverseFrequencies[i];
        near(cosines[i], static_cast<double>(std::cos(angle)) * rope.attentionFactor, 1e-7, "cosine");
        near(sines[i], static_cast<double>(std::sin(angle)) * rope.attentionFactor, 1e-7, "sine");
      }
    }
  }
}

}  // namespace

TEST("rope: angles are accurate up to position 10^6, for every entry of a step and any team") {
  for (const int threads : {1, 3}) {
    ThreadTeam team(threads);
    team.pin(coresFor(threads));
    RopeTable rope = plainRope(128, 500000);
    cpu::RopeAngles angles;
    const std::vector<EntryRows> entries = {{0, 3, 0}, {3, 1, 999999}, {4, 0, 7}, {4, 5, 131071}};
    angles.prepare(team, entries, rope);
    expectAngles(angles, rope, entries);
    // The same rows at other positions, and another scaling, must not get the old table.
    const std::vector<EntryRows> later = {{0, 3, 1}, {3, 1, 1000000}, {4, 0, 7}, {4, 5, 131072}};
    angles.prepare(team, later, rope);
    expectAngles(angles, rope, later);
    rope.attentionFactor = 0.9f;
    angles.prepare(team, later, rope);
    expectAngles(angles, rope, later);
    rope.inverseFrequencies[3] *= 0.125f;
    angles.prepare(team, later, rope);
    expectAngles(angles, rope, later);
  }
}

TEST("rope: rotates channel i with channel i + half") {
  std::vector<float> head = {1, 2, 3, 4};
  const std::vector<float> cosines = {0, 0.6f}, sines = {1, 0.8f};
  cpu::rotateHead(head, cosines, sines);
  near(head[0], -3, 1e-6, "first of pair 0");
  near(head[2], 1, 1e-6, "second of pair 0");
  near(head[1], 2 * 0.6 - 4 * 0.8, 1e-6, "first of pair 1");
  near(head[3], 4 * 0.6 + 2 * 0.8, 1e-6, "second of pair 1");
}

TEST("rope: the score of two tokens depends on their distance alone") {
  ThreadTeam team(1);
  const RopeTable rope = plainRope(64);
  std::mt19937 random(4);
  std::normal_distribution<float> normal;
  std::vector<float> q(64), k(64);
  for (float& x : q) x = normal(random);
  for (float& x : k) x = normal(random);
  const auto score = [&](std::int64_t at, std::int64_t distance) {
    cpu::RopeAngles angles;
    angles.prepare(team, std::vector<EntryRows>{{0, 1, at}, {1, 1, at - distance}}, rope);
    std::vector<float> a = q, b = k;
    cpu::rotateHead(a, angles.cosines(0, 0), angles.sines(0, 0));
    cpu::rotateHead(b, angles.cosines(1, 0), angles.sines(1, 0));
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
    return sum;
  };
  for (const std::int64_t at : {1000, 100000, 1000000}) near(score(at, 37), score(37, 37), 2e-5, "score");
}
