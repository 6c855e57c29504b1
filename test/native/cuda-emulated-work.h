#pragma once

// What is enqueued on the emulated device: done at once, or, where it is busy, later (BusyDevice), or, once
// it is lost (LostDevice), never.

#include <cstdint>
#include <functional>

namespace tandem::emulation {

// Returns what there is to be waited for; 0 if the work is done. `endsStep`: see BusyDevice::doStep.
std::uint64_t enqueueWork(std::function<void()> work, bool endsStep = false);

// All that was enqueued so far, to be waited for.
std::uint64_t enqueuedWork();
// Blocks until so much is done, or the device is lost.
void awaitWork(std::uint64_t enqueued);

// A lost device does nothing any more, of what waits either: the memory of that may be gone.
bool isLost();
void setLost(bool lost);

}  // namespace tandem::emulation
