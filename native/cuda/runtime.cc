#include "cuda/runtime.h"

#include <cuda_runtime_api.h>

#include <string>

#include "core/error.h"
#include "cuda/check.h"

namespace tandem::cuda {
namespace {

// Errors behind which every further call of the process fails alike: the context is gone.
bool isLost(cudaError_t error) {
  switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContextIsDestroyed:
    case cudaErrorDeviceUninitialized:
    case cudaErrorMpsClientTerminated:
    case cudaErrorExternalDevice:
    case cudaErrorUnknown:
      return true;
    default:
      return false;
  }
}

std::string bytesText(std::size_t bytes) { return std::to_string(bytes) + " bytes"; }

}  // namespace

void checkCuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  const std::string text = std::string(what) + ": " + cudaGetErrorString(error);
  if (isLost(error)) throw DeviceLost("the CUDA device is lost: " + text);
  // An error that is not sticky would be told again by the next call.
  cudaGetLastError();
  if (error == cudaErrorNoKernelImageForDevice) {
    throw Error(text + "; build for this GPU's architecture (-DTANDEM_CUDA_ARCHITECTURES)");
  }
  throw Error(text);
}

void OnDevice::free(std::byte* data) noexcept { cudaFree(data); }

std::byte* OnDevice::allocate(std::size_t bytes, const char* purpose) {
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, bytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw Error("the device has no " + bytesText(bytes) + " left for " + purpose + "; " +
                bytesText(deviceMemory().free) + " are free");
  }
  checkCuda(error, "cudaMalloc");
  return static_cast<std::byte*>(data);
}

void PinnedOnHost::free(std::byte* data) noexcept { cudaFreeHost(data); }

std::byte* PinnedOnHost::allocate(std::size_t bytes, const char* purpose) {
  void* data = nullptr;
  const cudaError_t error = cudaHostAlloc(&data, bytes, cudaHostAllocPortable);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw Error("the system has no " + bytesText(bytes) + " of memory to pin for " + purpose);
  }
  checkCuda(error, "cudaHostAlloc");
  return static_cast<std::byte*>(data);
}

void copyToDevice(void* to, const void* from, std::size_t bytes, Stream stream) {
  if (bytes == 0) return;
  checkCuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream), "a copy to the device");
}

void copyToHost(void* to, const void* from, std::size_t bytes, Stream stream) {
  if (bytes == 0) return;
  checkCuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream), "a copy from the device");
}

void copyOnDevice(void* to, const void* from, std::size_t bytes, Stream stream) {
  if (bytes == 0) return;
  checkCuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream), "a copy on the device");
}

void setBytes(void* to, int value, std::size_t bytes, Stream stream) {
  if (bytes == 0) return;
  checkCuda(cudaMemsetAsync(to, value, bytes, stream), "setting memory of the device");
}

void synchronize(Stream stream) { checkCuda(cudaStreamSynchronize(stream), "work on the device"); }

void Event::Destroy::operator()(CUevent_st* event) const noexcept { cudaEventDestroy(event); }

Event::Event(bool timed) {
  cudaEvent_t event = nullptr;
  checkCuda(cudaEventCreateWithFlags(&event, timed ? cudaEventDefault : cudaEventDisableTiming),
            "cudaEventCreate");
  event_.reset(event);
}

void Event::record(Stream stream) { checkCuda(cudaEventRecord(event_.get(), stream), "cudaEventRecord"); }

void Event::holdBack(Stream later) const {
  checkCuda(cudaStreamWaitEvent(later, event_.get(), 0), "cudaStreamWaitEvent");
}

void Event::wait() const { checkCuda(cudaEventSynchronize(event_.get()), "work on the device"); }

double Event::secondsSince(const Event& earlier) const {
  float milliseconds = 0;
  checkCuda(cudaEventElapsedTime(&milliseconds, earlier.event_.get(), event_.get()), "cudaEventElapsedTime");
  return milliseconds / 1000.0;
}

void OwnStream::Destroy::operator()(CUstream_st* stream) const noexcept { cudaStreamDestroy(stream); }

OwnStream::OwnStream() {
  cudaStream_t stream = nullptr;
  checkCuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  stream_.reset(stream);
}

void Graph::Destroy::operator()(CUgraphExec_st* graph) const noexcept { cudaGraphExecDestroy(graph); }

void Graph::launch(Stream stream) const {
  checkCuda(cudaGraphLaunch(graph_.get(), stream), "cudaGraphLaunch");
}

void beginRecording(Stream stream) {
  checkCuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
}

Graph endRecording(Stream stream) {
  cudaGraph_t recorded = nullptr;
  checkCuda(cudaStreamEndCapture(stream, &recorded), "cudaStreamEndCapture");
  cudaGraphExec_t graph = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&graph, recorded, 0);
  cudaGraphDestroy(recorded);
  checkCuda(error, "cudaGraphInstantiate");
  return Graph(graph);
}

void abandonRecording(Stream stream) noexcept {
  cudaGraph_t recorded = nullptr;
  if (cudaStreamEndCapture(stream, &recorded) == cudaSuccess && recorded) cudaGraphDestroy(recorded);
  cudaGetLastError();
}

void useDevice(int device) { checkCuda(cudaSetDevice(device), "cudaSetDevice"); }

MemoryInfo deviceMemory() {
  MemoryInfo info;
  checkCuda(cudaMemGetInfo(&info.free, &info.total), "cudaMemGetInfo");
  return info;
}

}  // namespace tandem::cuda
