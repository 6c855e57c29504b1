// Runs the native tests: `tandem-tests [part of a name]...`. Prints one line a test and exits with 1 if any
// failed.

#include <cstdio>

#include "check.h"

int main(int argc, char** argv) {
  int passed = 0, failed = 0;
  for (const auto& test : tandem::test::cases()) {
    bool chosen = argc == 1;
    for (int i = 1; i < argc; ++i) chosen |= test.name.find(argv[i]) != std::string::npos;
    if (!chosen) continue;
    try {
      test.body();
      std::printf("ok   %s\n", test.name.c_str());
      ++passed;
    } catch (const std::exception& error) {
      std::printf("FAIL %s: %s\n", test.name.c_str(), error.what());
      ++failed;
    }
    std::fflush(stdout);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 && passed > 0 ? 0 : 1;
}
