#include "vision/encoder-threads.h"

#include <utility>

#include "core/background.h"
#include "core/error.h"

namespace tandem::vision {
namespace {

// Beside lanes on all cores 5 slowed tokens by half, and with 15 no tile was done in seconds: docs/models.md.
constexpr int kNice = 10;

std::exception_ptr closed() {
  return std::make_exception_ptr(Error("the vision encoder was closed before the image was done"));
}

}  // namespace

EncoderThreads::EncoderThreads(const EncoderOptions& options) : encoder_(options) {
  check(options.threads > 0, "images need a thread that encodes them");
  for (int i = 0; i < options.threads; ++i)
    workspaces_.push_back(std::make_unique<Encoder::Workspace>(encoder_));
  for (const auto& each : workspaces_) {
    threads_.emplace_back([this, workspace = each.get()] { work(*workspace); });
  }
}

EncoderThreads::~EncoderThreads() {
  std::deque<std::shared_ptr<Image>> left;
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    left.swap(images_);
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  for (const auto& image : left) image->done({}, closed());
}

void EncoderThreads::post(std::span<const float> pixels, std::int64_t tiles, Done done) {
  const Spec& spec = encoder_.spec();
  if (tiles < 1 || static_cast<std::int64_t>(pixels.size()) != tiles * spec.tileValues()) {
    throw Error("an image of " + std::to_string(tiles) + " tiles has " + std::to_string(pixels.size()) +
                " values; each has 3 x " + std::to_string(spec.imageSize) + " x " +
                std::to_string(spec.imageSize));
  }
  auto image = std::make_shared<Image>();
  image->pixels = pixels;
  image->tiles = tiles;
  image->rows.resize(static_cast<std::size_t>(tiles * spec.tokensPerTile() * spec.decoderHidden));
  image->done = std::move(done);
  {
    const std::lock_guard lock(mutex_);
    images_.push_back(std::move(image));
  }
  changed_.notify_all();
}

void EncoderThreads::work(Encoder::Workspace& workspace) {
  lowerPriority(kNice);
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return closing_ || !images_.empty(); });
    if (closing_) return;
    const std::shared_ptr<Image> image = images_.front();
    const std::int64_t tile = image->begun++;
    if (image->begun == image->tiles) images_.pop_front();
    lock.unlock();
    std::exception_ptr error;
    try {
      if (!encode(*image, tile, workspace)) error = closed();
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    if (error) image->error = error;
    if (++image->ended < image->tiles) continue;
    lock.unlock();
    image->done(image->error ? std::vector<float>{} : std::move(image->rows), image->error);
    lock.lock();
  }
}

bool EncoderThreads::encode(Image& image, std::int64_t tile, Encoder::Workspace& work) const {
  const auto values = static_cast<std::size_t>(encoder_.spec().tileValues());
  const std::size_t rows = image.rows.size() / static_cast<std::size_t>(image.tiles);
  const auto at = static_cast<std::size_t>(tile);
  return encoder_.encode(image.pixels.subspan(at * values, values), work,
                         std::span(image.rows).subspan(at * rows, rows), closing_);
}

}  // namespace tandem::vision
