#pragma once

namespace tandem {

// From now on, when the calling thread has something to do, it gets its core at once from whoever of its own
// priority has it, as long as it has had no more than its share of it. By default the one who has the core
// keeps it for a slice of milliseconds, several steps of a small model. The thread asks for slices of a tenth
// of a millisecond in return. Where the system does not divide the processor by such wishes (Linux does from
// 6.12 on), nothing changes.
void runInForeground();

}  // namespace tandem
