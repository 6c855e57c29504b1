#pragma once

// The op interface. The forward pass (native/model/) is written once over it; a backend (native/cpu/,
// native/cuda/) implements it. An op works on the lane's share of the device. On a backend with a queue, ops
// enqueue and `finish` waits.
//
// Determinism is part of the contract: what an op computes for a row depends on that row's inputs and on the
// problem's shape per sequence alone, never on the other rows of the batch, on how a prompt was cut into
// chunks, on the share of the device, or on whether a row was computed as prefill or as decode. Bit for bit.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/operator-class.h"
#include "kv/kv-memory.h"
#include "kv/page-format.h"

namespace tandem {

// What a tensor holds. Logits are float32 everywhere; activations are as the backend likes them (CPU:
// float32, CUDA: bf16).
enum class Element : std::uint8_t { activation, logit };

// Row-major [rows, cols], in the backend's memory.
struct Tensor {
  void* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  Element element = Element::activation;

  float* floats() const { return static_cast<float*>(data); }
  Tensor firstRows(std::int64_t count) const { return {data, count, cols, element}; }
};

enum class CheckpointType : std::uint8_t { bf16, f16, f32, e4m3 };
enum class WeightClass : std::uint8_t { bf16, int8, int4 };

// What values of a matrix are to be multiplied by, block by block: [ceil(rows / blockRows), ceil(cols /
// blockCols)] row by row. None: they are as they are.
struct CheckpointScales {
  const float* values = nullptr;
  std::int64_t blockRows = 1;
  std::int64_t blockCols = 1;
};

// A row-major matrix [rows, cols] in a checkpoint, as mapped from its file. Need not be aligned.
struct CheckpointMatrix {
  const std::byte* data = nullptr;
  CheckpointType type = CheckpointType::bf16;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  CheckpointScales scales = {};
};

// A matrix W [outputs, inputs] packed for a backend's matmul kernel.
class Weight {
 public:
  virtual ~Weight() = default;
  virtual std::int64_t outputs() const = 0;
  virtual std::int64_t inputs() const = 0;
  virtual std::size_t bytes() const = 0;
};

// How the matrices given to `packWeight` lie in the packed one.
enum class WeightLayout : std::uint8_t {
  stacked,  // one below the other: q, k, v as one matmul
  gated,    // gate and up, interleaved as the backend's SwiGLU epilogue wants them
};

// The cached keys and values that one entry of a step attends to, in one layer. `pages[i]` holds the tokens
// [i * pageTokens, (i + 1) * pageTokens) in the format of kv/page-format.h, in the class `classes[i]`; the
// outline of a far page, which leads to them; null where its class is `none`: then nobody sees them.
struct KvView {
  PageFormat format;
  std::span<std::byte* const> pages;
  std::span<const PrecisionClass> classes;  // empty: the format's, for all pages
  int layer = 0;

  PageFormat formatOf(std::int64_t page) const { return classes.empty() ? format : format.in(classes[page]); }
};

// The pages of a slot in all layers.
struct KvTable {
  int slot = 0;
  std::uint64_t version =
      0;  // another one whenever a page was exchanged or taken away; not when one was added
  std::span<const std::vector<std::byte*>> pages;  // [layer][page]
  std::span<const std::vector<PrecisionClass>> classes;
};

// A full page that is to be written again in another class; an int4 one as `far`: then `to` is its outline.
struct PageConversion {
  const std::byte* from = nullptr;
  std::byte* to = nullptr;
  PageFormat fromFormat;
  PageFormat toFormat;
  std::byte* detail = nullptr;  // where the bytes of a far page go, in memory of Backend::allocateFar
};

// One sequence's rows in a step: rows [row, row + count) of the activations are its tokens at the positions
// [position, position + count) of its page table. Of the sequence so many more tokens came before them as
// were dropped: RoPE counts those too.
struct EntryRows {
  std::int64_t row = 0;
  std::int64_t count = 0;
  std::int64_t position = 0;
  std::int64_t dropped = 0;
};

// Of a sequence's older mid pages so many times those that a row sees are looked at key by key.
inline constexpr std::int64_t kShortlistFactor = 4;

// Of the reach of a page's keys, what its bound counts: no key lies at the end of its range in all channels.
inline constexpr float kReachShare = 0.5f;

// Mid pages that rows look at key by key, unless they say otherwise: those of 16,384 tokens.
inline constexpr std::int64_t kScoredPages = 512;

// How much a row sees of a sequence that is too long to be seen whole; see Ops::attendPartitions.
struct PageSelection {
  std::int64_t sinkPages = 0;               // the first ones, always
  std::int64_t topPages = 0;                // of those between them and the recent ones
  bool afterDrop = false;                   // rows of a sequence of which nothing was dropped see all of it
  std::int64_t scoredPages = kScoredPages;  // the newest mid pages; older ones where a bound promises most
};

// A sequence's page table under such a selection: sink, then (where `droppedPages` were), mid, then recent.
struct PagePartitions {
  PageSelection selection;
  std::int64_t droppedPages = 0;
  std::int64_t midEnd = 0;  // packed pages [sinkPages, midEnd)

