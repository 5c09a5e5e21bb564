#include "forest/forest.h"

#include <stdexcept>

namespace retort {

int32_t Forest::add_segment(const std::vector<int32_t>& segment_tokens, int32_t parent) {
  if (segment_tokens.empty()) throw std::logic_error("a segment has at least one token");
  if (parent >= static_cast<int32_t>(segments.size()))
    throw std::logic_error("a segment's parent comes before it");
  const auto begin = static_cast<int32_t>(tokens.size());
  const auto length = static_cast<int32_t>(segment_tokens.size());
  const int32_t depth =
      parent < 0 ? 0 : segments[parent].depth + segments[parent].end - segments[parent].begin;
  segments.push_back({begin, begin + length, parent, depth});
  tokens.insert(tokens.end(), segment_tokens.begin(), segment_tokens.end());
  for (int32_t i = 0; i < length; ++i) positions.push_back(depth + i);
  return static_cast<int32_t>(segments.size()) - 1;
}

AskedRows asked_rows(const Forest& forest) {
  std::vector<int32_t> place(forest.tokens.size(), -1);
  for (const auto& target : forest.targets) place.at(static_cast<size_t>(target.row)) = 0;
  AskedRows asked;
  for (size_t row = 0; row < place.size(); ++row)
    if (place[row] == 0) {
      place[row] = static_cast<int32_t>(asked.rows.size());
      asked.rows.push_back(static_cast<int32_t>(row));
    }
  asked.targets = forest.targets;
  for (auto& target : asked.targets) target.row = place[static_cast<size_t>(target.row)];
  return asked;
}

std::vector<AttendBlock> attend_blocks(const Forest& forest) {
  std::vector<AttendBlock> blocks;
  blocks.reserve(forest.segments.size());
  for (const auto& segment : forest.segments) {
    AttendBlock block{segment.begin, segment.end, {}};
    if (segment.parent >= 0) block.keys = blocks[segment.parent].keys;
    if (!block.keys.empty() && block.keys.back().end == segment.begin) block.keys.back().end = segment.end;
    else block.keys.push_back({segment.begin, segment.end});
    blocks.push_back(std::move(block));
  }
  return blocks;
}

int64_t attend_pairs(const Forest& forest) {
  int64_t pairs = 0;
  for (const auto& segment : forest.segments) {
    const int64_t length = segment.end - segment.begin;
    pairs += length * segment.depth + length * (length + 1) / 2;
  }
  return pairs;
}

void check_forest(const Forest& forest) {
  if (forest.positions.size() != forest.tokens.size()) throw std::logic_error("forest: one position a token");
  int32_t row = 0;
  for (size_t i = 0; i < forest.segments.size(); ++i) {
    const auto& segment = forest.segments[i];
    if (segment.begin != row || segment.end <= segment.begin)
      throw std::logic_error("forest: segments tile the rows in order");
    if (segment.parent >= static_cast<int32_t>(i))
      throw std::logic_error("forest: parents come before children");
    const int32_t depth = segment.parent < 0
                              ? 0
                              : forest.segments[segment.parent].depth + forest.segments[segment.parent].end -
                                    forest.segments[segment.parent].begin;
    if (segment.depth != depth) throw std::logic_error("forest: depth continues the parent");
    for (int32_t r = segment.begin; r < segment.end; ++r)
      if (forest.positions[r] != depth + r - segment.begin)
        throw std::logic_error("forest: position is depth");
    row = segment.end;
  }
  if (row != forest.size()) throw std::logic_error("forest: segments cover all rows");
  for (const auto& target : forest.targets)
    if (target.row < 0 || target.row >= row) throw std::logic_error("forest: targets point at rows");
}

}  // namespace retort
