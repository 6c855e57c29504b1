#pragma once

#include <napi.h>

namespace tandem::addon {

// `openDevice` of engine/device/addon.d.ts: loads on a thread of its own.
Napi::Value openDevice(const Napi::CallbackInfo& info);

}  // namespace tandem::addon
