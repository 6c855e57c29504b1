#include "kv/copy-thread.h"

#include <cstring>
#include <utility>

namespace tandem {

void PageCopies::run() const {
  std::byte* at = host->data();
  for (const std::span<std::byte> page : pages) {
    if (page.empty()) continue;  // given up
    std::memcpy(toHost ? at : page.data(), toHost ? page.data() : at, page.size());
    at += page.size();
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
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return closing_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job.work();
    // From `done` on, the planning thread decides about the memory that the work held.
    job.work = nullptr;
    if (job.done) job.done();
  }
}

}  // namespace tandem
