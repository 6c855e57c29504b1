#include "device-wrap.h"

#include <string>
#include <utility>

#include "core/error.h"
#include "read-options.h"
#include "step-result.h"

namespace tandem::addon {
namespace {

// A number for each class that takes KV memory, by name.
template <class BytesOf>
Napi::Object byClass(Napi::Env env, BytesOf bytesOf) {
  auto object = Napi::Object::New(env);
  for (const PrecisionClass precision : kHeldClasses) {
    object.Set(nameOf(precision), static_cast<double>(bytesOf(precision)));
  }
  return object;
}

Device::Done doneFor(Outlet::Answer answer) {
  return [answer = std::move(answer)](StepResult result, std::exception_ptr failure) {
    answer([result = std::move(result), failure](Napi::Env env) -> Napi::Value {
      if (failure) std::rethrow_exception(failure);
      return toStepResult(env, result);
    });
  };
}

}  // namespace

Napi::Function DeviceWrap::define(Napi::Env env) {
  return DefineClass(env, "NativeDevice",
                     {InstanceMethod("info", &DeviceWrap::info),
                      InstanceMethod("partition", &DeviceWrap::partition),
                      InstanceMethod("run", &DeviceWrap::run),
                      InstanceMethod("follow", &DeviceWrap::follow),
                      InstanceMethod("withdraw", &DeviceWrap::withdraw),
                      InstanceMethod("setVocabulary", &DeviceWrap::setVocabulary),
                      InstanceMethod("openGrammar", &DeviceWrap::openGrammar),
                      InstanceMethod("closeGrammar", &DeviceWrap::closeGrammar),
                      InstanceMethod("openSlot", &DeviceWrap::openSlot),
                      InstanceMethod("closeSlot", &DeviceWrap::closeSlot),
                      InstanceMethod("kvInfo", &DeviceWrap::kvInfo),
                      InstanceMethod("kvFreeBlocks", &DeviceWrap::kvFreeBlocks),
                      InstanceMethod("kvFreeFarBlocks", &DeviceWrap::kvFreeFarBlocks),
                      InstanceMethod("kvCompact", &DeviceWrap::kvCompact),
                      InstanceMethod("kvReserve", &DeviceWrap::kvReserve),
                      InstanceMethod("kvLength", &DeviceWrap::kvLength),
                      InstanceMethod("kvPublish", &DeviceWrap::kvPublish),
                      InstanceMethod("kvAttach", &DeviceWrap::kvAttach),
                      InstanceMethod("kvUnpublish", &DeviceWrap::kvUnpublish),
                      InstanceMethod("kvFork", &DeviceWrap::kvFork),
                      InstanceMethod("kvReplace", &DeviceWrap::kvReplace),
                      InstanceMethod("kvConvert", &DeviceWrap::kvConvert),
                      InstanceMethod("kvFinishConversion", &DeviceWrap::kvFinishConversion),
                      InstanceMethod("kvDropConversion", &DeviceWrap::kvDropConversion),
                      InstanceMethod("kvDrop", &DeviceWrap::kvDrop),
                      InstanceMethod("kvHeldBytes", &DeviceWrap::kvHeldBytes),
                      InstanceMethod("kvSwapOut", &DeviceWrap::kvSwapOut),
                      InstanceMethod("kvSwapIn", &DeviceWrap::kvSwapIn),
                      InstanceMethod("kvDropSwapped", &DeviceWrap::kvDropSwapped),
                      InstanceMethod("close", &DeviceWrap::close)});
}

DeviceWrap::DeviceWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<DeviceWrap>(info) {}

DeviceWrap::~DeviceWrap() { shut(); }

void DeviceWrap::adopt(std::unique_ptr<Device> device) {
  device_ = std::move(device);
  for (auto& lane : lanes_) lane = std::make_shared<Outlet>(Env(), "tandem lane");
  copies_ = std::make_shared<Outlet>(Env(), "tandem copy");
  // Hooks run last in, first out: this one before those that end the outlets.
  napi_add_env_cleanup_hook(Env(), onEnvironmentEnd, this);
}

// JavaScript may end without close(), in the middle of a step; its threads must end while the outlets still
// exist.
void DeviceWrap::onEnvironmentEnd(void* self) { static_cast<DeviceWrap*>(self)->shut(); }

Device& DeviceWrap::device() const {
  if (!device_) throw Error("the device is closed");
  return *device_;
}

void DeviceWrap::shut() {
  if (!device_) return;
  napi_remove_env_cleanup_hook(Env(), onEnvironmentEnd, this);
  grammars_.clear();
  device_.reset();  // waits for the steps and copies in flight, whose answers are in their outlets by then
  for (const auto& lane : lanes_) lane->close();
  copies_->close();
}

Napi::Value DeviceWrap::run(const Napi::CallbackInfo& info) {
  const int lane = info[0].ToNumber().Int32Value();
  return lanes_[lane == 0 ? 0 : 1]->promise(info.Env(), [&](Outlet::Answer answer) {
    Step step{readColumn<std::int32_t>(info[1], napi_int32_array, "slots"),
              readColumn<std::int32_t>(info[2], napi_int32_array, "counts"),
              readColumn<std::int32_t>(info[3], napi_int32_array, "tokens"),
              readColumn<std::uint8_t>(info[4], napi_uint8_array, "wants")};
    const auto probes = readColumn<std::int32_t>(info[5], napi_int32_array, "probes");
    if (probes.size() % 3 != 0) throw Error("probes must have an entry, a row and a count for each run");
    for (std::size_t i = 0; i < probes.size(); i += 3) {
      step.probes.push_back({probes[i], probes[i + 1], probes[i + 2]});
    }
    readSparse(info[6], info[7], device().spec().layers, step.sparse);
    device().run(lane, std::move(step), doneFor(std::move(answer)));
  });
}

Napi::Value DeviceWrap::follow(const Napi::CallbackInfo& info) {
  const int lane = info[0].ToNumber().Int32Value() == 0 ? 0 : 1;
  return lanes_[lane]->promise(info.Env(), [&](Outlet::Answer answer) {
    device().follow(lane, readColumn<std::int32_t>(info[1], napi_int32_array, "slots"), doneFor(answer));
    following_[lane] = std::move(answer);
  });
}

Napi::Value DeviceWrap::withdraw(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const int lane = info[0].ToNumber().Int32Value() == 0 ? 0 : 1;
    const bool isWithdrawn = device().withdraw(lane);
    if (isWithdrawn) following_[lane]([](Napi::Env env) -> Napi::Value { return env.Null(); });
    return Napi::Boolean::New(info.Env(), isWithdrawn);
  });
}

