#pragma once

namespace tandem {

// From now on the calling thread runs only where a core would be idle, next to: a step waits for the slowest
// of its threads, so whoever takes one of their cores for a moment holds up all of them. Where the system has
// no such priority, or does not allow it, nothing changes.
void runInBackground();

// From now on the calling thread gets less of a core that others want too than they do, by the nice value (1
// to 19) of Linux: with 10 about a tenth. Elsewhere nothing changes.
void lowerPriority(int nice);

}  // namespace tandem
