#include "outlet.h"

#include <string>
#include <utility>

#include "core/error.h"

namespace tandem::addon {

struct Outlet::Delivery {
  std::shared_ptr<Outlet> outlet;
  Napi::Promise::Deferred deferred;
  Settle settle;
};

Outlet::Outlet(Napi::Env env, const char* name) : channel_(Channel::New(env, name, 0, 1, nullptr)) {
  channel_.Unref(env);
}

Napi::Promise Outlet::promise(Napi::Env env, const std::function<void(Answer)>& start) {
  const auto deferred = Napi::Promise::Deferred::New(env);
  try {
    start([outlet = shared_from_this(), deferred](Settle settle) {
      auto delivery = std::make_unique<Delivery>(Delivery{outlet, deferred, std::move(settle)});
      if (outlet->channel_.NonBlockingCall(delivery.get()) == napi_ok) static_cast<void>(delivery.release());
    });
    if (waiting_++ == 0) channel_.Ref(env);
  } catch (const std::exception& error) {
    deferred.Reject(Napi::Error::New(env, error.what()).Value());
  }
  return deferred.Promise();
}

void Outlet::settled(Napi::Env env) {
  if (--waiting_ == 0) channel_.Unref(env);
}

void Outlet::deliver(Napi::Env env, Napi::Function, std::nullptr_t*, Delivery* delivery) {
  const std::unique_ptr<Delivery> owned(delivery);
  // Without an environment the thread is ending, and nobody waits for the promise.
  if (static_cast<napi_env>(env) == nullptr) return;
  try {
    delivery->outlet->settled(env);
    Napi::Value value;
    std::string error;
    bool lost = false;
    try {
      value = delivery->settle(env);
    } catch (const Napi::Error&) {
      throw;
    } catch (const DeviceLost& exception) {
      error = exception.what();
      lost = true;
    } catch (const std::exception& exception) {
      error = exception.what();
    } catch (...) {
      error = "native work failed for an unknown reason";
    }
    if (error.empty()) {
      delivery->deferred.Resolve(value);
    } else {
      const Napi::Error rejection = Napi::Error::New(env, error);
      if (lost) rejection.Set("code", Napi::String::New(env, "DEVICE_LOST"));
      delivery->deferred.Reject(rejection.Value());
    }
  } catch (const Napi::Error&) {
    // A thread that was told to end has its environment a little longer, but runs no more JavaScript.
  }
}

}  // namespace tandem::addon