Napi::Value DeviceWrap::info(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const Device& current = device();
    auto object = Napi::Object::New(info.Env());
    const Backend& backend = current.backend();
    object.Set("kind", backend.kind());
    object.Set("name", backend.name());
    object.Set("isa", backend.isa());
    object.Set("units", backend.units());
    if (const std::optional<std::vector<int>> splits = backend.splits()) {
      auto units = Napi::Array::New(info.Env());
      for (const int split : *splits) units.Set(units.Length(), split);
      object.Set("splits", units);
    }
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
    const auto sampling = info[1].As<Napi::Object>();
    SlotOptions options = readSlotOptions(sampling);
    options.embedded = readEmbedded(info[2]);
    if (const Napi::Value value = sampling.Get("grammar"); !value.IsUndefined()) {
      const auto grammar = value.As<Napi::Object>();
      options.grammar = grammarOf(grammar.Get("handle"));
      options.shownTokens =
          readColumn<std::int32_t>(grammar.Get("shownTokens"), napi_int32_array, "shownTokens");
    }
    device().openSlot(info[0].ToNumber().Int32Value(), std::move(options));
  });
}

void DeviceWrap::setVocabulary(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { device().setVocabulary(readTokenBytes(info[0].As<Napi::Object>())); });
}

Napi::Value DeviceWrap::openGrammar(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    grammars_.emplace(nextGrammar_, device().makeGrammar(readGrammarTables(info[0].As<Napi::Object>())));
    return Napi::Number::New(info.Env(), nextGrammar_++);
  });
}

// Slots that follow it keep it.
void DeviceWrap::closeGrammar(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    static_cast<void>(grammarOf(info[0]));
    grammars_.erase(info[0].ToNumber().Int32Value());
  });
}

const std::shared_ptr<Grammar>& DeviceWrap::grammarOf(const Napi::Value& id) const {
  const auto found = grammars_.find(id.ToNumber().Int32Value());
  if (found == grammars_.end())
    throw Error("there is no grammar " + std::to_string(id.ToNumber().Int32Value()));
  return found->second;
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
    object.Set("farBlocks", static_cast<double>(kv.farBlocks()));
    object.Set("chunkPages", static_cast<double>(kChunkPages));
    object.Set("chunkBlocks", static_cast<double>(kv.chunkBlocks()));
    object.Set("classBlockBytes",
               byClass(info.Env(), [&](PrecisionClass precision) { return kv.blockBytes(precision); }));
    return object;
  });
}

