#include "cuda/driver.h"

#include <cuda.h>
#include <cuda_runtime.h>

#include <mutex>
#include <utility>

#include "core/error.h"

namespace tandem::cuda {
namespace {

constexpr int kLeastMajor = 8;  // mma on bf16, cp.async

// The version whose signatures the functions below have.
constexpr unsigned kApiVersion = 13000;

std::string versionText(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// A function of the driver, or null where the driver has none of that name and version.
template <class Function>
Function* entryPoint(const char* name) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  const cudaError_t error =
      cudaGetDriverEntryPointByVersion(name, &function, kApiVersion, cudaEnableDefault, &found);
  return error == cudaSuccess && found == cudaDriverEntryPointSuccess ? reinterpret_cast<Function*>(function)
                                                                      : nullptr;
}

struct DriverApi {
  decltype(cuGetErrorString)* getErrorString = nullptr;
  decltype(cuDeviceGet)* deviceGet = nullptr;
  decltype(cuDeviceGetDevResource)* deviceGetDevResource = nullptr;
  decltype(cuDevSmResourceSplitByCount)* smResourceSplit = nullptr;
  decltype(cuDevResourceGenerateDesc)* generateDesc = nullptr;
  decltype(cuGreenCtxCreate)* greenCtxCreate = nullptr;
  decltype(cuGreenCtxDestroy)* greenCtxDestroy = nullptr;
  decltype(cuGreenCtxStreamCreate)* greenCtxStreamCreate = nullptr;

  static DriverApi load() {
    return {entryPoint<decltype(cuGetErrorString)>("cuGetErrorString"),
            entryPoint<decltype(cuDeviceGet)>("cuDeviceGet"),
            entryPoint<decltype(cuDeviceGetDevResource)>("cuDeviceGetDevResource"),
            entryPoint<decltype(cuDevSmResourceSplitByCount)>("cuDevSmResourceSplitByCount"),
            entryPoint<decltype(cuDevResourceGenerateDesc)>("cuDevResourceGenerateDesc"),
            entryPoint<decltype(cuGreenCtxCreate)>("cuGreenCtxCreate"),
            entryPoint<decltype(cuGreenCtxDestroy)>("cuGreenCtxDestroy"),
            entryPoint<decltype(cuGreenCtxStreamCreate)>("cuGreenCtxStreamCreate")};
  }

  bool complete() const {
    return getErrorString && deviceGet && deviceGetDevResource && smResourceSplit && generateDesc &&
           greenCtxCreate && greenCtxDestroy && greenCtxStreamCreate;
  }

