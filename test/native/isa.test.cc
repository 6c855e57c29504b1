#include "cpu/isa.h"

#include <algorithm>

#include "check.h"

using namespace tandem;

TEST("isa: best first, each once, and portable everywhere") {
  const auto& isas = availableIsas();
  test::isTrue(!isas.empty() && isas.back() == Isa::portable, "portable is the last");
  for (std::size_t i = 1; i < isas.size(); ++i) test::isTrue(isas[i] < isas[i - 1], "best first");
}

TEST("isa: the tiles' and the widest vectors' kernels use the narrower ones', which are there too") {
  const auto has = [](Isa isa) { return std::ranges::count(availableIsas(), isa) == 1; };
  if (has(Isa::amx)) test::isTrue(has(Isa::avx512), "amx without avx512");
  if (has(Isa::avx512)) test::isTrue(has(Isa::avx512Vnni), "avx512 without avx512-vnni");
  if (has(Isa::avx512Vnni)) test::isTrue(has(Isa::avx2), "avx512-vnni without avx2");
  if (has(Isa::avxVnni)) test::isTrue(has(Isa::avx2), "avx-vnni without avx2");
}

TEST("isa: a name is read as it is written; an unknown one is refused with those that are there") {
  for (const Isa isa : availableIsas()) test::isTrue(parseIsa(isaName(isa)) == isa, isaName(isa));
  test::throws([] { parseIsa("sse9"); }, "\"sse9\" is not available here");
  for (const Isa isa : availableIsas()) {
    test::throws([] { parseIsa(""); }, isaName(isa));
  }
}
