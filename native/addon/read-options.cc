#include "read-options.h"

#include <cmath>
#include <limits>

namespace tandem::addon {
namespace {

PrecisionClass classAt(std::uint32_t place) {
  if (place > static_cast<std::uint32_t>(PrecisionClass::none)) {
    throw Error("there is no page class " + std::to_string(place));
  }
  return static_cast<PrecisionClass>(place);
}

Napi::Value field(Napi::Object object, const char* name) {
  Napi::Value value = object.Get(name);
  if (value.IsUndefined()) throw Error(std::string("the option ") + name + " is missing");
  return value;
}

double readNumber(Napi::Object object, const char* name) {
  const Napi::Value value = field(object, name);
  if (!value.IsNumber()) throw Error(std::string("the option ") + name + " must be a number");
  return value.As<Napi::Number>().DoubleValue();
}

template <class T>
T readInteger(Napi::Object object, const char* name) {
  const double value = readNumber(object, name);
  if (value != std::floor(value) || value < 0 ||
      value > std::min(9007199254740991.0, static_cast<double>(std::numeric_limits<T>::max()))) {
    throw Error(std::string("the option ") + name + " must be a whole number that fits");
  }
  return static_cast<T>(value);
}

bool readBool(Napi::Object object, const char* name) { return field(object, name).ToBoolean().Value(); }

std::string readString(Napi::Object object, const char* name) {
  const Napi::Value value = field(object, name);
  if (!value.IsString()) throw Error(std::string("the option ") + name + " must be a string");
  return value.As<Napi::String>().Utf8Value();
}

Napi::Array readArray(Napi::Object object, const char* name) {
  const Napi::Value value = field(object, name);
  if (!value.IsArray()) throw Error(std::string("the option ") + name + " must be an array");
  return value.As<Napi::Array>();
}

template <class T>
std::vector<T> readNumbers(Napi::Array array) {
  std::vector<T> values;
  for (std::uint32_t i = 0; i < array.Length(); ++i) {
    values.push_back(static_cast<T>(array.Get(i).ToNumber().DoubleValue()));
  }
  return values;
}

// The value of a name in a table of {name, value}.
template <class T, std::size_t N>
T readEnum(Napi::Object object, const char* name, const std::pair<const char*, T> (&table)[N]) {
  const std::string text = readString(object, name);
  for (const auto& [known, value] : table) {
    if (text == known) return value;
  }
  throw Error(std::string("the option ") + name + " cannot be \"" + text + "\"");
}

ModelSpec readSpec(Napi::Object object) {
  ModelSpec spec;
  spec.layers = readInteger<int>(object, "layers");
  spec.hidden = readInteger<int>(object, "hidden");
  spec.heads = readInteger<int>(object, "heads");
  spec.kvHeads = readInteger<int>(object, "kvHeads");
  spec.headDim = readInteger<int>(object, "headDim");
  spec.ffn = readInteger<int>(object, "ffn");
  spec.vocab = readInteger<int>(object, "vocab");
  spec.normEps = static_cast<float>(readNumber(object, "normEps"));
  const auto rope = field(object, "rope").As<Napi::Object>();
  spec.rope.inverseFrequencies = readNumbers<float>(readArray(rope, "inverseFrequencies"));
  spec.rope.attentionFactor = static_cast<float>(readNumber(rope, "attentionFactor"));
  spec.attentionBias = readBool(object, "attentionBias");
  spec.outputBias = readBool(object, "outputBias");
  spec.mlpBias = readBool(object, "mlpBias");
  spec.qkNorm = readBool(object, "qkNorm");
  spec.tiedEmbeddings = readBool(object, "tiedEmbeddings");
  spec.slidingWindow = readNumbers<int>(readArray(object, "slidingWindow"));
  spec.readsImages = !object.Get("vision").IsUndefined();
  return spec;
}

CheckpointType readType(Napi::Object object) {
  return readEnum<CheckpointType>(object, "dtype",
                                  {{"bf16", CheckpointType::bf16},
                                   {"f16", CheckpointType::f16},
                                   {"f32", CheckpointType::f32},
                                   {"e4m3", CheckpointType::e4m3}});
}

ScaleEntry readScales(Napi::Object object) {
  return {readType(object),
          readInteger<int>(object, "file"),
          readInteger<std::uint64_t>(object, "begin"),
          readInteger<std::uint64_t>(object, "end"),
          readInteger<std::int64_t>(object, "blockRows"),
          readInteger<std::int64_t>(object, "blockCols")};
}

TensorEntry readTensor(Napi::Object object) {
  TensorEntry tensor;
  tensor.name = readString(object, "name");
  tensor.type = readType(object);
  tensor.shape = readNumbers<std::int64_t>(readArray(object, "shape"));
  tensor.file = readInteger<int>(object, "file");
  tensor.begin = readInteger<std::uint64_t>(object, "begin");
  tensor.end = readInteger<std::uint64_t>(object, "end");
  if (const Napi::Value scales = object.Get("scales"); !scales.IsUndefined()) {
    tensor.scales = readScales(scales.As<Napi::Object>());
  }
  return tensor;
}

std::vector<std::string> readFiles(Napi::Object object) {
  const Napi::Array files = readArray(object, "files");
  std::vector<std::string> paths;
  for (std::uint32_t i = 0; i < files.Length(); ++i) paths.push_back(files.Get(i).ToString().Utf8Value());
  return paths;
}

std::vector<TensorEntry> readTensors(Napi::Object object) {
  const Napi::Array tensors = readArray(object, "tensors");
  std::vector<TensorEntry> entries;
  for (std::uint32_t i = 0; i < tensors.Length(); ++i) {
    entries.push_back(readTensor(tensors.Get(i).As<Napi::Object>()));
  }
  return entries;
}

std::optional<Isa> readIsa(Napi::Object object) {
  const Napi::Value isa = object.Get("isa");
  if (isa.IsUndefined()) return std::nullopt;
  return parseIsa(isa.ToString().Utf8Value());
}

std::variant<CpuCompute, CudaCompute> readCompute(Napi::Object object) {
  const std::string kind = readString(object, "kind");
  if (kind == "cuda")
    return CudaCompute{readInteger<int>(object, "gpu"), readNumber(object, "memoryFraction")};
  if (kind != "cpu") throw Error("the option compute cannot be of the kind \"" + kind + "\"");
  return CpuCompute{readInteger<int>(object, "cores"), readIsa(object)};
}

}  // namespace

OpenOptions readOpenOptions(Napi::Object object) {
  OpenOptions options;
  DeviceOptions& device = options.device;
  device.spec = readSpec(field(object, "spec").As<Napi::Object>());
  device.files = readFiles(object);
  device.tensors = readTensors(object);
  device.weights.weightClass = readEnum<WeightClass>(
      object, "weights",
      {{"bf16", WeightClass::bf16}, {"int8", WeightClass::int8}, {"int4", WeightClass::int4}});
  device.weights.checkFinite = readBool(object, "checkFinite");
  device.weights.tensorPrefix = readString(object, "tensorPrefix");
  device.kvPrecision = readEnum<PrecisionClass>(
      object, "kvPrecision", {{"bf16", PrecisionClass::bf16}, {"int8", PrecisionClass::int8}});
  device.kvBytes = readInteger<std::size_t>(object, "kvBytes");
  if (!object.Get("farBytes").IsUndefined()) device.farBytes = readInteger<std::size_t>(object, "farBytes");
  device.slots = readInteger<int>(object, "slots");
  device.maxStepTokens = readInteger<int>(object, "maxStepTokens");
  device.maxSequenceTokens = readInteger<std::int64_t>(object, "maxSequenceTokens");
  if (const Napi::Value value = object.Get("selection"); !value.IsUndefined()) {
    const auto selection = value.As<Napi::Object>();
    device.selection =
        PageSelection{readInteger<std::int64_t>(selection, "sinkPages"),
                      readInteger<std::int64_t>(selection, "topPages"), readBool(selection, "afterDrop")};
  }
  device.kvMayShrink = readBool(object, "kvMayShrink");
  options.compute = readCompute(field(object, "compute").As<Napi::Object>());
  return options;
}

vision::EncoderOptions readVisionOptions(Napi::Object object) {
  vision::EncoderOptions options;
  const auto spec = field(object, "spec").As<Napi::Object>();
  options.spec.imageSize = readInteger<int>(spec, "imageSize");
  options.spec.patchSize = readInteger<int>(spec, "patchSize");
  options.spec.patchesPerSide = readInteger<int>(spec, "patchesPerSide");
  options.spec.hidden = readInteger<int>(spec, "hidden");
  options.spec.layers = readInteger<int>(spec, "layers");
  options.spec.heads = readInteger<int>(spec, "heads");
  options.spec.ffn = readInteger<int>(spec, "ffn");
  options.spec.normEps = static_cast<float>(readNumber(spec, "normEps"));
  options.spec.scaleFactor = readInteger<int>(spec, "scaleFactor");
  options.spec.decoderHidden = readInteger<int>(object, "decoderHidden");
  options.files = readFiles(object);
  options.tensors = readTensors(object);
  options.isa = readIsa(object);
  options.checkFinite = readBool(object, "checkFinite");
  options.threads = readInteger<int>(object, "threads");
  return options;
}

std::vector<EmbeddedRows> readEmbedded(const Napi::Value& value) {
  if (!value.IsArray()) throw Error("embedded must be an array");
  const auto array = value.As<Napi::Array>();
  std::vector<EmbeddedRows> embedded;
  for (std::uint32_t i = 0; i < array.Length(); ++i) {
    const auto run = array.Get(i).As<Napi::Object>();
    embedded.push_back({readInteger<std::int64_t>(run, "position"),
                        readColumn<float>(field(run, "values"), napi_float32_array, "values")});
  }
  return embedded;
}

PrecisionClass readClass(const Napi::Value& value) { return classAt(value.ToNumber().Uint32Value()); }

std::vector<PrecisionClass> readClasses(const Napi::Value& value) {
  std::vector<PrecisionClass> classes;
  for (const std::uint8_t place : readColumn<std::uint8_t>(value, napi_uint8_array, "classes")) {
    classes.push_back(classAt(place));
  }
  return classes;
}

void readSparse(const Napi::Value& entries, const Napi::Value& isSeen, int layers,
                std::vector<SparseEntry>& sparse) {
  const auto pairs = readColumn<std::int32_t>(entries, napi_int32_array, "sparse");
  const auto flags = readColumn<std::uint8_t>(isSeen, napi_uint8_array, "isSeen");
  if (pairs.size() % 2 != 0) throw Error("sparse must have an entry and a count of pages for each");
  std::size_t next = 0;
  for (std::size_t i = 0; i < pairs.size(); i += 2) {
    const std::int64_t count = std::int64_t{layers} * pairs[i + 1];
    if (count < 0 || next + static_cast<std::size_t>(count) > flags.size()) {
      throw Error("isSeen must have a flag for each layer and page of the sparse entries");
    }
    const auto begin = flags.begin() + static_cast<std::ptrdiff_t>(next);
    sparse.push_back({pairs[i], pairs[i + 1], {begin, begin + static_cast<std::ptrdiff_t>(count)}});
    next += static_cast<std::size_t>(count);
  }
}

SlotOptions readSlotOptions(Napi::Object object) {
  SlotOptions options;
  SampleParams& params = options.params;
  params.temperature = static_cast<float>(readNumber(object, "temperature"));
  params.topP = static_cast<float>(readNumber(object, "topP"));
  params.topK = static_cast<int>(readNumber(object, "topK"));
  params.minP = static_cast<float>(readNumber(object, "minP"));
  params.presencePenalty = static_cast<float>(readNumber(object, "presencePenalty"));
  params.frequencyPenalty = static_cast<float>(readNumber(object, "frequencyPenalty"));
  params.repetitionPenalty = static_cast<float>(readNumber(object, "repetitionPenalty"));
  const Napi::Value seed = field(object, "seed");
  if (!seed.IsBigInt()) throw Error("the option seed must be a bigint");
  bool lossless = true;
  params.seed = seed.As<Napi::BigInt>().Uint64Value(&lossless);
  params.logprobs = static_cast<int>(readNumber(object, "logprobs"));

  // A Map is read as the array of its entries.
  const Napi::Value bias = field(object, "logitBias");
  const auto arrayFrom =
      object.Env().Global().Get("Array").As<Napi::Object>().Get("from").As<Napi::Function>();
  const auto entries = arrayFrom.Call({bias}).As<Napi::Array>();
  for (std::uint32_t i = 0; i < entries.Length(); ++i) {
    const auto entry = entries.Get(i).As<Napi::Array>();
    params.bias.push_back({entry.Get(0u).ToNumber().Int32Value(), entry.Get(1u).ToNumber().FloatValue()});
  }
  options.minTokens = readInteger<int>(object, "minTokens");
  options.suppressedBelowMin =
      readColumn<std::int32_t>(field(object, "suppressedBelowMin"), napi_int32_array, "suppressedBelowMin");
  options.promptTokens =
      readColumn<std::int32_t>(field(object, "promptTokens"), napi_int32_array, "promptTokens");
  options.generatedTokens =
      readColumn<std::int32_t>(field(object, "generatedTokens"), napi_int32_array, "generatedTokens");
  return options;
}

TokenBytes readTokenBytes(Napi::Object object) {
  const auto numbers = [&](const char* name) {
    return readColumn<std::int32_t>(field(object, name), napi_int32_array, name);
  };
  return {readColumn<std::uint8_t>(field(object, "bytes"), napi_uint8_array, "bytes"), numbers("begins"),
          numbers("special"), numbers("endTokens")};
}

GrammarTables readGrammarTables(Napi::Object object) {
  const auto bytes = [&](const char* name) {
    return readColumn<std::uint8_t>(field(object, name), napi_uint8_array, name);
  };
  const auto numbers = [&](const char* name) {
    return readColumn<std::int32_t>(field(object, name), napi_int32_array, name);
  };
  return {bytes("byteClasses"),   numbers("next"),    numbers("callBegins"), numbers("callRules"),
          numbers("callReturns"), bytes("accepting"), numbers("ruleStarts")};
}

}  // namespace tandem::addon
