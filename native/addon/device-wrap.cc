#include "device-wrap.h"

#include <string>
#include <utility>

#include "core/error.h"
#include "read-options.h"
#include "step-result.h"

namespace tandem::addon {

// What a lane hands over: the promise to settle, and with what.
struct DeviceWrap::Delivery {
  Napi::Promise::Deferred deferred;
  Channel channel;
  StepResult result;
  std::string error;
};

Napi::Function DeviceWrap::define(Napi::Env env) {
  return DefineClass(
      env, "NativeDevice",
      {InstanceMethod("info", &DeviceWrap::info), InstanceMethod("partition", &DeviceWrap::partition),
       InstanceMethod("run", &DeviceWrap::run), InstanceMethod("openSlot", &DeviceWrap::openSlot),
       InstanceMethod("closeSlot", &DeviceWrap::closeSlot), InstanceMethod("kvInfo", &DeviceWrap::kvInfo),
       InstanceMethod("kvFreeBlocks", &DeviceWrap::kvFreeBlocks),
       InstanceMethod("kvReserve", &DeviceWrap::kvReserve), InstanceMethod("kvLength", &DeviceWrap::kvLength),
       InstanceMethod("kvPublish", &DeviceWrap::kvPublish), InstanceMethod("kvAttach", &DeviceWrap::kvAttach),
       InstanceMethod("kvUnpublish", &DeviceWrap::kvUnpublish), InstanceMethod("kvFork", &DeviceWrap::kvFork),
       InstanceMethod("close", &DeviceWrap::close)});
}

DeviceWrap::DeviceWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<DeviceWrap>(info) {}

DeviceWrap::~DeviceWrap() { shut(); }

void DeviceWrap::adopt(std::unique_ptr<Device> device) {
  device_ = std::move(device);
  for (Channel& channel : channels_) {
    channel = Channel::New(Env(), "tandem lane", 0, 1, nullptr);
    // A waiting engine must not keep the process alive; a step in flight does, see `run`.
    channel.Unref(Env());
  }
  // Hooks run last in, first out: this one before those that end the channels.
  napi_add_env_cleanup_hook(Env(), onEnvironmentEnd, this);
}

// JavaScript may end without close(), in the middle of a step; the lanes must end while their channels still
// exist.
void DeviceWrap::onEnvironmentEnd(void* self) { static_cast<DeviceWrap*>(self)->shut(); }

Device& DeviceWrap::device() const {
  if (!device_) throw Error("the device is closed");
  return *device_;
}

void DeviceWrap::shut() {
  if (!device_) return;
  napi_remove_env_cleanup_hook(Env(), onEnvironmentEnd, this);
  device_.reset();  // waits for the steps in flight, whose deliveries are in their channels by then
  for (Channel& channel : channels_) channel.Release();
}

void DeviceWrap::deliver(Napi::Env env, Napi::Function, std::nullptr_t*, Delivery* delivery) {
  const std::unique_ptr<Delivery> owned(delivery);
  // Without an environment the thread is ending, and nobody waits for the promise.
  if (static_cast<napi_env>(env) == nullptr) return;
  try {
    delivery->channel.Unref(env);
    if (!delivery->error.empty()) {
      delivery->deferred.Reject(Napi::Error::New(env, delivery->error).Value());
    } else {
      delivery->deferred.Resolve(toStepResult(env, delivery->result));
    }
  } catch (const Napi::Error&) {
    // A thread that was told to end has its environment a little longer, but runs no more JavaScript.
  }
}

Napi::Value DeviceWrap::run(const Napi::CallbackInfo& info) {
  const auto deferred = Napi::Promise::Deferred::New(info.Env());
  try {
    const int lane = info[0].ToNumber().Int32Value();
    Step step{readColumn<std::int32_t>(info[1], napi_int32_array, "slots"),
              readColumn<std::int32_t>(info[2], napi_int32_array, "counts"),
              readColumn<std::int32_t>(info[3], napi_int32_array, "tokens"),
              readColumn<std::uint8_t>(info[4], napi_uint8_array, "wants")};
    check(lane == 0 || lane == 1, "a lane is 0 (prefill) or 1 (decode)");
    const Channel channel = channels_[lane];
    device().run(lane, std::move(step), [deferred, channel](StepResult result, std::exception_ptr failure) {
      auto delivery = std::make_unique<Delivery>(Delivery{deferred, channel, std::move(result), {}});
      if (failure) {
        try {
          std::rethrow_exception(failure);
        } catch (const std::exception& error) {
          delivery->error = error.what();
        } catch (...) {
          delivery->error = "a step failed for an unknown reason";
        }
      }
      if (delivery->channel.NonBlockingCall(delivery.get()) == napi_ok) static_cast<void>(delivery.release());
    });
    channel.Ref(info.Env());
  } catch (const std::exception& error) {
    deferred.Reject(Napi::Error::New(info.Env(), error.what()).Value());
  }
  return deferred.Promise();
}

Napi::Value DeviceWrap::info(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const Device& current = device();
    auto object = Napi::Object::New(info.Env());
    object.Set("kind", "cpu");
    object.Set("isa", current.backend().isa());
    object.Set("units", current.backend().units());
    object.Set("weightBytes", static_cast<double>(current.weightBytes()));
    KvCache& kv = device().kv();
    object.Set("kvBytes", static_cast<double>(kv.totalBlocks()) * static_cast<double>(kv.blockBytes()));
    object.Set("slots", kv.slots());
    object.Set("maxStepTokens", current.maxStepTokens());
    return object;
  });
}

