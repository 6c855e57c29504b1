#pragma once

#include <cstddef>
#include <cstring>

#include "kv/page-format.h"

namespace tandem {

// Where a page's keys and values lie, and in which format: of a far page those of its int4 page, to which its
// outline leads.
struct PageContent {
  const std::byte* data = nullptr;
  PageFormat format;
};

// `page`: in memory that the host reads.
inline PageContent contentOf(const std::byte* page, const PageFormat& format) {
  if (format.precision != PrecisionClass::far) return {page, format};
  PageContent content{nullptr, format.in(elementClass(format.precision))};
  std::memcpy(&content.data, page + format.detailPlace(), sizeof content.data);
  return content;
}

}  // namespace tandem
