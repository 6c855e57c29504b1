#include "kv/copy-thread.h"

#include <utility>

namespace tandem {

void PageCopies::run(KvMemory& memory) const {
  if (toHost) {
    memory.toHost(pages, host->data());
  } else {
    memory.fromHost(host->data(), pages);
  }
}

CopyThread::CopyThread() : thread_([this] { work(); }) {}

CopyThread::~CopyThread() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void CopyThread::post(std::function<void()> work, std::function<void()> done) {
  add({std::move(work), std::move(done)});
}

void CopyThread::retire(std::shared_ptr<HostMemory> memory) {
  if (memory) add({[memory = std::move(memory)] {}, {}});
}

void CopyThread::rethrow() {
  const std::lock_guard lock(mutex_);
  if (failure_) std::rethrow_exception(failure_);
}

void CopyThread::add(Job job) {
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  changed_.notify_one();
}

void CopyThread::work() {
  for (;;) {
    Job job;
    bool failed;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return closing_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
      failed = failure_ != nullptr;
    }
    try {
      if (!failed) job.work();
    } catch (...) {
      const std::lock_guard lock(mutex_);
      failure_ = std::current_exception();
    }
    // From `done` on, the planning thread decides about the memory that the work held.
    job.work = nullptr;
    if (job.done) job.done();
  }
}

}  // namespace tandem
