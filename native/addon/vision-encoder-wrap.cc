#include "vision-encoder-wrap.h"

#include <algorithm>
#include <span>
#include <utility>

#include "core/error.h"
#include "read-options.h"

namespace tandem::addon {

Napi::Function VisionEncoderWrap::define(Napi::Env env) {
  return DefineClass(env, "NativeVisionEncoder",
                     {InstanceAccessor("weightBytes", &VisionEncoderWrap::weightBytes, nullptr),
                      InstanceAccessor("threads", &VisionEncoderWrap::threads, nullptr),
                      InstanceMethod("encode", &VisionEncoderWrap::encode),
                      InstanceMethod("close", &VisionEncoderWrap::close)});
}

VisionEncoderWrap::VisionEncoderWrap(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<VisionEncoderWrap>(info) {
  try {
    const auto options = info[0].As<Napi::Object>();
    threads_ = std::make_unique<vision::EncoderThreads>(readVisionOptions(options));
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::exception& error) {
    throw Napi::Error::New(info.Env(), error.what());
  }
  weightBytes_ = threads_->encoder().weightBytes();
  threadCount_ = threads_->count();
  outlet_ = std::make_shared<Outlet>(info.Env(), "tandem vision");
  // Hooks run last in, first out: this one before that which ends the outlet.
  napi_add_env_cleanup_hook(info.Env(), onEnvironmentEnd, this);
}

VisionEncoderWrap::~VisionEncoderWrap() { shut(); }

void VisionEncoderWrap::onEnvironmentEnd(void* self) { static_cast<VisionEncoderWrap*>(self)->shut(); }

void VisionEncoderWrap::shut() {
  if (!threads_) return;
  napi_remove_env_cleanup_hook(Env(), onEnvironmentEnd, this);
  threads_.reset();
  outlet_->close();
}

Napi::Value VisionEncoderWrap::weightBytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(weightBytes_));
}

Napi::Value VisionEncoderWrap::threads(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), threadCount_);
}

Napi::Value VisionEncoderWrap::encode(const Napi::CallbackInfo& info) {
  return outlet_->promise(info.Env(), [&](Outlet::Answer answer) {
    if (!threads_) throw Error("the vision encoder is closed");
    if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_float32_array) {
      throw Error("pixels must be a Float32Array");
    }
    const auto pixels = info[0].As<Napi::Float32Array>();
    const int call = calls_++;
    const auto settle = [this, call] {
      pixels_.erase(call);
      Unref();
    };
    threads_->post(std::span<const float>(pixels.Data(), pixels.ElementLength()),
                   info[1].ToNumber().Int64Value(),
                   [settle, answer = std::move(answer)](std::vector<float> rows, std::exception_ptr failure) {
                     answer([settle, rows = std::move(rows), failure](Napi::Env env) -> Napi::Value {
                       settle();
                       if (failure) std::rethrow_exception(failure);
                       auto result = Napi::Float32Array::New(env, rows.size());
                       std::ranges::copy(rows, result.Data());
                       return result;
                     });
                   });
    // Both live until the answer has come to this thread.
    pixels_.emplace(call, Napi::Persistent(pixels));
    Ref();
  });
}

void VisionEncoderWrap::close(const Napi::CallbackInfo&) { shut(); }

}  // namespace tandem::addon
