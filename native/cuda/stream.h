#pragma once

// The driver's stream, named without its headers.
struct CUstream_st;

namespace tandem::cuda {

using Stream = CUstream_st*;

}  // namespace tandem::cuda