  std::int64_t midPages() const { return midEnd - selection.sinkPages; }
  // From which page on mid is looked at key by key.
  std::int64_t scoredBegin() const { return std::max(selection.sinkPages, midEnd - selection.scoredPages); }
  // That a row does not see.
  std::int64_t absentPages() const {
    return droppedPages + std::max<std::int64_t>(0, midPages() - selection.topPages);
  }
};

// Which of a slot's first pages an entry's rows attend to, layer by layer. They attend to all that come
// behind.
struct SeenPages {
  std::int64_t pages = 0;                // lie before the entry's first token
  std::span<const std::uint8_t> isSeen;  // [layers, pages]

  bool isSeenIn(int layer, std::int64_t page) const {
    return isSeen[static_cast<std::size_t>(layer * pages + page)] != 0;
  }
};

// What a step is about to compute. All of it stays where it is until the step is finished.
struct StepPlan {
  std::span<const std::int32_t> tokens;  // by row; -1: carried
  std::span<const EntryRows> entries;    // in the order in which ops on KV get them
  std::span<const KvTable> tables;       // of the entries
  // Of the entries; empty where all attend to everything. `attention` gets views that lack the other pages.
  std::span<const SeenPages> sight = {};
  std::span<const EntryRows> probes = {};  // rows of the entries, as `probe` gets them in each layer
  // Of the entries; empty where no sequence is long enough to be held in partitions.
  std::span<const PagePartitions> partitions = {};
  // Of a step that begins before the one before it is finished, by row: which of that step's requests drew
  // the token; -1: the token is known. Empty where all are.
  std::span<const std::int32_t> carried = {};
  // Some of its rows are written behind `embed`, which makes it unlike any other.
  bool writesRows = false;

  // Whether the rows of an entry see a selection of its pages, by `attendPartitions`.
  bool isPartitioned(std::size_t entry) const {
    return !partitions.empty() && partitions[entry].absentPages() > 0;
  }
};

struct AttentionShape {
  int heads = 0;
  int kvHeads = 0;
  int headDim = 0;
  int window = 0;  // latest tokens a token sees, itself included; 0: all
};

struct RopeTable {
  std::vector<float> inverseFrequencies;  // [headDim / 2]
  float attentionFactor = 1;              // on cos and sin
};

// What one row of logits is wanted for. See `SlotSampling` in engine/device/device.ts.
struct SampleParams {
  float temperature = 0;
  float topP = 1;
  int topK = 0;
  float minP = 0;
  float presencePenalty = 0;
  float frequencyPenalty = 0;
  float repetitionPenalty = 1;
  std::uint64_t seed = 0;
  int logprobs = -1;  // -1 none, 0 the sampled token's, k with the k most likely
  struct Bias {
    std::int32_t token;
    float value;
  };
  std::vector<Bias> bias = {};
};

struct TokenCount {
  std::int32_t token;
  std::int32_t inOutput;  // times generated; 0: in the prompt only
};

struct SampleRequest {
  const SampleParams* params = nullptr;
  std::int64_t position = 0;                 // of the token to be drawn; the draw depends on (seed, position)
  std::span<const TokenCount> seen;          // empty where no penalty is on
  std::span<const std::int32_t> suppressed;  // must not be drawn
  std::span<const std::uint32_t> allowed = {};  // a bit for each token that may be drawn; empty: all may
  // Of the step before, which is not finished: the request whose token is to be counted as `seen` too, once
  // more in the output; -1: none.
  std::int32_t carried = -1;
};

struct SampleOutcome {
  std::int32_t token = -1;
  float logprob = 0;                    // of the unmodified distribution
  std::vector<std::int32_t> topTokens;  // best first
  std::vector<float> topLogprobs;
};

// A row's whole attention, in the units of `Ops::probe`.
inline constexpr std::uint32_t kSaliencyUnits = 1u << 24;
// Rows whose sum surely fits.
inline constexpr std::int64_t kMostProbes = 128;

// The ops of one lane. Not thread-safe, but for `await`. A step is `begin`, what it asks for, `submit` and
// `finish`.
class Ops {
 public:
  virtual ~Ops() = default;

