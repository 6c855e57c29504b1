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

inline void check(bool ok, const char* message) {
  if (!ok) throw Error(message);
}

}  // namespace tandem
