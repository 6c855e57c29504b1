#include "kv/far-pages.h"

#include <utility>

#include "core/error.h"

namespace tandem {

FarPages::FarPages(FarMemory memory, std::size_t pageBytes)
    : memory_(std::move(memory)), pageBytes_(pageBytes), references_(memory_.bytes / pageBytes) {
  // Given out from the first on: what is never needed is never touched.
  for (auto place = static_cast<Place>(references_.size()); place-- > 0;) free_.push_back(place);
}

FarPages::Place& FarPages::placeOf(PageId outline) {
  const auto index = static_cast<std::size_t>(outline);
  if (index >= places_.size()) places_.resize(index + 1, kNone);
  return places_[index];
}

std::byte* FarPages::take(PageId outline) {
  if (free_.empty()) return nullptr;
  Place& place = placeOf(outline);
  check(place == kNone, "an outline has one place");
  place = free_.back();
  free_.pop_back();
  references_[place] = 1;
  return memory_.data.get() + static_cast<std::size_t>(place) * pageBytes_;
}

void FarPages::attach(PageId outline, Place place) {
  check(references_.at(place) > 0, "a free place cannot be shared");
  Place& held = placeOf(outline);
  check(held == kNone, "an outline has one place");
  held = place;
  ++references_[place];
}

void FarPages::move(PageId from, PageId to) {
  const Place place = std::exchange(placeOf(from), kNone);
  Place& moved = placeOf(to);
  check(place != kNone && moved == kNone, "an outline moves with its place, to one that has none");
  moved = place;
}

void FarPages::detach(PageId outline) {
  const Place place = std::exchange(placeOf(outline), kNone);
  if (place != kNone) release(place);
}

FarPages::Place FarPages::share(PageId outline) {
  const Place place = placeOf(outline);
  check(place != kNone, "an outline without a page cannot be swapped out");
  ++references_[place];
  return place;
}

void FarPages::release(Place place) {
  check(references_.at(place) > 0, "a place was released more often than it was taken");
  if (--references_[place] == 0) free_.push_back(place);
}

}  // namespace tandem
