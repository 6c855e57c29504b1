#pragma once

// A test registers itself by `TEST(name) { ... }`, and fails by an exception; `main.cc` runs them all, or
// those whose name contains an argument. Assertions print what they compared.

#include <cmath>
#include <concepts>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::test {

struct Case {
  std::string name;
  std::function<void()> body;
};

inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

// The name of the test that runs.
inline const char* running = nullptr;

struct Registration {
  Registration(const char* name, void (*body)()) { cases().push_back({name, body}); }
};

[[noreturn]] inline void fail(const std::string& message) { throw std::runtime_error(message); }

template <class A, class B>
void equal(const A& actual, const B& expected, std::string_view what) {
  if (actual == expected) return;
  std::ostringstream text;
  text << what << ": got " << actual << ", expected " << expected;
  fail(text.str());
}

inline void near(double actual, double expected, double tolerance, std::string_view what) {
  if (std::abs(actual - expected) <= tolerance) return;
  std::ostringstream text;
  text.precision(9);
  text << what << ": got " << actual << ", expected " << expected << " +- " << tolerance;
  fail(text.str());
}

// For many numbers: what each is called is put together where it is wrong alone.
template <std::invocable Name>
void near(double actual, double expected, double tolerance, const Name& nameOf) {
  if (std::abs(actual - expected) <= tolerance) return;
  near(actual, expected, tolerance, std::string_view(nameOf()));
}

inline void isTrue(bool condition, std::string_view what) {
  if (!condition) fail(std::string(what));
}

template <class Action>
void throws(Action action, std::string_view part) {
  try {
    action();
  } catch (const std::exception& error) {
    if (std::string_view(error.what()).find(part) != std::string_view::npos) return;
    fail("threw \"" + std::string(error.what()) + "\", expected it to name \"" + std::string(part) + "\"");
  }
  fail("did not throw; expected \"" + std::string(part) + "\"");
}

}  // namespace tandem::test

#define TANDEM_TEST(name, number)                                                       \
  static void test_##number();                                                          \
  static const ::tandem::test::Registration registration_##number{name, test_##number}; \
  static void test_##number()
#define TANDEM_NUMBERED_TEST(name, number) TANDEM_TEST(name, number)
// Counted and not by lines: several files are compiled as one (TANDEM_UNITY).
#define TEST(name) TANDEM_NUMBERED_TEST(name, __COUNTER__)
