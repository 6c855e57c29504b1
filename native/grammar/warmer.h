#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "grammar/grammar.h"

namespace tandem {

// A thread that finds ahead of time what the states of new grammars allow, so that a step rarely has to: with
// a hundred thousand tokens a state within a text takes a millisecond. It has less right to the processor
// than the lanes.
class GrammarWarmer {
 public:
  GrammarWarmer();
  ~GrammarWarmer();  // leaves what is not done
  GrammarWarmer(const GrammarWarmer&) = delete;
  GrammarWarmer& operator=(const GrammarWarmer&) = delete;

  // Grammars that nobody holds any more are passed over.
  void post(std::weak_ptr<Grammar> grammar);

 private:
  void work();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::weak_ptr<Grammar>> grammars_;
  std::atomic<bool> closing_{false};
  std::thread thread_;  // last, since it uses the others
};

}  // namespace tandem
