#pragma once

#include <napi.h>

#include <optional>
#include <variant>

#include "core/error.h"
#include "cpu/isa.h"
#include "model/device.h"
#include "vision/encoder.h"

namespace tandem::addon {

// JavaScript objects of engine/device/addon.d.ts, read into what native wants. Throw Error naming a field
// that is missing or of another type.

struct CpuCompute {
  int cores = 1;
  std::optional<Isa> isa;
};

struct CudaCompute {
  int gpu = 0;
  double memoryFraction = 0;
};

struct OpenOptions {
  DeviceOptions device;
  std::variant<CpuCompute, CudaCompute> compute;
};

OpenOptions readOpenOptions(Napi::Object object);
// All but its grammar and its embedded rows.
SlotOptions readSlotOptions(Napi::Object object);
std::vector<EmbeddedRows> readEmbedded(const Napi::Value& value);
vision::EncoderOptions readVisionOptions(Napi::Object object);
TokenBytes readTokenBytes(Napi::Object object);
GrammarTables readGrammarTables(Napi::Object object);
// Of pages, as their places in `pageClasses` of engine/device/device.ts.
PrecisionClass readClass(const Napi::Value& value);
std::vector<PrecisionClass> readClasses(const Napi::Value& value);

// An entry and a count of pages for each sparse entry, and the flags of all of them one after another.
void readSparse(const Napi::Value& entries, const Napi::Value& isSeen, int layers,
                std::vector<SparseEntry>& sparse);

template <class T>
std::vector<T> readColumn(const Napi::Value& value, napi_typedarray_type type, const char* name) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type) {
    throw Error(std::string(name) + " must be a typed array of the declared type");
  }
  const auto array = value.As<Napi::TypedArrayOf<T>>();
  return {array.Data(), array.Data() + array.ElementLength()};
}

}  // namespace tandem::addon
