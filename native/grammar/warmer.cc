#include "grammar/warmer.h"

#include <utility>

#include "core/background.h"

namespace tandem {

GrammarWarmer::GrammarWarmer() : thread_([this] { work(); }) {}

GrammarWarmer::~GrammarWarmer() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void GrammarWarmer::post(std::weak_ptr<Grammar> grammar) {
  {
    const std::lock_guard lock(mutex_);
    grammars_.push_back(std::move(grammar));
  }
  changed_.notify_one();
}

void GrammarWarmer::work() {
  runInBackground();
  for (;;) {
    std::weak_ptr<Grammar> next;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return closing_ || !grammars_.empty(); });
      if (closing_) return;
      next = std::move(grammars_.front());
      grammars_.pop_front();
    }
    if (const std::shared_ptr<Grammar> grammar = next.lock()) grammar->warm(closing_);
  }
}

}  // namespace tandem
