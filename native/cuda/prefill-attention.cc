#include "cuda/prefill-attention.h"

#include "core/error.h"
#include "cuda/prefill-kernels.h"
#include "cuda/rows-map.h"

namespace tandem::cuda {

int prefillTileTokens(int heads, int kvHeads) { return kPrefillRows / (heads / kvHeads); }

void prefillAttention(const PrefillAttention& problem, Stream stream) {
  const PageFormat& format = problem.tables.format;
  check(!isPacked(format.precision), "prefillAttention: pages are appended in bf16 or int8");
  check(format.kvHeads > 0 && problem.heads > 0 && problem.heads % format.kvHeads == 0,
        "prefillAttention: heads must be a multiple of kvHeads");
  check(problem.heads / format.kvHeads <= 16,
        "prefillAttention supports up to 16 query heads for each KV head");
  if (problem.tileCount == 0) return;
  static const bool wgmma = hasWgmma();
  wgmma ? prefillByWgmma(problem, stream) : prefillByMma(problem, stream);
}

}  // namespace tandem::cuda
