#include "cuda-info.h"

#include <sstream>
#include <string>

#ifdef TANDEM_HAS_CUDA
#include "cuda/driver.h"
#endif

namespace tandem::addon {

#ifdef TANDEM_HAS_CUDA

namespace {

Napi::Object toObject(Napi::Env env, const cuda::DeviceFacts& device) {
  auto object = Napi::Object::New(env);
  object.Set("name", device.name);
  object.Set("computeCapability", std::to_string(device.major) + "." + std::to_string(device.minor));
  object.Set("memoryBytes", static_cast<double>(device.memoryBytes));
  object.Set("l2Bytes", static_cast<double>(device.l2Bytes));
  object.Set("sms", device.limits.sms);
  object.Set("smallestGroup", device.limits.smallest);
  object.Set("problem", device.problem);
  object.Set("whyNoSplit", device.whyNoSplit);
  return object;
}

// What the kernels were compiled for, of a list as 90a,89,80.
Napi::Array architectures(Napi::Env env) {
  auto names = Napi::Array::New(env);
#ifdef TANDEM_HAS_CUDA_KERNELS
  std::istringstream list(TANDEM_CUDA_ARCHITECTURES);
  for (std::string name; std::getline(list, name, ',');) names.Set(names.Length(), name);
#endif
  return names;
}

}  // namespace

Napi::Value cudaInfo(const Napi::CallbackInfo& info) {
  const cuda::CudaFacts facts = cuda::findCuda();
  auto object = Napi::Object::New(info.Env());
  object.Set("built", true);
  object.Set("architectures", architectures(info.Env()));
  object.Set("driverVersion", facts.driverVersion);
  object.Set("runtimeVersion", facts.runtimeVersion);
  object.Set("problem", facts.problem);
  auto devices = Napi::Array::New(info.Env());
  for (const cuda::DeviceFacts& device : facts.devices) {
    devices.Set(devices.Length(), toObject(info.Env(), device));
  }
  object.Set("devices", devices);
  return object;
}

#else

Napi::Value cudaInfo(const Napi::CallbackInfo& info) {
  auto object = Napi::Object::New(info.Env());
  object.Set("built", false);
  object.Set("architectures", Napi::Array::New(info.Env()));
  object.Set("driverVersion", "");
  object.Set("runtimeVersion", "");
  object.Set("problem", "this build found no CUDA toolkit 13.0 or newer");
  object.Set("devices", Napi::Array::New(info.Env()));
  return object;
}

#endif

}  // namespace tandem::addon
