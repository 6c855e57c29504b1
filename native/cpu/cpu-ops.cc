#include "cpu/cpu-ops.h"

#include <algorithm>
#include <exception>
#include <string>

#include "core/error.h"
#include "core/half.h"
#include "cpu/append-kv.h"
#include "cpu/attention/partitions.h"
#include "cpu/attention/probe.h"
#include "cpu/requantize/requantize.h"
#include "cpu/rms-norm.h"

namespace tandem::cpu {
namespace {

std::span<float> rowOf(Tensor x, std::int64_t row) {
  return {x.floats() + row * x.cols, static_cast<std::size_t>(x.cols)};
}

}  // namespace

CpuOps::CpuOps(Isa isa, ThreadTeam& team, int maxTeam)
    : isa_(isa), team_(team), samplers_(static_cast<std::size_t>(maxTeam), Sampler(rowKernels(isa))) {}

void CpuOps::begin(const StepPlan&) { timer_.start(); }

void CpuOps::embed(std::span<const std::int32_t> tokens, const CheckpointMatrix& table, Tensor x) {
  check(x.rows >= static_cast<std::int64_t>(tokens.size()) && x.cols == table.cols,
        "embed: the activations do not fit the tokens and the table");
  for (const std::int32_t token : tokens) {
    if (token < 0 || token >= table.rows) {
      throw Error("token " + std::to_string(token) + " is outside the vocabulary of " +
                  std::to_string(table.rows));
    }
  }
  team_.split(static_cast<std::int64_t>(tokens.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) readCheckpointRow(table, tokens[row], rowOf(x, row));
  });
}

void CpuOps::rmsNorm(Tensor x, std::span<const float> gain, float eps, Tensor out) {
  check(out.rows == x.rows && out.cols == x.cols && static_cast<std::int64_t>(gain.size()) == x.cols,
        "rmsNorm: x, gain and out do not fit");
  team_.split(x.rows, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row)
      rmsNormRow(rowOf(x, row), gain, eps, rowOf(out, row).data());
  });
}

void CpuOps::linear(Tensor x, const Weight& w, std::span<const float> bias, Tensor y) {
  cpu::linear(isa_, team_, matmulWorkspace_, x, w, bias, y);
}

void CpuOps::linearAdd(Tensor x, const Weight& w, std::span<const float> bias, Tensor y) {
  cpu::linearAdd(isa_, team_, matmulWorkspace_, x, w, bias, y);
}

void CpuOps::linearSwiGlu(Tensor x, const Weight& gateUp, std::span<const float> bias, Tensor y) {
  cpu::linearSwiGlu(isa_, team_, matmulWorkspace_, x, gateUp, bias, y);
}

void CpuOps::appendKv(Tensor qkv, std::span<const EntryRows> entries, std::span<const KvView> views,
                      const AttentionShape& shape, const RopeTable& rope, std::span<const float> qGain,
                      std::span<const float> kGain, float eps) {
  cpu::appendKv(team_, angles_, qkv, entries, views, shape, rope, qGain, kGain, eps);
}

void CpuOps::attention(Tensor qkv, std::span<const EntryRows> entries, std::span<const KvView> views,
                       const AttentionShape& shape, Tensor out) {
  cpu::attention(isa_, team_, attentionWorkspace_, qkv, entries, views, shape, out);
}

void CpuOps::attendPartitions(Tensor qkv, std::span<const EntryRows> entries, std::span<const KvView> views,
                              std::span<const PagePartitions> partitions, const AttentionShape& shape,
                              const RopeTable& rope, Tensor out) {
  cpu::attendPartitions(isa_, team_, attentionWorkspace_, qkv, entries, views, partitions, shape, rope, out);
}

void CpuOps::probe(Tensor qkv, std::span<const EntryRows> entries, std::span<const KvView> views,
                   const AttentionShape& shape, std::span<const std::span<std::uint32_t>> saliency) {
  cpu::probe(isa_, team_, attentionWorkspace_, qkv, entries, views, shape, saliency);
}

void CpuOps::requantize(std::span<const PageConversion> conversions) {
  cpu::requantize(isa_, team_, conversions);
}

void CpuOps::gatherRows(Tensor x, std::span<const std::int64_t> rows, Tensor out) {
  check(out.rows >= static_cast<std::int64_t>(rows.size()) && out.cols == x.cols,
        "gatherRows: out does not fit");
  for (std::size_t i = 0; i < rows.size(); ++i) {
    check(rows[i] >= 0 && rows[i] < x.rows, "gatherRows: a row lies outside the activations");
    std::ranges::copy(rowOf(x, rows[i]), rowOf(out, static_cast<std::int64_t>(i)).begin());
  }
}

template <class Body>
void CpuOps::eachRow(std::int64_t rows, Body&& body) {
  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(rows));
  team_.forEach(rows, [&](std::int64_t row, int thread) {
    try {
      body(row, samplers_[thread]);
    } catch (...) {
      errors[row] = std::current_exception();
    }
  });
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

void CpuOps::sample(Tensor logits, std::span<const SampleRequest> requests,
                    std::span<SampleOutcome> outcomes) {
  check(static_cast<std::int64_t>(requests.size()) <= logits.rows && requests.size() == outcomes.size(),
        "sample: one row of logits and one outcome per request expected");
  eachRow(static_cast<std::int64_t>(requests.size()), [&](std::int64_t row, Sampler& sampler) {
    outcomes[row] = sampler.sample(rowOf(logits, row), requests[row]);
  });
}

void CpuOps::logprobs(Tensor logits, std::span<const std::int32_t> targets, int k,
                      std::span<SampleOutcome> outcomes) {
  check(static_cast<std::int64_t>(targets.size()) <= logits.rows && targets.size() == outcomes.size(),
        "logprobs: one row of logits and one outcome per target expected");
  eachRow(static_cast<std::int64_t>(targets.size()), [&](std::int64_t row, Sampler& sampler) {
    outcomes[row] = sampler.logprobs(rowOf(logits, row), targets[row], k);
  });
}

void CpuOps::readRow(Tensor x, std::int64_t row, std::span<float> out) {
  check(row >= 0 && row < x.rows && static_cast<std::int64_t>(out.size()) == x.cols,
        "readRow: the row or the output does not fit");
  std::ranges::copy(rowOf(x, row), out.begin());
}

void CpuOps::writeRows(Tensor x, std::int64_t row, std::span<const float> values) {
  checkWritten(x, row, values);
  std::copy(values.begin(), values.end(), x.floats() + row * x.cols);
}

StepSeconds CpuOps::finish() {
  timer_.lap(OperatorClass::other);
  return timer_.seconds();
}

}  // namespace tandem::cpu
