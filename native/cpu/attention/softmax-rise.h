#pragma once

namespace tandem::cpu {

// What the maxima of four queries become when a page (or a few) is added whose probabilities are relative to
// its own highest score `tops`: what was summed so far shrinks by `factors`, what the page adds by `locals`.
struct SoftmaxRise {
  alignas(16) float tops[4], factors[4], locals[4];
};

}  // namespace tandem::cpu
