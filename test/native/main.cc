// Runs the native tests: `tandem-tests [--share I/N] [part of a name]...`. Prints one line a test, with its
// seconds where it takes one or more, and exits with 1 if any failed. With --share every Nth test, from the
// Ith on, so that processes beside each other have them all. A test that kills the program is named before it
// ends.

#include <unistd.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "check.h"
#include "cpu/cores.h"

// Of the sanitizers, where the program is built with them: called before they end it.
extern "C" [[gnu::weak]] void __sanitizer_set_death_callback(void (*callback)());

using tandem::test::running;

namespace {

// What a signal's handler may call.
void nameRunning() {
  if (!running) return;
  for (const char* part : {"FAIL ", running, ": it killed the program\n"}) {
    if (write(STDOUT_FILENO, part, std::strlen(part)) < 0) return;
  }
}

void nameRunningAtDeath() {
  if (__sanitizer_set_death_callback) {
    __sanitizer_set_death_callback(nameRunning);
    return;
  }
  for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT}) {
    std::signal(signal, [](int received) {
      nameRunning();
      std::signal(received, SIG_DFL);
      std::raise(received);
    });
  }
}

// Tests take and give megabytes again and again, whose pages the system would clear each time.
void keepFreedMemory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 256 << 20);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif
}

}  // namespace

int main(int argc, char** argv) {
  int passed = 0, failed = 0;
  int share = 1, shares = 1, names = 1;
  if (argc > 1 && std::strcmp(argv[1], "--share") == 0) {
    if (argc < 3 || std::sscanf(argv[2], "%d/%d", &share, &shares) != 2 || share < 1 || share > shares) {
      std::fprintf(stderr, "--share is I/N, as 1/2\n");
      return 2;
    }
    names = 3;
  }
  nameRunningAtDeath();
  keepFreedMemory();
  int number = 0;
  for (const auto& test : tandem::test::cases()) {
    bool chosen = argc == names;
    for (int i = names; i < argc; ++i) chosen |= test.name.find(argv[i]) != std::string::npos;
    if (!chosen || number++ % shares != share - 1) continue;
    running = test.name.c_str();
    const auto began = std::chrono::steady_clock::now();
    try {
      // A team that a test leads pins this thread; left there, processes beside each other would share that
      // core.
      const tandem::cpu::AffinityGuard guard;
      test.body();
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - began;
      std::printf("ok   %s", test.name.c_str());
      if (seconds.count() >= 1) std::printf(" (%.1f s)", seconds.count());
      std::printf("\n");
      ++passed;
    } catch (const std::exception& error) {
      std::printf("FAIL %s: %s\n", test.name.c_str(), error.what());
      ++failed;
    }
    std::fflush(stdout);
  }
  running = nullptr;
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 && passed > 0 ? 0 : 1;
}
