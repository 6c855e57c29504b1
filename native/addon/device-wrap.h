#pragma once

#include <napi.h>

#include <array>
#include <functional>
#include <map>
#include <memory>

#include "model/device.h"
#include "outlet.h"

namespace tandem::addon {

// `NativeDevice` of engine/device/addon.d.ts: a Device, and the ways its results take to JavaScript.
class DeviceWrap : public Napi::ObjectWrap<DeviceWrap> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit DeviceWrap(const Napi::CallbackInfo& info);
  ~DeviceWrap() override;

  // Takes over a loaded device. Called once, before JavaScript sees the object.
  void adopt(std::unique_ptr<Device> device);

 private:
  Napi::Value info(const Napi::CallbackInfo& info);
  void partition(const Napi::CallbackInfo& info);
  Napi::Value run(const Napi::CallbackInfo& info);
  Napi::Value follow(const Napi::CallbackInfo& info);
  Napi::Value withdraw(const Napi::CallbackInfo& info);
  void setVocabulary(const Napi::CallbackInfo& info);
  Napi::Value openGrammar(const Napi::CallbackInfo& info);
  void closeGrammar(const Napi::CallbackInfo& info);
  void openSlot(const Napi::CallbackInfo& info);
  void closeSlot(const Napi::CallbackInfo& info);
  Napi::Value kvInfo(const Napi::CallbackInfo& info);
  Napi::Value kvFreeBlocks(const Napi::CallbackInfo& info);
  Napi::Value kvFreeFarBlocks(const Napi::CallbackInfo& info);
  Napi::Value kvCompact(const Napi::CallbackInfo& info);
  Napi::Value kvReserve(const Napi::CallbackInfo& info);
  Napi::Value kvLength(const Napi::CallbackInfo& info);
  Napi::Value kvPublish(const Napi::CallbackInfo& info);
  void kvAttach(const Napi::CallbackInfo& info);
  void kvUnpublish(const Napi::CallbackInfo& info);
  Napi::Value kvFork(const Napi::CallbackInfo& info);
  void kvReplace(const Napi::CallbackInfo& info);
  Napi::Value kvConvert(const Napi::CallbackInfo& info);
  void kvFinishConversion(const Napi::CallbackInfo& info);
  void kvDropConversion(const Napi::CallbackInfo& info);
  void kvDrop(const Napi::CallbackInfo& info);
  Napi::Value kvHeldBytes(const Napi::CallbackInfo& info);
  Napi::Value kvSwapOut(const Napi::CallbackInfo& info);
  Napi::Value kvSwapIn(const Napi::CallbackInfo& info);
  void kvDropSwapped(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  Device& device() const;
  const std::shared_ptr<Grammar>& grammarOf(const Napi::Value& id) const;
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

  // Ends the swap of a slot when its copy's answer has come to JavaScript's thread.
  std::function<Device&()> swapEnd(int slot) const;

  std::shared_ptr<Device> device_;                    // others may only watch it
  std::map<int, std::shared_ptr<Grammar>> grammars_;  // by id
  int nextGrammar_ = 0;
  std::array<std::shared_ptr<Outlet>, 2> lanes_;
  std::array<Outlet::Answer, 2> following_;  // of the step that waits behind each lane's running one
  std::shared_ptr<Outlet> copies_;           // swaps and conversions
};

}  // namespace tandem::addon
