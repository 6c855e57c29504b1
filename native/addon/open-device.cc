#include "open-device.h"

#include <memory>
#include <string>
#include <utility>
#include <variant>

#include "cpu/cpu-backend.h"
#include "device-wrap.h"
#include "instance.h"
#include "read-options.h"
#ifdef TANDEM_HAS_CUDA_KERNELS
#include "cuda/cuda-backend.h"
#endif

namespace tandem::addon {
namespace {

std::unique_ptr<Backend> makeBackend(const std::variant<CpuCompute, CudaCompute>& compute) {
  if (const auto* cpu = std::get_if<CpuCompute>(&compute)) return makeCpuBackend(cpu->cores, cpu->isa);
#ifdef TANDEM_HAS_CUDA_KERNELS
  const auto& cuda = std::get<CudaCompute>(compute);
  return cuda::makeCudaBackend({cuda.gpu, cuda.memoryFraction});
#else
  throw Error("this build has no CUDA kernels");
#endif
}

struct Progress {
  std::uint64_t done, total;
};

// Reads and packs the weights off JavaScript's thread, reporting as it goes.
class LoadWorker final : public Napi::AsyncProgressQueueWorker<Progress> {
 public:
  LoadWorker(Napi::Function onProgress, OpenOptions options)
      : AsyncProgressQueueWorker(onProgress),
        deferred_(Napi::Promise::Deferred::New(onProgress.Env())),
        options_(std::move(options)) {}

  Napi::Promise promise() const { return deferred_.Promise(); }

 private:
  void Execute(const ExecutionProgress& progress) override {
    std::uint64_t reported = 0;
    options_.device.weights.onProgress = [&](std::uint64_t done, std::uint64_t total) {
      if (done < total && done - reported < total / 200) return;
      reported = done;
      const Progress now{done, total};
      progress.Send(&now, 1);
    };
    try {
      device_ = std::make_unique<Device>(makeBackend(options_.compute), std::move(options_.device));
    } catch (const std::exception& error) {
      SetError(error.what());
    }
  }

  void OnProgress(const Progress* progress, std::size_t count) override {
    if (count == 0 || Callback().IsEmpty()) return;
    const Progress& last = progress[count - 1];
    Callback().Call({Napi::Number::New(Env(), static_cast<double>(last.done)),
                     Napi::Number::New(Env(), static_cast<double>(last.total))});
  }

  void OnOK() override {
    const Napi::Object object = Env().GetInstanceData<Instance>()->deviceClass.New({});
    DeviceWrap::Unwrap(object)->adopt(std::move(device_));
    deferred_.Resolve(object);
  }

  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

  Napi::Promise::Deferred deferred_;
  OpenOptions options_;
  std::unique_ptr<Device> device_;
};

}  // namespace

Napi::Value openDevice(const Napi::CallbackInfo& info) {
  try {
    auto* worker = new LoadWorker(info[1].As<Napi::Function>(), readOpenOptions(info[0].As<Napi::Object>()));
    const Napi::Promise promise = worker->promise();
    worker->Queue();  // the worker deletes itself when it has settled the promise
    return promise;
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::exception& error) {
    throw Napi::Error::New(info.Env(), error.what());
  }
}

}  // namespace tandem::addon
