#pragma once

#include <napi.h>

#include <array>
#include <memory>

#include "model/device.h"

namespace tandem::addon {

// `NativeDevice` of engine/device/addon.d.ts: a Device, and for each lane the way its results take to
// JavaScript.
class DeviceWrap : public Napi::ObjectWrap<DeviceWrap> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit DeviceWrap(const Napi::CallbackInfo& info);
  ~DeviceWrap() override;

  // Takes over a loaded device. Called once, before JavaScript sees the object.
  void adopt(std::unique_ptr<Device> device);

 private:
  struct Delivery;
  static void deliver(Napi::Env env, Napi::Function, std::nullptr_t*, Delivery* delivery);
  using Channel = Napi::TypedThreadSafeFunction<std::nullptr_t, Delivery, deliver>;

  Napi::Value info(const Napi::CallbackInfo& info);
  void partition(const Napi::CallbackInfo& info);
  Napi::Value run(const Napi::CallbackInfo& info);
  void openSlot(const Napi::CallbackInfo& info);
  void closeSlot(const Napi::CallbackInfo& info);
  Napi::Value kvInfo(const Napi::CallbackInfo& info);
  Napi::Value kvFreeBlocks(const Napi::CallbackInfo& info);
  Napi::Value kvReserve(const Napi::CallbackInfo& info);
  Napi::Value kvLength(const Napi::CallbackInfo& info);
  Napi::Value kvPublish(const Napi::CallbackInfo& info);
  void kvAttach(const Napi::CallbackInfo& info);
  void kvUnpublish(const Napi::CallbackInfo& info);
  Napi::Value kvFork(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  Device& device() const;
  void shut();
  static void onEnvironmentEnd(void* self);

  // Calls body, and turns what it throws into a JavaScript Error.
  template <class Body>
  static auto guarded(Napi::Env env, Body body) {
    try {
      return body();
    } catch (const Napi::Error&) {
      throw;
    } catch (const std::exception& error) {
      throw Napi::Error::New(env, error.what());
    }
  }

  std::unique_ptr<Device> device_;
  std::array<Channel, 2> channels_;
};

}  // namespace tandem::addon
