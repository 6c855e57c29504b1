#pragma once

#include <napi.h>

#include <functional>
#include <memory>

namespace tandem::addon {

// The way that results take from native threads to JavaScript's promises. What waits here keeps the process
// alive; an idle outlet does not. All methods belong to JavaScript's thread.
class Outlet : public std::enable_shared_from_this<Outlet> {
 public:
  Outlet(Napi::Env env, const char* name);

  // Makes a promise's value, on JavaScript's thread; what it throws becomes the promise's rejection.
  using Settle = std::function<Napi::Value(Napi::Env)>;
  // Hands it over, from any thread, once.
  using Answer = std::function<void(Settle)>;

  // A promise that `start` begins to fulfil. If it throws, the promise is rejected and no answer may follow.
  Napi::Promise promise(Napi::Env env, const std::function<void(Answer)>& start);

  // No promise may follow; answers given by now still arrive.
  void close() { channel_.Release(); }

 private:
  struct Delivery;
  static void deliver(Napi::Env env, Napi::Function, std::nullptr_t*, Delivery* delivery);
  using Channel = Napi::TypedThreadSafeFunction<std::nullptr_t, Delivery, deliver>;

  void settled(Napi::Env env);

  Channel channel_;
  int waiting_ = 0;
};

}  // namespace tandem::addon
