#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "vision/encoder.h"

namespace tandem::vision {

// Threads that encode images, tile by tile, beside a device's lanes. An image is seconds of work, and a step
// waits for the slowest of its threads; so these have less of a core than a lane that wants it too, and more
// than nothing, since someone waits for the image.
class EncoderThreads {
 public:
  // `options.threads` of them.
  explicit EncoderThreads(const EncoderOptions& options);
  // Gives up what is not done: its `done` is called with an Error. Waits for a layer at most.
  ~EncoderThreads();
  EncoderThreads(const EncoderThreads&) = delete;
  EncoderThreads& operator=(const EncoderThreads&) = delete;

  const Encoder& encoder() const { return encoder_; }
  int count() const { return static_cast<int>(threads_.size()); }

  // Runs once, on one of the threads or the one that ends this, with [tiles * tokensPerTile, decoderHidden].
  using Done = std::function<void(std::vector<float> rows, std::exception_ptr error)>;

  // pixels [tiles, channels, imageSize, imageSize], there until `done`. Images are encoded in the order in
  // which they come.
  void post(std::span<const float> pixels, std::int64_t tiles, Done done);

 private:
  struct Image {
    std::span<const float> pixels;
    std::vector<float> rows;
    std::int64_t tiles = 0;
    std::int64_t begun = 0, ended = 0;
    std::exception_ptr error;
    Done done;
  };

  void work(Encoder::Workspace& workspace);
  bool encode(Image& image, std::int64_t tile, Encoder::Workspace& work) const;

  const Encoder encoder_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Image>> images_;  // with tiles that nobody has begun
  std::atomic<bool> closing_{false};
  std::vector<std::unique_ptr<Encoder::Workspace>> workspaces_;
  std::vector<std::thread> threads_;
};

}  // namespace tandem::vision
