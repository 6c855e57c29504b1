#include "step-result.h"

#include <algorithm>

namespace tandem::addon {
namespace {

template <class T>
Napi::TypedArrayOf<T> toArray(Napi::Env env, const std::vector<T>& values) {
  auto array = Napi::TypedArrayOf<T>::New(env, values.size());
  std::copy(values.begin(), values.end(), array.Data());
  return array;
}

// A Map that is filled only where something was asked for.
class LazyMap {
 public:
  explicit LazyMap(Napi::Env env)
      : map_(env.Global().Get("Map").As<Napi::Function>().New({})),
        set_(map_.Get("set").As<Napi::Function>()) {}
  void set(std::size_t key, Napi::Value value) {
    set_.Call(map_, {Napi::Number::New(map_.Env(), static_cast<double>(key)), value});
  }
  Napi::Object map() const { return map_; }

 private:
  Napi::Object map_;
  Napi::Function set_;
};

}  // namespace

Napi::Object toStepResult(Napi::Env env, const StepResult& result) {
  const std::size_t count = result.entries.size();
  auto tokens = Napi::Int32Array::New(env, count);
  auto logprobs = Napi::Float32Array::New(env, count);
  LazyMap top(env), prompts(env), logits(env);
  for (std::size_t i = 0; i < count; ++i) {
    const EntryResult& entry = result.entries[i];
    tokens[i] = entry.token;
    logprobs[i] = entry.logprob;
    if (!entry.topTokens.empty()) {
      auto object = Napi::Object::New(env);
      object.Set("tokens", toArray(env, entry.topTokens));
      object.Set("logprobs", toArray(env, entry.topLogprobs));
      top.set(i, object);
    }
    if (!entry.prompt.logprobs.empty()) {
      auto object = Napi::Object::New(env);
      object.Set("logprobs", toArray(env, entry.prompt.logprobs));
      object.Set("k", entry.prompt.k);
      object.Set("nextTokens", toArray(env, entry.prompt.nextTokens));
      object.Set("nextLogprobs", toArray(env, entry.prompt.nextLogprobs));
      prompts.set(i, object);
    }
    if (!entry.logits.empty()) logits.set(i, toArray(env, entry.logits));
  }
  auto object = Napi::Object::New(env);
  object.Set("tokens", tokens);
  object.Set("logprobs", logprobs);
  object.Set("topLogprobs", top.map());
  object.Set("promptLogprobs", prompts.map());
  object.Set("logits", logits.map());
  auto saliency = Napi::Array::New(env, result.saliency.size());
  for (std::size_t i = 0; i < result.saliency.size(); ++i) {
    saliency.Set(static_cast<std::uint32_t>(i), toArray(env, result.saliency[i]));
  }
  object.Set("saliency", saliency);
  object.Set("seconds", result.seconds.total);
  if (const auto& byClass = result.seconds.byClass) {
    auto opSeconds = Napi::Float64Array::New(env, byClass->size());
    std::copy(byClass->begin(), byClass->end(), opSeconds.Data());
    object.Set("opSeconds", opSeconds);
  }
  return object;
}

}  // namespace tandem::addon