  // Comes first in a step: what its ops need that does not depend on the layer can be made here, once. After
  // it, `embed` gets the plan's tokens, `appendKv` all of its entries, `probe` all of its probes,
  // `attendPartitions` of the entries with absent pages, and `attention` of the others, all that have several
  // tokens or all that have one.
  virtual void begin(const StepPlan& plan) = 0;

  // What was asked for since the last lap, or since `begin`, is of this class.
  virtual void lap(OperatorClass of) = 0;

  // x[i] = table[tokens[i]]
  virtual void embed(std::span<const std::int32_t> tokens, const CheckpointMatrix& table, Tensor x) = 0;

  // out = x / rms(x) * gain, per row. gain [cols]
  virtual void rmsNorm(Tensor x, std::span<const float> gain, float eps, Tensor out) = 0;

  // y = x Wt + bias. x [rows, inputs], y [rows, outputs]; bias [outputs] or empty
  virtual void linear(Tensor x, const Weight& w, std::span<const float> bias, Tensor y) = 0;

  // y += x Wt + bias: the residual stream's add, fused
  virtual void linearAdd(Tensor x, const Weight& w, std::span<const float> bias, Tensor y) = 0;

  // y = silu(x Gt + gateBias) * (x Ut + upBias) for a `gated` weight of [2 * y.cols, inputs].
  // bias: gate's then up's [2 * y.cols], or empty
  virtual void linearSwiGlu(Tensor x, const Weight& gateUp, std::span<const float> bias, Tensor y) = 0;

  // qkv [rows, (heads + 2 * kvHeads) * headDim]. Per head: RMSNorm of q and k where gains [headDim] are
  // given, RoPE of q in place and of k, then k and v appended to the entry's pages, which must not be packed.
  // entries[i] goes with views[i].
  virtual void appendKv(Tensor qkv, std::span<const EntryRows> entries, std::span<const KvView> views,
                        const AttentionShape& shape, const RopeTable& rope, std::span<const float> qGain,
                        std::span<const float> kGain, float eps) = 0;

  // out [rows, heads * headDim] = softmax(q kt / sqrt(headDim)) v over each entry's pages, causal, within the
  // window. q is the first part of each row of qkv, as `appendKv` left it.
  virtual void attention(Tensor qkv, std::span<const EntryRows> entries, std::span<const KvView> views,
                         const AttentionShape& shape, Tensor out) = 0;

  // The same of entries with absent pages. A row sees all sink and recent pages, and for each KV head the
  // `topPages` mid pages in which a key scores highest with one of the heads that share the KV head. The
  // newest `scoredPages` are looked at for that key by key. Which of the older ones are too, a few times as
  // many as are seen, says a bound that the scales of packed keys are (after Quest, arXiv 2406.10774): of a
  // page whose keys lie within middle +- reach in each channel, sum(q * middle + |q| * reach / 2), half since
  // no key lies at the end of its range in all of them. The earlier page where two promise as much. Positions
  // are closed up: a page is seen as if the absent ones behind it did not exist, which turns the query back
  // by their tokens; while pages are chosen, each is looked at as if it stood right before the recent ones.
  // Pages come in ascending order. No layer may have a window.
  virtual void attendPartitions(Tensor qkv, std::span<const EntryRows> entries, std::span<const KvView> views,
                                std::span<const PagePartitions> partitions, const AttentionShape& shape,
                                const RopeTable& rope, Tensor out) = 0;

  // Where the entries' rows look: adds to saliency[i][p] what part of their attention falls on page p of
  // views[i], as a mean over the heads and a sum over the rows, in units of 1 / kSaliencyUnits. Each head's
  // part is rounded to whole units, so that sums are the same in any order. Filled in when `finish` returns;
  // at most kMostProbes rows an entry.
  virtual void probe(Tensor qkv, std::span<const EntryRows> entries, std::span<const KvView> views,
                     const AttentionShape& shape, std::span<const std::span<std::uint32_t>> saliency) = 0;

  // Writes full pages again in another class: bf16 -> int8, int4 or int2; int8 -> int4 or int2. What a page
  // becomes depends on its own bytes alone, and is the same on every instruction set. NaN and infinity stay
  // visible: what shares their scale turns NaN. An int4 page becomes far by a copy of its bytes.
  virtual void requantize(std::span<const PageConversion> conversions) = 0;

  // out[i] = x[rows[i]]
  virtual void gatherRows(Tensor x, std::span<const std::int64_t> rows, Tensor out) = 0;

  // One token for each row of logits [requests, vocab]. May change the logits. Outcomes are filled in, and
  // errors in logits thrown, when `finish` returns at the latest.
  virtual void sample(Tensor logits, std::span<const SampleRequest> requests,
                      std::span<SampleOutcome> outcomes) = 0;