Napi::Value DeviceWrap::kvHeldBytes(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const KvCache& kv = device().kv();
    return byClass(info.Env(), [&](PrecisionClass precision) { return kv.heldBytes(precision); });
  });
}

Napi::Value DeviceWrap::kvFreeBlocks(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return Napi::Number::New(info.Env(), static_cast<double>(device().kv().freeBlocks()));
  });
}

Napi::Value DeviceWrap::kvFreeFarBlocks(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return Napi::Number::New(info.Env(), static_cast<double>(device().kv().freeFarBlocks()));
  });
}

Napi::Value DeviceWrap::kvCompact(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return Napi::Boolean::New(info.Env(), device().kv().compact(info[0].ToNumber().Int64Value()));
  });
}

Napi::Value DeviceWrap::kvReserve(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const bool done = device().kv().reserve(info[0].ToNumber().Int32Value(), info[1].ToNumber().Int64Value(),
                                            readClass(info[2]));
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
                         readColumn<std::int32_t>(info[1], napi_int32_array, "blocks"),
                         info[2].ToNumber().Int64Value());
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

void DeviceWrap::kvReplace(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    device().kv().replace(info[0].ToNumber().Int32Value(), info[1].ToNumber().Int64Value(),
                          info[2].ToNumber().Int32Value());
  });
}

Napi::Value DeviceWrap::kvConvert(const Napi::CallbackInfo& info) {
  bool begun = true;
  const Napi::Promise promise = copies_->promise(info.Env(), [&](Outlet::Answer answer) {
    const auto done = [](Napi::Env env) -> Napi::Value { return env.Undefined(); };
    begun = device().convert(info[0].ToNumber().Int32Value(), info[1].ToNumber().Int64Value(),
                             info[2].ToNumber().Int64Value(), readClasses(info[3]), [=] { answer(done); });
    if (!begun) answer(done);
  });
  if (!begun) return info.Env().Null();
  return promise;
}

void DeviceWrap::kvFinishConversion(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { device().finishConversion(info[0].ToNumber().Int32Value()); });
}

void DeviceWrap::kvDropConversion(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { device().dropConversion(info[0].ToNumber().Int32Value()); });
}

void DeviceWrap::kvDrop(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    device().drop(info[0].ToNumber().Int32Value(), info[1].ToNumber().Int64Value(),
                  info[2].ToNumber().Int64Value());
  });
}

std::function<Device&()> DeviceWrap::swapEnd(int slot) const {
  return [watched = std::weak_ptr(device_), slot]() -> Device& {
    const std::shared_ptr<Device> device = watched.lock();
    if (!device)
      throw Error("the device was closed while slot " + std::to_string(slot) + " was being swapped");
    device->finishSwap(slot);
    return *device;
  };
}

Napi::Value DeviceWrap::kvSwapOut(const Napi::CallbackInfo& info) {
  const int slot = info[0].ToNumber().Int32Value();
  return copies_->promise(info.Env(), [&](Outlet::Answer answer) {
    const auto id = std::make_shared<SwapId>();
    *id = device().swapOut(slot, [answer = std::move(answer), id, end = swapEnd(slot)] {
      answer([id, end](Napi::Env env) -> Napi::Value {
        KvCache& kv = end().kv();
        auto object = Napi::Object::New(env);
        object.Set("id", static_cast<double>(*id));
        object.Set("tokens", static_cast<double>(kv.swappedTokens(*id)));
        object.Set("bytes", static_cast<double>(kv.swappedBytes(*id)));
        return object;
      });
    });
  });
}

Napi::Value DeviceWrap::kvSwapIn(const Napi::CallbackInfo& info) {
  const int slot = info[0].ToNumber().Int32Value();
  const SwapId id = info[1].ToNumber().Int64Value();
  return copies_->promise(info.Env(), [&](Outlet::Answer answer) {
    const bool begun = device().swapIn(slot, id, [answer, end = swapEnd(slot)] {
      answer([end](Napi::Env env) -> Napi::Value {
        end();
        return Napi::Boolean::New(env, true);
      });
    });
    if (!begun) answer([](Napi::Env env) -> Napi::Value { return Napi::Boolean::New(env, false); });
  });
}

void DeviceWrap::kvDropSwapped(const Napi::CallbackInfo& info) {
  if (!device_) return;  // all memory is free
  guarded(info.Env(), [&] { device().dropSwapped(info[0].ToNumber().Int64Value()); });
}

Napi::Value DeviceWrap::close(const Napi::CallbackInfo& info) {
  const auto deferred = Napi::Promise::Deferred::New(info.Env());
  shut();
  deferred.Resolve(info.Env().Undefined());
  return deferred.Promise();
}

}  // namespace tandem::addon
