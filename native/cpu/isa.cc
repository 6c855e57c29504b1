#include "cpu/isa.h"

#include <string>

#include "core/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace tandem {
namespace {

#if defined(__x86_64__)
// The tiles are a large register state, which Linux gives to a process only when it asks.
bool permitTiles() {
  constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr int kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

bool hasAvxVnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kAvxVnni = 1u << 4;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & kAvxVnni);
}

bool hasAmx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25;
  return (d & kBf16) && (d & kTile) && (d & kInt8) && permitTiles();
}
#endif

std::vector<Isa> detect() {
  std::vector<Isa> found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512Vnni = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512vnni");
  const bool avx512 = avx512Vnni && __builtin_cpu_supports("avx512bf16");
  if (avx512 && hasAmx()) found.push_back(Isa::amx);
  if (avx512) found.push_back(Isa::avx512);
  if (avx512Vnni) found.push_back(Isa::avx512Vnni);
  if (avx2 && hasAvxVnni()) found.push_back(Isa::avxVnni);
  if (avx2) found.push_back(Isa::avx2);
#endif
  found.push_back(Isa::portable);
  return found;
}

}  // namespace

const std::vector<Isa>& availableIsas() {
  static const std::vector<Isa> found = detect();
  return found;
}

const char* isaName(Isa isa) {
  switch (isa) {
    case Isa::amx:
      return "amx";
    case Isa::avx512:
      return "avx512";
    case Isa::avx512Vnni:
      return "avx512-vnni";
    case Isa::avxVnni:
      return "avx-vnni";
    case Isa::avx2:
      return "avx2";
    case Isa::portable:
      return "portable";
  }
  return "unknown";
}

Isa parseIsa(std::string_view name) {
  std::string known;
  for (const Isa isa : availableIsas()) {
    if (name == isaName(isa)) return isa;
    known += known.empty() ? "" : ", ";
    known += isaName(isa);
  }
  throw Error("instruction set \"" + std::string(name) + "\" is not available here; this machine has " +
              known);
}

}  // namespace tandem