  // For each row i: ln softmax(logits[i])[targets[i]] (skipped where targets[i] < 0) and the k best with
  // theirs.
  virtual void logprobs(Tensor logits, std::span<const std::int32_t> targets, int k,
                        std::span<SampleOutcome> outcomes) = 0;

  // Copies a row to host memory as float32 [cols].
  virtual void readRow(Tensor x, std::int64_t row, std::span<float> out) = 0;

  // The reverse, of rows that lie one behind the other, from `row` on. values [rows, cols]; read before this
  // returns.
  virtual void writeRows(Tensor x, std::int64_t row, std::span<const float> values) = 0;

  // Nothing more is asked for in this step.
  virtual void submit() = 0;

  // Waits until all that the oldest step asked for is done, and says what it took its time for. A step that
  // begins behind one that is not finished counts its time from that one's end.
  virtual StepSeconds finish() = 0;

  // Whether a step may begin when the one before it is submitted and not finished. That one must be the only
  // such, and have asked for `sample` once, behind all its `logprobs`.
  virtual bool runsAhead() const { return false; }

  // Where steps run ahead: blocks until `finish` of the step that was submitted as the how-manieth, from 0,
  // has nothing to wait for, or has an error to throw. May be called on a thread of its own, for a step that
  // is not finished.
  virtual void await(std::uint64_t step) { static_cast<void>(step); }
};

// Throws unless `Ops::writeRows` of these is within the tensor.
void checkWritten(Tensor x, std::int64_t row, std::span<const float> values);

// Memory for activations, owned.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual Tensor tensor(std::int64_t rows, std::int64_t cols) const = 0;  // throws if it does not fit

 protected:
  // Throws unless a tensor of that shape fits so many elements.
  static void checkFits(std::int64_t rows, std::int64_t cols, std::int64_t elements);
};

// The most that the steps of a lane will ask for.
struct LaneLimits {
  std::int64_t rows = 0;         // of activations
  std::int64_t logitRows = 0;    // of logits at a time
  std::int64_t writtenRows = 0;  // in a step, by `writeRows`
  std::int64_t hidden = 0;       // their width
  int vocab = 0;
  int slots = 0;
  int layers = 0;
  std::int64_t slotPages = 0;                             // of a slot in one layer
  AttentionShape attention;                               // of any window
  std::optional<PageSelection> selection = std::nullopt;  // of rows of long sequences; absent: they see all
};

// A device's kernels and memory.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual const char* kind() const = 0;            // cpu, cuda
  virtual std::string name() const { return {}; }  // of the device, for people; empty: ask the system
  virtual const char* isa() const = 0;
  virtual int units() const = 0;

  // Units of the prefill lane in each split that can be made, ascending; nothing: any number of units.
  virtual std::optional<std::vector<int>> splits() const { return std::nullopt; }

  // Packs matrices of equal `cols` into one weight, on all units. The sources may be unmapped afterwards.
  virtual std::unique_ptr<Weight> packWeight(std::span<const CheckpointMatrix> parts, WeightLayout layout,
                                             WeightClass weightClass) = 0;

  // Values that the model holds and ops will be given, by their address: a gain, a bias, the frequencies of
  // RoPE, the table of embeddings. A backend with memory of its own copies them there. They stay where they
  // are as long as the backend lives.
  virtual void keep(std::span<const float> values) = 0;
  virtual void keep(const CheckpointMatrix& table) = 0;

  virtual std::unique_ptr<Buffer> allocate(std::int64_t elements, Element element = Element::activation) = 0;

  // Rows of logits that are worth computing at a time.
  virtual std::int64_t logitRows() const = 0;

  virtual std::unique_ptr<KvMemory> allocateKv(std::size_t bytes) = 0;

  // Host memory for far pages, which ops read and write by its own addresses; aligned to 64 bytes.
  virtual std::shared_ptr<std::byte> allocateFar(std::size_t bytes) = 0;

  // Bytes that are left for KV; 0 where the backend cannot tell.
  virtual std::size_t freeMemory() const = 0;

  // As Ops::requantize, on the calling thread alone, while lanes compute.
  virtual void requantize(std::span<const PageConversion> conversions) = 0;

  // The ops of a lane, with the memory that its steps need. `lane` is 0 (prefill) or 1 (decode); called once
  // each.
  virtual std::unique_ptr<Ops> openLane(int lane, const LaneLimits& limits) = 0;

  // Claims the units [first, first + count) for the lane's next step, waiting where units cannot be shared
  // until the other lane has given back those it still holds; `releaseUnits` once for each step, when it is
  // finished or has failed. Both on the lane's own thread, on which its ops are called in between.
  virtual void claimUnits(int lane, int first, int count) = 0;
  virtual void releaseUnits(int lane) = 0;
};

}  // namespace tandem
