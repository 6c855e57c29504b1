#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kv/page-pool.h"

namespace tandem {

// Of Backend::allocateFar.
struct FarMemory {
  std::shared_ptr<std::byte> data;
  std::size_t bytes = 0;
};

// Where the int4 pages lie that KV memory has only the outlines of: host memory, cut into places of one page
// each, and which outline each belongs to. A place lives as long as someone has a reference to it: its
// outline in KV memory, and copies of that which were swapped out. Running out is an answer, not an error.
//
// Not thread-safe: the thread that plans steps owns it. Lanes read page bytes only.
class FarPages {
 public:
  using Place = std::int32_t;

  FarPages(FarMemory memory, std::size_t pageBytes);

  std::size_t places() const { return references_.size(); }
  std::size_t freePlaces() const { return free_.size(); }

  // Gives an outline that has none a place of its own, and says where it lies; null if there is none left.
  std::byte* take(PageId outline);
  // The same with the place of an outline that was swapped out.
  void attach(PageId outline, Place place);
  // The bytes of an outline were moved to another, whose place it is from now on.
  void move(PageId from, PageId to);
  // The outline is no more. One that was given no place has none to give back.
  void detach(PageId outline);

  // The place of an outline, with a reference more.
  Place share(PageId outline);
  void release(Place place);

 private:
  static constexpr Place kNone = -1;
  Place& placeOf(PageId outline);

  FarMemory memory_;
  std::size_t pageBytes_;
  std::vector<std::uint32_t> references_;  // by place
  std::vector<Place> free_;                // a stack
  std::vector<Place> places_;              // by outline, of those up to the last that had one
};

}  // namespace tandem
