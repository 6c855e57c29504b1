#include "model/forward.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace tandem {

Forward::Forward(const ModelSpec& spec, const Weights& weights, const KvCache& kv, Backend& backend,
                 std::int64_t maxTokens, const std::optional<PageSelection>& selection)
    : spec_(spec),
      weights_(weights),
      kv_(kv),
      selection_(selection),
      logitRows_(std::min(maxTokens, backend.logitRows())),
      hidden_(backend.allocate(maxTokens * spec.hidden)),
      normed_(backend.allocate(maxTokens * spec.hidden)),
      qkv_(backend.allocate(maxTokens * spec.qkvWidth())),
      attended_(backend.allocate(maxTokens * spec.heads * spec.headDim)),
      gated_(backend.allocate(maxTokens * spec.ffn)),
      gathered_(backend.allocate(logitRows_ * spec.hidden)),
      logits_(backend.allocate(logitRows_ * spec.vocab, Element::logit)) {}

std::unique_ptr<BegunStep> Forward::begin(Ops& ops, std::span<const ForwardEntry> entries,
                                          std::span<const ProbeRun> probes,
                                          std::span<const SparseEntry> sparse,
                                          std::span<const std::int32_t> carried) {
  auto step = std::make_unique<BegunStep>();
  StepResult& result = step->result;
  arrange(entries);
  arrangeSight(sparse);
  arrangeProbes(entries, probes, result.saliency);
  arrangeWritten(entries);
  ops.begin({tokens_, kvRows_, kvTables_, kvSight_, probedRows_, partitions_, carried, !written_.empty()});
  runLayers(ops, entries);
  result.entries.resize(entries.size());
  scorePrompts(ops, entries, result.entries);
  sampleLast(ops, entries, carried, *step);
  ops.submit();
  return step;
}

StepResult Forward::finish(Ops& ops, std::span<const ForwardEntry> entries, BegunStep& step) {
  step.result.seconds = ops.finish();
  for (std::size_t i = 0; i < step.drawn.size(); ++i) {
    const auto& [index, isWanted] = step.drawn[i];
    if (!isWanted) continue;
    const ForwardEntry& entry = entries[index];
    EntryResult& result = step.result.entries[index];
    SampleOutcome& outcome = step.outcomes[i];
    result.token = outcome.token;
    result.logprob =
        entry.slot->params().logprobs < 0 ? std::numeric_limits<float>::quiet_NaN() : outcome.logprob;
    result.topTokens = std::move(outcome.topTokens);
    result.topLogprobs = std::move(outcome.topLogprobs);
    entry.slot->accept(outcome.token);
  }
  return std::move(step.result);
}

void Forward::arrange(std::span<const ForwardEntry> entries) {
  rows_.clear();
  tokens_.clear();
  for (const ForwardEntry& entry : entries) {
    rows_.push_back({static_cast<std::int64_t>(tokens_.size()),
                     static_cast<std::int64_t>(entry.tokens.size()), entry.position, entry.dropped});
    tokens_.insert(tokens_.end(), entry.tokens.begin(), entry.tokens.end());
  }
  arrangeKinds(entries);
  kvRows_.clear();
  kvTables_.clear();
  for (const std::size_t i : kvOrder_) {
    kvRows_.push_back(rows_[i]);
    kvTables_.push_back(kv_.tableOf(entries[i].slotIndex));
  }
}

void Forward::arrangeKinds(std::span<const ForwardEntry> entries) {
  std::array<std::vector<std::size_t>, 4> kinds;
  std::vector<PagePartitions> partitions(entries.size());
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (selection_) partitions[i] = kv_.partitionsOf(entries[i].slotIndex, *selection_);
    kinds[(rows_[i].count > 1 ? 0 : 2) + (partitions[i].absentPages() > 0 ? 1 : 0)].push_back(i);
  }
  kvOrder_.clear();
  partitions_.clear();
  for (std::size_t kind = 0; kind < kinds.size(); ++kind) {
    kinds_[kind] = kvOrder_.size();
    for (const std::size_t i : kinds[kind]) kvOrder_.push_back(i);
  }
  kinds_.back() = kvOrder_.size();
  if (kinds[1].empty() && kinds[3].empty()) return;
  for (const std::size_t i : kvOrder_) partitions_.push_back(partitions[i]);
}

