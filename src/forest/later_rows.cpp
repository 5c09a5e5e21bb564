#include "forest/later_rows.h"

namespace retort {

LaterRows later_rows(const Forest& forest) {
  LaterRows later;
  std::vector<int32_t> place(forest.tokens.size(), -1);  // of a row among the later ones
  std::vector<int32_t> copies;                           // of each segment; -1: nothing is left of it
  for (const auto& segment : forest.segments) {
    const bool first = segment.parent < 0;  // of a text
    const auto begin = segment.begin + (first ? 1 : 0);
    copies.push_back(-1);
    if (begin == segment.end) continue;
    auto row_before = first ? segment.begin : forest.segments[static_cast<size_t>(segment.parent)].end - 1;
    for (auto row = begin; row < segment.end; ++row) {
      place[static_cast<size_t>(row)] = static_cast<int32_t>(later.before.size());
      later.before.push_back(row_before);
      row_before = row;
    }
    const std::vector<int32_t> tokens(forest.tokens.begin() + begin, forest.tokens.begin() + segment.end);
    // Behind a text's only token begins a text.
    const auto parent = first ? -1 : copies[static_cast<size_t>(segment.parent)];
    copies.back() = later.forest.add_segment(tokens, parent);
  }
  for (auto target : forest.targets) {
    target.row = place[static_cast<size_t>(target.row)];
    if (target.row >= 0) later.forest.targets.push_back(target);
  }
  return later;
}

}  // namespace retort