  void check(CUresult result, const char* what) const {
    if (result == CUDA_SUCCESS) return;
    const char* text = nullptr;
    getErrorString(result, &text);
    throw Error(std::string(what) + " failed: " + (text ? text : "unknown error"));
  }
};

void checkRuntime(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw Error(std::string(what) + " failed: " + cudaGetErrorString(error));
}

int attribute(cudaDeviceAttr name, int device) {
  int value = 0;
  checkRuntime(cudaDeviceGetAttribute(&value, name, device), "reading a device attribute");
  return value;
}

CUdevResource allSms(const DriverApi& api, int device) {
  CUdevice handle{};
  CUdevResource resource{};
  api.check(api.deviceGet(&handle, device), "cuDeviceGet");
  api.check(api.deviceGetDevResource(handle, &resource, CU_DEV_RESOURCE_TYPE_SM), "cuDeviceGetDevResource");
  return resource;
}

std::string whyNoSplitOf(const DriverApi& api, const DeviceFacts& facts) {
  if (!api.complete()) {
    return "the driver is too old for green contexts; CUDA " + versionText(kApiVersion) + " brings them";
  }
  if (facts.name.find("MIG") != std::string::npos) return "a MIG slice is not split further";
  try {
    allSms(api, facts.index);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

DeviceFacts factsOf(const DriverApi& api, int device) {
  DeviceFacts facts;
  facts.index = device;
  cudaDeviceProp properties{};
  checkRuntime(cudaGetDeviceProperties(&properties, device), "reading a device's properties");
  facts.name = properties.name;
  facts.major = properties.major;
  facts.minor = properties.minor;
  facts.memoryBytes = properties.totalGlobalMem;
  facts.l2Bytes = static_cast<std::size_t>(properties.l2CacheSize);
  facts.limits.sms = attribute(cudaDevAttrMultiProcessorCount, device);
  if (facts.major < kLeastMajor) {
    facts.problem = "compute capability " + std::to_string(facts.major) + "." + std::to_string(facts.minor) +
                    "; the kernels need 8.0 (A100, RTX 30) or newer";
  }
  facts.whyNoSplit = whyNoSplitOf(api, facts);
  if (facts.whyNoSplit.empty()) {
    const CUdevSmResource sm = allSms(api, device).sm;
    facts.limits = {static_cast<int>(sm.smCount), static_cast<int>(sm.minSmPartitionSize),
                    static_cast<int>(sm.smCoscheduledAlignment)};
  }
  return facts;
}

class Driver final : public SplitDriver {
 public:
  explicit Driver(int device) : api_(DriverApi::load()), facts_(factsOf(api_, device)) {
    if (!facts_.problem.empty()) throw Error(facts_.name + ": " + facts_.problem);
    checkRuntime(cudaSetDevice(device), "cudaSetDevice");  // makes the primary context, which others live in
    checkRuntime(cudaDeviceGetStreamPriorityRange(nullptr, &urgent_), "cudaDeviceGetStreamPriorityRange");
    checkRuntime(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreate");
  }
  ~Driver() override { cudaEventDestroy(event_); }
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  std::string whyNoSplit() const override { return facts_.whyNoSplit; }
  SmLimits limits() const override { return facts_.limits; }

  Split split(int sms) override {
    const CUdevResource all = allSms(api_, facts_.index);
    CUdevResource first{}, rest{};
    unsigned groups = 1;
    api_.check(api_.smResourceSplit(&first, &groups, &all, &rest, 0, static_cast<unsigned>(sms)),
               "cuDevSmResourceSplitByCount");
    if (groups != 1) throw Error("the driver made no group of " + std::to_string(sms) + " SMs");
    const bool left = rest.type == CU_DEV_RESOURCE_TYPE_SM;
    return {{static_cast<int>(first.sm.smCount), first},
            {left ? static_cast<int>(rest.sm.smCount) : 0, rest}};
  }

  Context createContext(const SmSet& sms) override {
    CUdevResource resource = std::any_cast<CUdevResource>(sms.resource);
    CUdevResourceDesc description{};
    CUdevice device{};
    CUgreenCtx context = nullptr;
    api_.check(api_.generateDesc(&description, &resource, 1), "cuDevResourceGenerateDesc");
    api_.check(api_.deviceGet(&device, facts_.index), "cuDeviceGet");
    api_.check(api_.greenCtxCreate(&context, description, device, CU_GREEN_CTX_DEFAULT_STREAM),
               "cuGreenCtxCreate");
    return context;
  }

  void destroyContext(Context context) noexcept override { api_.greenCtxDestroy(context); }

  Stream createStream(Context context, bool urgent) override {
    Stream stream = nullptr;
    const int priority = urgent ? urgent_ : 0;
    if (context) {
      api_.check(api_.greenCtxStreamCreate(&stream, context, CU_STREAM_NON_BLOCKING, priority),
                 "cuGreenCtxStreamCreate");
    } else {
      checkRuntime(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, priority),
                   "cudaStreamCreateWithPriority");
    }
    return stream;
  }

  void destroyStream(Stream stream) noexcept override { cudaStreamDestroy(stream); }

  void order(Stream earlier, Stream later) override {
    const std::lock_guard lock(ordering_);  // both lanes' threads come here
    checkRuntime(cudaEventRecord(event_, earlier), "cudaEventRecord");
    checkRuntime(cudaStreamWaitEvent(later, event_, 0), "cudaStreamWaitEvent");
  }

 private:
  const DriverApi api_;
  const DeviceFacts facts_;
  int urgent_ = 0;
  cudaEvent_t event_ = nullptr;
  std::mutex ordering_;
};

}  // namespace

CudaFacts findCuda() {
  CudaFacts facts;
  int version = 0, devices = 0;
  if (cudaRuntimeGetVersion(&version) == cudaSuccess) facts.runtimeVersion = versionText(version);
  if (cudaDriverGetVersion(&version) != cudaSuccess || version == 0) {
    facts.problem = "there is no NVIDIA driver";
    return facts;
  }
  facts.driverVersion = versionText(version);
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error == cudaErrorInsufficientDriver) {
    facts.problem = "the driver knows CUDA " + facts.driverVersion + " and is too old for " +
                    facts.runtimeVersion + ": install a newer one";
    return facts;
  }
  if (error != cudaSuccess) {
    facts.problem = cudaGetErrorString(error);
    return facts;
  }
  const DriverApi api = DriverApi::load();
  for (int device = 0; device < devices; ++device) {
    try {
      facts.devices.push_back(factsOf(api, device));
    } catch (const Error& failure) {
      DeviceFacts& broken = facts.devices.emplace_back();
      broken.index = device;
      broken.problem = failure.what();
    }
  }
  return facts;
}

std::unique_ptr<SplitDriver> openDriver(int device) { return std::make_unique<Driver>(device); }

}  // namespace tandem::cuda