void Forward::arrangeWritten(std::span<const ForwardEntry> entries) {
  written_.clear();
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const std::int64_t begin = entries[i].dropped + entries[i].position, end = begin + rows_[i].count;
    for (const EmbeddedRows& run : entries[i].slot->embedded()) {
      const auto rows = static_cast<std::int64_t>(run.values.size()) / spec_.hidden;
      const std::int64_t first = std::max(begin, run.position), last = std::min(end, run.position + rows);
      if (first >= last) continue;
      written_.push_back({rows_[i].row + first - begin,
                          std::span(run.values)
                              .subspan(static_cast<std::size_t>((first - run.position) * spec_.hidden),
                                       static_cast<std::size_t>((last - first) * spec_.hidden))});
    }
  }
}

void Forward::arrangeSight(std::span<const SparseEntry> sparse) {
  kvSight_.clear();
  if (sparse.empty()) return;
  for (const std::size_t i : kvOrder_) {
    const auto found =
        std::ranges::lower_bound(sparse, static_cast<std::int32_t>(i), {}, &SparseEntry::entry);
    const bool isSparse = found != sparse.end() && found->entry == static_cast<std::int32_t>(i);
    kvSight_.push_back(isSparse ? SeenPages{found->pages, found->isSeen} : SeenPages{});
  }
}

void Forward::arrangeProbes(std::span<const ForwardEntry> entries, std::span<const ProbeRun> probes,
                            std::vector<std::vector<std::uint32_t>>& saliency) {
  probedEntries_.clear();
  probedRows_.clear();
  saliency_.clear();
  saliency.assign(probes.size(), {});
  for (std::size_t i = 0; i < probes.size(); ++i) {
    const auto& [entry, row, count] = probes[i];
    const std::int64_t position = entries[entry].position + row;
    const std::int64_t pages = (position + count + kPageTokens - 1) / kPageTokens;
    probedEntries_.push_back(static_cast<std::size_t>(entry));
    probedRows_.push_back({rows_[entry].row + row, count, position});
    saliency[i].assign(static_cast<std::size_t>(spec_.layers * pages), 0);
    saliency_.emplace_back(saliency[i]);
  }
}

void Forward::probe(Ops& ops, Tensor qkv, const AttentionShape& shape, std::span<const ForwardEntry> entries,
                    int layer) {
  if (probedRows_.empty()) return;
  probedViews_.clear();
  std::vector<std::span<std::uint32_t>> ofLayer;
  for (std::size_t i = 0; i < probedRows_.size(); ++i) {
    probedViews_.push_back(kv_.viewOf(entries[probedEntries_[i]].slotIndex, layer));
    const std::size_t pages = saliency_[i].size() / static_cast<std::size_t>(spec_.layers);
    ofLayer.push_back(saliency_[i].subspan(static_cast<std::size_t>(layer) * pages, pages));
  }
  ops.probe(qkv, probedRows_, probedViews_, shape, ofLayer);
  ops.lap(OperatorClass::other);
}

void Forward::view(std::span<const ForwardEntry> entries, int layer) {
  views_.clear();
  seenPages_.resize(std::max(seenPages_.size(), kvSight_.size()));
  for (std::size_t i = 0; i < kvOrder_.size(); ++i) {
    KvView view = kv_.viewOf(entries[kvOrder_[i]].slotIndex, layer);
    if (!kvSight_.empty() && kvSight_[i].pages > 0) {
      const SeenPages& sight = kvSight_[i];
      std::vector<std::byte*>& pages = seenPages_[i];
      pages.assign(view.pages.begin(), view.pages.end());
      for (std::int64_t page = 0; page < sight.pages; ++page) {
        if (!sight.isSeenIn(layer, page)) pages[static_cast<std::size_t>(page)] = nullptr;
      }
      view.pages = pages;
    }
    views_.push_back(view);
  }
}