void DeviceWrap::partition(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { device().partition(info[0].ToNumber().Int32Value()); });
}

void DeviceWrap::openSlot(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    device().openSlot(info[0].ToNumber().Int32Value(), readSlotOptions(info[1].As<Napi::Object>()));
  });
}

void DeviceWrap::closeSlot(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { device().closeSlot(info[0].ToNumber().Int32Value()); });
}

Napi::Value DeviceWrap::kvInfo(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const KvCache& kv = device().kv();
    auto object = Napi::Object::New(info.Env());
    object.Set("pageTokens", kPageTokens);
    object.Set("blockBytes", static_cast<double>(kv.blockBytes()));
    object.Set("totalBlocks", static_cast<double>(kv.totalBlocks()));
    return object;
  });
}

Napi::Value DeviceWrap::kvFreeBlocks(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return Napi::Number::New(info.Env(), static_cast<double>(device().kv().freeBlocks()));
  });
}

Napi::Value DeviceWrap::kvReserve(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const bool done = device().kv().reserve(info[0].ToNumber().Int32Value(), info[1].ToNumber().Int64Value());
    return Napi::Boolean::New(info.Env(), done);
  });
}

Napi::Value DeviceWrap::kvLength(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return Napi::Number::New(info.Env(),
                             static_cast<double>(device().kv().length(info[0].ToNumber().Int32Value())));
  });
}

Napi::Value DeviceWrap::kvPublish(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const auto id = device().kv().publish(info[0].ToNumber().Int32Value(), info[1].ToNumber().Int64Value());
    return Napi::Number::New(info.Env(), id);
  });
}

void DeviceWrap::kvAttach(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    device().kv().attach(info[0].ToNumber().Int32Value(),
                         readColumn<std::int32_t>(info[1], napi_int32_array, "blocks"));
  });
}

void DeviceWrap::kvUnpublish(const Napi::CallbackInfo& info) {
  guarded(info.Env(),
          [&] { device().kv().unpublish(readColumn<std::int32_t>(info[0], napi_int32_array, "blocks")); });
}

Napi::Value DeviceWrap::kvFork(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const bool done = device().kv().fork(info[0].ToNumber().Int32Value(), info[1].ToNumber().Int32Value(),
                                         info[2].ToNumber().Int64Value());
    return Napi::Boolean::New(info.Env(), done);
  });
}

Napi::Value DeviceWrap::close(const Napi::CallbackInfo& info) {
  const auto deferred = Napi::Promise::Deferred::New(info.Env());
  shut();
  deferred.Resolve(info.Env().Undefined());
  return deferred.Promise();
}

}  // namespace tandem::addon
