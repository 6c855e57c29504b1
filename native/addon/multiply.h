#pragma once

#include <napi.h>

namespace tandem::addon {

// multiply(shape, a, b, out), as engine/device/addon.d.ts describes it.
Napi::Value multiply(const Napi::CallbackInfo& info);

}  // namespace tandem::addon