void Forward::attend(Ops& ops, Tensor qkv, const AttentionShape& shape, Tensor out) {
  const auto of = [&](const auto& all, std::size_t kind) {
    return std::span(all).subspan(kinds_[kind], kinds_[kind + 1] - kinds_[kind]);
  };
  for (const std::size_t kind : {0, 2}) {
    if (const auto rows = of(kvRows_, kind); !rows.empty()) {
      ops.attention(qkv, rows, of(views_, kind), shape, out);
    }
    if (const auto rows = of(kvRows_, kind + 1); !rows.empty()) {
      ops.attendPartitions(qkv, rows, of(views_, kind + 1), of(partitions_, kind + 1), shape, spec_.rope,
                           out);
    }
    if (kinds_[kind] < kinds_[kind + 2]) {
      ops.lap(kind == 0 ? OperatorClass::prefillAttention : OperatorClass::decodeAttention);
    }
  }
}

void Forward::runLayers(Ops& ops, std::span<const ForwardEntry> entries) {
  const auto tokens = static_cast<std::int64_t>(tokens_.size());
  x_ = hidden_->tensor(tokens, spec_.hidden);
  const Tensor normed = normed_->tensor(tokens, spec_.hidden);
  const Tensor qkv = qkv_->tensor(tokens, spec_.qkvWidth());
  const Tensor attended = attended_->tensor(tokens, static_cast<std::int64_t>(spec_.heads) * spec_.headDim);
  const Tensor gated = gated_->tensor(tokens, spec_.ffn);
  AttentionShape shape{spec_.heads, spec_.kvHeads, spec_.headDim, 0};

  ops.embed(tokens_, weights_.embedding, x_);
  for (const WrittenRows& run : written_) ops.writeRows(x_, run.row, run.values);
  for (int layer = 0; layer < spec_.layers; ++layer) {
    const LayerWeights& w = weights_.layers[layer];
    shape.window = spec_.slidingWindow[layer];
    view(entries, layer);
    ops.rmsNorm(x_, w.inputNorm, spec_.normEps, normed);
    ops.lap(OperatorClass::other);
    ops.linear(normed, *w.qkv, w.qkvBias, qkv);
    ops.lap(OperatorClass::matmul);
    ops.appendKv(qkv, kvRows_, views_, shape, spec_.rope, w.qNorm, w.kNorm, spec_.normEps);
    ops.lap(OperatorClass::other);
    probe(ops, qkv, shape, entries, layer);
    attend(ops, qkv, shape, attended);
    ops.linearAdd(attended, *w.output, w.outputBias, x_);
    ops.lap(OperatorClass::matmul);
    ops.rmsNorm(x_, w.ffnNorm, spec_.normEps, normed);
    ops.lap(OperatorClass::other);
    ops.linearSwiGlu(normed, *w.gateUp, w.gateUpBias, gated);
    ops.linearAdd(gated, *w.down, w.downBias, x_);
    ops.lap(OperatorClass::matmul);
  }
}

Tensor Forward::logitsOf(Ops& ops, std::span<const std::int64_t> rows) {
  const Tensor picked = gathered_->tensor(static_cast<std::int64_t>(rows.size()), spec_.hidden);
  ops.gatherRows(x_, rows, picked);
  return headOf(ops, picked);
}

Tensor Forward::headOf(Ops& ops, Tensor picked) {
  const Tensor logits = logits_->tensor(picked.rows, spec_.vocab);
  ops.rmsNorm(picked, weights_.finalNorm, spec_.normEps, picked);
  ops.lap(OperatorClass::other);
  ops.linear(picked, *weights_.head, {}, logits);
  ops.lap(OperatorClass::matmul);
  return logits;
}

float Forward::scoreFirst(Ops& ops, std::span<const float> hidden, std::int32_t token) {
  const Tensor picked = gathered_->tensor(1, spec_.hidden);
  ops.writeRows(picked, 0, hidden);
  SampleOutcome outcome;
  ops.logprobs(headOf(ops, picked), {&token, 1}, 0, {&outcome, 1});
  return outcome.logprob;
}

