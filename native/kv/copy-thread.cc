#include "kv/copy-thread.h"

#include <cstring>
#include <utility>

namespace tandem {

void PageCopies::run() const {
  std::byte* at = host->data();
  for (std::byte* page : pages) {
    std::memcpy(toHost ? at : page, toHost ? page : at, pageBytes);
    at += pageBytes;
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

void CopyThread::post(PageCopies copies, std::function<void()> done) {
  add({std::move(copies), std::move(done)});
}

void CopyThread::retire(std::shared_ptr<HostMemory> memory) {
  if (memory) add({{{}, 0, std::move(memory)}, {}});
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
    job.copies.run();
    // From `done` on, the planning thread decides about the memory.
    job.copies.host.reset();
    if (job.done) job.done();
  }
}

}  // namespace tandem
