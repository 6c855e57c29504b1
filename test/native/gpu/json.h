#pragma once

// As much of JSON as the programs of the GPU check write.

#include <cmath>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace tandem::gpu {

inline std::string quoted(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  return result + '"';
}

inline std::string number(double value) {
  if (!std::isfinite(value)) return "null";
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", value);
  return text;
}

inline std::string list(const std::vector<std::string>& items, const char* separator = ", ") {
  std::string result = "[";
  for (std::size_t i = 0; i < items.size(); ++i) result += (i > 0 ? separator : "") + items[i];
  return result + "]";
}

// One figure. A baseline is in the same unit; the ratio says how much better the value is.
struct Row {
  std::string name;
  double value = 0;
  const char* unit = "";
  double baseline = NAN;
  double ratio = NAN;

  std::string json() const {
    return "{\"name\": " + quoted(name) + ", \"value\": " + number(value) + ", \"unit\": " + quoted(unit) +
           ", \"baseline\": " + number(baseline) + ", \"ratio\": " + number(ratio) + "}";
  }
};

inline void writeFile(const std::string& path, const std::string& text) {
  std::FILE* file = std::fopen(path.c_str(), "w");
  if (!file) throw Error("cannot write " + path);
  std::fwrite(text.data(), 1, text.size(), file);
  if (std::fclose(file) != 0) throw Error("cannot write " + path);
}

}  // namespace tandem::gpu