void Forward::scorePrompts(Ops& ops, std::span<const ForwardEntry> entries, std::span<EntryResult> results) {
  std::vector<std::int64_t> rows;
  std::vector<std::int32_t> targets;
  std::vector<SampleOutcome> outcomes;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const ForwardEntry& entry = entries[i];
    if (!(entry.wants & kWantPromptLogprobs)) continue;
    PromptLogprobs& prompt = results[i].prompt;
    const auto count = static_cast<std::int64_t>(entry.tokens.size());
    prompt.k = std::max(0, entry.slot->params().logprobs);
    prompt.logprobs.assign(count, std::numeric_limits<float>::quiet_NaN());
    std::vector<float>& carried = entry.slot->scoredHidden;
    if (!carried.empty()) prompt.logprobs[0] = scoreFirst(ops, carried, entry.tokens[0]);
    carried.resize(spec_.hidden);
    ops.readRow(x_, rows_[i].row + count - 1, carried);
    for (std::int64_t begin = 0; begin < count; begin += logitRows_) {
      const std::int64_t end = std::min(count, begin + logitRows_);
      rows.clear();
      targets.clear();
      for (std::int64_t token = begin; token < end; ++token) {
        rows.push_back(rows_[i].row + token);
        targets.push_back(token + 1 < count ? entry.tokens[token + 1] : -1);
      }
      outcomes.assign(rows.size(), {});
      ops.logprobs(logitsOf(ops, rows), targets, prompt.k, outcomes);
      for (std::int64_t token = begin; token < end; ++token) {
        const SampleOutcome& outcome = outcomes[token - begin];
        if (token + 1 < count) prompt.logprobs[token + 1] = outcome.logprob;
        prompt.nextTokens.insert(prompt.nextTokens.end(), outcome.topTokens.begin(), outcome.topTokens.end());
        prompt.nextLogprobs.insert(prompt.nextLogprobs.end(), outcome.topLogprobs.begin(),
                                   outcome.topLogprobs.end());
      }
    }
  }
}

void Forward::sampleLast(Ops& ops, std::span<const ForwardEntry> entries,
                         std::span<const std::int32_t> carried, BegunStep& step) {
  for (std::size_t i = 0; i < entries.size(); ++i) {
    // A step may have been planned before the one that ended a slot's grammar was done.
    const bool samples = (entries[i].wants & kWantSample) != 0 && !entries[i].slot->isOver();
    if (samples || (entries[i].wants & kWantLogits)) step.drawn.push_back({i, samples});
  }
  step.outcomes.resize(step.drawn.size());
  std::vector<std::int64_t> rows;
  std::vector<SampleRequest> requests;
  const auto most = static_cast<std::size_t>(logitRows_);
  step.drawsAtOnce = step.drawn.size() <= most;
  for (std::size_t begin = 0; begin < step.drawn.size(); begin += most) {
    const auto block = std::span(step.drawn).subspan(begin, std::min(most, step.drawn.size() - begin));
    rows.clear();
    for (const auto& drawn : block) rows.push_back(rows_[drawn.entry].row + rows_[drawn.entry].count - 1);
    const Tensor logits = logitsOf(ops, rows);
    requests.clear();
    for (std::size_t row = 0; row < block.size(); ++row) {
      const std::size_t index = block[row].entry;
      const ForwardEntry& entry = entries[index];
      if (entry.wants & kWantLogits) {
        std::vector<float>& out = step.result.entries[index].logits;
        out.resize(spec_.vocab);
        ops.readRow(logits, static_cast<std::int64_t>(row), out);
      }
      requests.push_back(
          entry.slot->request(entry.dropped + entry.position + static_cast<std::int64_t>(entry.tokens.size()),
                              carried.empty() ? -1 : carried[index]));
    }
    ops.sample(logits, requests, std::span(step.outcomes).subspan(begin, block.size()));
  }
}

}  // namespace tandem
