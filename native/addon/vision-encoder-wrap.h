#pragma once

#include <napi.h>

#include <map>
#include <memory>

#include "outlet.h"
#include "vision/encoder-threads.h"

namespace tandem::addon {

// `NativeVisionEncoder` of engine/device/addon.d.ts: encoder threads, and the way of their results to
// JavaScript.
class VisionEncoderWrap : public Napi::ObjectWrap<VisionEncoderWrap> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit VisionEncoderWrap(const Napi::CallbackInfo& info);
  ~VisionEncoderWrap() override;

 private:
  Napi::Value weightBytes(const Napi::CallbackInfo& info);
  Napi::Value threads(const Napi::CallbackInfo& info);
  Napi::Value encode(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  void shut();
  static void onEnvironmentEnd(void* self);

  std::unique_ptr<vision::EncoderThreads> threads_;  // none once closed
  std::shared_ptr<Outlet> outlet_;
  std::size_t weightBytes_ = 0;
  int threadCount_ = 0;
  // What threads read, by the number of the call.
  std::map<int, Napi::Reference<Napi::Float32Array>> pixels_;
  int calls_ = 0;
};

}  // namespace tandem::addon
