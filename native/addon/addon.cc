// The addon's door. Its surface is typed in engine/device/addon.d.ts.

#include <napi.h>

#include "cpu/cores.h"
#include "cpu/isa.h"
#include "cuda-info.h"
#include "device-wrap.h"
#include "instance.h"
#include "kv/page-pool.h"
#include "multiply.h"
#include "open-device.h"
#include "vision-encoder-wrap.h"

namespace tandem::addon {
namespace {

Napi::Value cpuInfo(const Napi::CallbackInfo& info) {
  auto object = Napi::Object::New(info.Env());
  object.Set("cores", static_cast<double>(cpu::allowedCores().size()));
  auto isas = Napi::Array::New(info.Env());
  for (const Isa isa : availableIsas()) isas.Set(isas.Length(), isaName(isa));
  object.Set("isas", isas);
  return object;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto* instance = new Instance;
  instance->deviceClass = Napi::Persistent(DeviceWrap::define(env));
  env.SetInstanceData(instance);  // freed with the environment
  exports.Set("chunkPages", static_cast<double>(kChunkPages));
  exports.Set("cpuInfo", Napi::Function::New(env, cpuInfo));
  exports.Set("cudaInfo", Napi::Function::New(env, cudaInfo));
  exports.Set("multiply", Napi::Function::New(env, multiply));
  exports.Set("openDevice", Napi::Function::New(env, openDevice));
  exports.Set("VisionEncoder", VisionEncoderWrap::define(env));
  return exports;
}

}  // namespace
}  // namespace tandem::addon

using tandem::addon::init;
NODE_API_MODULE(tandem, init)
