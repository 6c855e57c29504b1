#pragma once

#include <napi.h>

namespace tandem::addon {

// What the addon keeps for each environment that loads it (the main thread, a worker thread).
struct Instance {
  Napi::FunctionReference deviceClass;
};

}  // namespace tandem::addon
