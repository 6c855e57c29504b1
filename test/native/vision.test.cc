#include <atomic>
#include <cmath>
#include <cstring>
#include <future>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "tiny-tower.h"
#include "vision/encoder-threads.h"
#include "vision/gelu.h"
#include "vision/layer-norm.h"

using namespace tandem;
using namespace tandem::test;

namespace {

// Sizes that fill no vector of a processor, and a tile with pixels beside its last patch.
vision::Spec unevenTower() {
  vision::Spec spec;
  spec.imageSize = 26;
  spec.patchSize = 4;
  spec.patchesPerSide = 6;
  spec.hidden = 36;
  spec.layers = 2;
  spec.heads = 3;
  spec.ffn = 50;
  spec.scaleFactor = 3;
  spec.decoderHidden = 20;
  return spec;
}

std::vector<float> encode(const vision::Encoder& encoder, const std::vector<float>& pixels) {
  vision::Encoder::Workspace work(encoder);
  std::vector<float> rows(
      static_cast<std::size_t>(encoder.spec().tokensPerTile() * encoder.spec().decoderHidden));
  const std::atomic<bool> stop{false};
  isTrue(encoder.encode(pixels, work, rows, stop), "the tile is done");
  return rows;
}

std::future<std::vector<float>> post(vision::EncoderThreads& threads, const std::vector<float>& pixels,
                                     std::int64_t tiles) {
  const auto promise = std::make_shared<std::promise<std::vector<float>>>();
  threads.post(pixels, tiles, [promise](std::vector<float> rows, std::exception_ptr error) {
    if (error) {
      promise->set_exception(error);
    } else {
      promise->set_value(std::move(rows));
    }
  });
  return promise->get_future();
}

}  // namespace

TEST("vision: rows of a tile equal a float64 tower, on every instruction set") {
  vision::Spec one = unevenTower();
  one.scaleFactor = 1;
  one.imageSize = 24;
  one.heads = 1;
  for (const vision::Spec& spec : {unevenTower(), one}) {
    const TinyTower tower(spec, 21);
    const std::vector<float> pixels = tower.tile(1);
    const std::vector<double> expected = tower.encode(pixels);
    for (const Isa isa : availableIsas()) {
      vision::EncoderOptions options = tower.options();
      options.isa = isa;
      const std::vector<float> rows = encode(vision::Encoder(options), pixels);
      test::equal(rows.size(), expected.size(), "values");
      double error = 0, size = 0;
      for (std::size_t i = 0; i < rows.size(); ++i) {
        error += std::pow(rows[i] - expected[i], 2);
        size += std::pow(expected[i], 2);
      }
      const double relative = std::sqrt(error / size);
      isTrue(relative < 0.02, std::string(isaName(isa)) + ": relative rms error " + std::to_string(relative));
    }
  }
}

TEST("vision: a tile's bits depend on its own pixels alone, not on threads or on other tiles") {
  const TinyTower tower(unevenTower(), 22);
  const std::vector<float> first = tower.tile(2), second = tower.tile(3);
  const std::vector<float> expected = encode(vision::Encoder(tower.options()), second);
  std::vector<float> image;
  for (const auto* tile : {&second, &first, &second, &first, &second}) {
    image.insert(image.end(), tile->begin(), tile->end());
  }
  for (const int count : {1, 3}) {
    vision::EncoderOptions options = tower.options();
    options.threads = count;
    vision::EncoderThreads threads(options);
    auto all = post(threads, image, 5), alone = post(threads, second, 1);
    const std::vector<float> rows = all.get();
    test::equal(rows.size(), 5 * expected.size(), "values");
    for (const std::size_t tile : {0, 2, 4}) {
      isTrue(std::memcmp(rows.data() + tile * expected.size(), expected.data(),
                         expected.size() * sizeof(float)) == 0,
             "tile " + std::to_string(tile) + " on " + std::to_string(count) + " threads");
    }
    isTrue(alone.get() == expected, "alone");
  }
}

TEST("vision: an encoder that is closed gives up what is not done, and says so of each image") {
  const TinyTower tower(unevenTower(), 23);
  const std::vector<float> tile = tower.tile(4);
  std::vector<float> image;
  for (int i = 0; i < 40; ++i) image.insert(image.end(), tile.begin(), tile.end());
  std::vector<std::future<std::vector<float>>> results;
  {
    vision::EncoderOptions options = tower.options();
    options.threads = 2;
    vision::EncoderThreads threads(options);
    for (int i = 0; i < 8; ++i) results.push_back(post(threads, image, 40));
  }
  for (auto& result : results) {
    try {
      test::equal(result.get().size(), std::size_t{40 * 4 * 20}, "values of an image that was finished");
    } catch (const Error& error) {
      test::equal(std::string(error.what()),
                  std::string("the vision encoder was closed before the image was done"), "error");
    }
  }
}

TEST("vision: tensors and tiles that do not fit the description are refused") {
  const TinyTower tower(unevenTower(), 24);
  vision::EncoderOptions options = tower.options();
  options.spec.decoderHidden = 24;
  test::throws([&] { vision::Encoder{options}; }, "proj.weight has shape [20, 324], expected [24, 324]");
  options = tower.options();
  options.tensors[3].name = "other";
  test::throws([&] { vision::Encoder{options}; }, "the checkpoint has no tensor");
  options = tower.options();
  options.spec.heads = 5;
  test::throws([&] { vision::Encoder{options}; }, "hidden is not a multiple of its heads");
  vision::EncoderThreads threads(tower.options());
  const std::vector<float> tile = tower.tile(5);
  test::throws([&] { post(threads, tile, 2); }, "an image of 2 tiles has 2028 values; each has 3 x 26 x 26");
}

TEST("vision: GELU is that by tanh, at every size of its argument") {
  std::vector<float> x;
  for (int i = -200; i <= 200; ++i) x.push_back(static_cast<float>(i) / 16);
  for (const float far : {-1e6f, -300.0f, 300.0f, 1e6f, 1e-30f, -1e-30f}) x.push_back(far);
  for (const Isa isa : availableIsas()) {
    std::vector<float> y = x;
    vision::Gelu(isa).run(y);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double v = x[i];
      const double u = std::sqrt(2 / 3.14159265358979323846) * (v + 0.044715 * v * v * v);
      test::near(y[i], v * (1 + std::tanh(u)) / 2, 1e-6 * std::max(1.0, std::abs(v)),
                 std::string(isaName(isa)) + ": GELU of " + std::to_string(x[i]));
    }
  }
}

TEST("vision: a layer norm takes the mean away, whatever it is, and may work in place") {
  constexpr std::size_t kCount = 77;
  std::vector<float> x(kCount), gain(kCount), bias(kCount);
  for (std::size_t i = 0; i < kCount; ++i) {
    x[i] = 1000 + static_cast<float>(i * 37 % 19);
    gain[i] = 1 + static_cast<float>(i) / 64;
    bias[i] = static_cast<float>(i % 5) - 2;
  }
  double mean = 0, variance = 0;
  for (const float value : x) mean += value / static_cast<double>(kCount);
  for (const float value : x) variance += std::pow(value - mean, 2) / static_cast<double>(kCount);
  std::vector<float> y = x;
  vision::layerNormRow(y, gain, bias, 1e-6f, y.data());
  for (std::size_t i = 0; i < kCount; ++i) {
    test::near(y[i], (x[i] - mean) / std::sqrt(variance + 1e-6) * gain[i] + bias[i], 1e-4, "value");
  }
}
