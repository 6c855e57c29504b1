#pragma once

#include <napi.h>

namespace tandem::addon {

// What was found of CUDA: `CudaInfo` in engine/device/addon.d.ts.
Napi::Value cudaInfo(const Napi::CallbackInfo& info);

}  // namespace tandem::addon
