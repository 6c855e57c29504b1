#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "core/ops.h"
#include "grammar/matcher.h"

namespace tandem {

// What neighbouring tokens of a sequence are to the model in place of the embeddings of their ids.
struct EmbeddedRows {
  std::int64_t position = 0;  // of the first, in the whole sequence
  std::vector<float> values;  // [rows, hidden]
};

// What a sequence asks of sampling, and what some of its tokens stand for, fixed when its slot opens.
struct SlotOptions {
  SampleParams params;
  int minTokens = 0;
  std::vector<std::int32_t> suppressedBelowMin;
  std::vector<std::int32_t> promptTokens;     // needed only where a penalty is on
  std::vector<std::int32_t> generatedTokens;  // by an earlier life of the sequence
  std::shared_ptr<Grammar> grammar;           // that all that is generated follows; null: none
  std::vector<std::int32_t> shownTokens;      // special tokens that are text there
  std::vector<EmbeddedRows> embedded = {};    // ascending, not overlapping
};

// A running sequence's sampling state and embedded rows. Its KV lies in the KvCache under the same number.
class Slot {
 public:
  explicit Slot(SlotOptions options);

  const SampleParams& params() const { return options_.params; }
  const std::vector<EmbeddedRows>& embedded() const { return options_.embedded; }
  std::int32_t lastToken() const { return lastToken_; }
  // Its grammar has come to its end, and that was generated: nothing may follow.
  bool isOver() const { return matcher_ && matcher_->isDone(); }
  bool hasGrammar() const { return matcher_.has_value(); }
  // Of the token at this position. Valid until the slot's next call. `carried`: which request of the step
  // before draws the slot's last token, which is not accepted yet; -1: it is.
  SampleRequest request(std::int64_t position, std::int32_t carried = -1);

  // A sampled token becomes the sequence's last.
  void accept(std::int32_t token);

  // Where a prompt is scored in several steps: the hidden state [hidden] of the last token so far, which says
  // how likely the next step's first token is. Empty before the first.
  std::vector<float> scoredHidden;

 private:
  void count(std::int32_t token, int generated);

  SlotOptions options_;
  std::int64_t generated_;
  std::int32_t lastToken_ = -1;
  bool penalized_;
  std::optional<GrammarMatcher> matcher_;
  std::vector<TokenCount> seen_;
  std::unordered_map<std::int32_t, std::size_t> seenAt_;  // index in seen_
};

}  // namespace tandem
