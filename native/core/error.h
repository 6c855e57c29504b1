#pragma once

#include <stdexcept>
#include <string>

namespace tandem {

// Everything native refuses. The message names the thing and what was expected; `addon/` turns it into a
// JavaScript Error.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The device does nothing more for this process, whatever is asked of it: a kernel went wrong, or the
// hardware did. What was on it is lost, and only a new process gets it back.
class DeviceLost final : public Error {
 public:
  using Error::Error;
};

inline void check(bool ok, const char* message) {
  if (!ok) throw Error(message);
}

}  // namespace tandem
