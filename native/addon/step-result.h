#pragma once

#include <napi.h>

#include "model/step.h"

namespace tandem::addon {

// The `StepResult` of engine/device/device.ts.
Napi::Object toStepResult(Napi::Env env, const StepResult& result);

}  // namespace tandem::addon
