#include "generate/growing_forest.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "base/profile.h"
#include "ops/team.h"
#include "schedule/chains.h"

namespace retort {
namespace {

Tensor as_indices(const std::vector<int32_t>& values) {
  return at::tensor(values, at::TensorOptions().dtype(at::kInt)).to(at::kLong);
}

// Rows [from, to) of a forest as a pass of their own: the blocks that touch them, with queries counted from
// `from`. Keys stay rows of the forest, which are the cache's rows less `offset`.
std::vector<AttendBlock> blocks_between(const std::vector<AttendBlock>& blocks, int32_t from, int32_t to,
                                        int32_t offset) {
  std::vector<AttendBlock> cut;
  for (const auto& block : blocks) {
    const auto begin = std::max(block.q_begin, from), end = std::min(block.q_end, to);
    if (begin >= end) continue;
    AttendBlock part{begin - from, end - from, block.keys};
    part.keys.back().end -= block.q_end - end;  // the last rows of the last range are the block's own
    for (auto& range : part.keys) range = {range.begin + offset, range.end + offset};
    cut.push_back(std::move(part));
  }
  return cut;
}

// The segments from the root to `row`, as ranges of rows; adjacent ones merged.
std::vector<KeyRange> path_to(const Forest& forest, int32_t row) {
  int32_t segment = 0;
  while (forest.segments[segment].end <= row) ++segment;
  std::vector<KeyRange> path = {{forest.segments[segment].begin, row + 1}};
  for (auto up = forest.segments[segment].parent; up >= 0; up = forest.segments[up].parent) {
    const auto& part = forest.segments[up];
    if (part.end == path.front().begin) path.front().begin = part.begin;
    else path.insert(path.begin(), {part.begin, part.end});
  }
  return path;
}

// A forest whose targets are the last token of each prompt, in no particular order.
Forest prompt_forest(const std::vector<std::vector<int32_t>>& prompts) {
  std::vector<Sample> samples;
  for (const auto& prompt : prompts) {
    if (prompt.empty()) throw std::logic_error("a prompt has at least one token");
    Sample sample{prompt, std::vector<float>(prompt.size() + 1, 0.0f), {}};
    sample.tokens.push_back(0);  // stands for the token to come: it is never a row
    sample.weights.back() = 1;
    samples.push_back(std::move(sample));
  }
  auto forests = build_forests(samples, std::numeric_limits<int32_t>::max());
  if (forests.size() != 1) throw std::logic_error("the prompts of a batch have more than 2^31 tokens");
  return std::move(forests.front());
}

}  // namespace

GrowingForest::GrowingForest(const Model& model, at::ScalarType compute, KvType kv)
    : model_(model), compute_(compute), kv_(kv) {}

void GrowingForest::reserve(int64_t rows) {
  if (rows <= capacity_) return;
  capacity_ = std::max(rows, capacity_ + capacity_ / 2);
  cache_ =
      larger_cache(cache_, rows_, capacity_, {cache_shape(model_.config), kv_, compute_, model_.device()});
}

Pass GrowingForest::pass_over(std::vector<int32_t> tokens, std::vector<int32_t> positions) const {
  Pass pass;
  pass.tokens = as_indices(tokens).to(model_.device());
  pass.positions = as_indices(positions);
  pass.compute = compute_;
  return pass;
}

std::vector<KeyRange> GrowingForest::keys_of(const Text& text, int32_t end) const {
  auto keys = text.path;
  if (!keys.empty() && keys.back().end == text.begin) keys.back().end = end;
  else keys.push_back({text.begin, end});
  return keys;
}

// Moves what texts still need to the front, where that frees half of the rows.
void GrowingForest::give_up_rows() {
  std::vector<KeyRange> needed;
  for (const auto& text : texts_) {
    if (text.left) continue;
    needed.insert(needed.end(), text.path.begin(), text.path.end());
    if (text.begin < text.limit) needed.push_back({text.begin, text.limit});
  }
  std::sort(needed.begin(), needed.end(),
            [](const KeyRange& a, const KeyRange& b) { return a.begin < b.begin; });
  std::vector<KeyRange> kept;  // disjoint
  for (const auto& range : needed) {
    if (!kept.empty() && range.begin <= kept.back().end)
      kept.back().end = std::max(kept.back().end, range.end);
    else kept.push_back(range);
  }
  int64_t rows = 0;
  for (const auto& range : kept) rows += range.end - range.begin;
  if (2 * rows > rows_) return;
  std::vector<int32_t> first;  // where each of them goes
  auto free = int32_t{0};
  for (const auto& range : kept) first.push_back(free), free += range.end - range.begin;
  const auto moved = [&](int32_t row) {
    const auto at =
        std::upper_bound(kept.begin(), kept.end(), row,
                         [](int32_t value, const KeyRange& range) { return value < range.begin; }) -
        kept.begin() - 1;
    return first[static_cast<size_t>(at)] + row - kept[static_cast<size_t>(at)].begin;
  };
  for (auto* side : cache_.sides())
    for (auto& stored : *side)
      for (size_t i = 0; i < kept.size(); ++i) {  // downwards, in order; a range may overlap where it goes
        const auto count = kept[i].end - kept[i].begin;
        if (first[i] != kept[i].begin)
          stored.narrow(0, first[i], count).copy_(stored.narrow(0, kept[i].begin, count).clone());
      }
  for (auto& text : texts_) {
    if (text.left) {
      text.path.clear();
      continue;
    }
    for (auto& range : text.path) range = {moved(range.begin), moved(range.end - 1) + 1};
    const auto begin = text.begin < text.limit ? moved(text.begin) : free;
    text.end = begin + text.end - text.begin, text.limit = begin + text.limit - text.begin,
    text.begin = begin;
  }
  rows_ = rows;
}

Tensor Feed::last_hidden(const std::vector<Tensor>& of_passes) const {
  if (last.empty()) return {};
  const auto& any = of_passes.at(last[0].pass);
  bool all = any.size(0) == static_cast<int64_t>(last.size());  // of one pass, in its order: of a step
  for (size_t i = 0; i < last.size(); ++i)
    all = all && last[i].pass == last[0].pass && last[i].row == static_cast<int64_t>(i);
  if (all) return any;
  auto rows = at::empty({static_cast<int64_t>(last.size()), any.size(1)}, any.options());
  for (size_t i = 0; i < last.size(); ++i)
    rows[static_cast<int64_t>(i)].copy_(of_passes.at(last[i].pass)[last[i].row]);
  return rows;
}

Tensor GrowingForest::computed(const Feed& feed) const {
  if (model_.stream()) {
    const auto of_chains = hidden_of_chains(model_, {Chain(feed.passes)}, {1, team_size()}, "generating");
    return feed.last_hidden(of_chains[0]);
  }
  std::vector<Tensor> hidden;
  for (const auto& pass : feed.passes) hidden.push_back(model_.hidden(pass));
  return feed.last_hidden(hidden);
}

Tensor GrowingForest::enter(const std::vector<std::vector<int32_t>>& prompts, int64_t new_rows,
                            int64_t chunk_rows, int32_t beside, int64_t shared) {
  const Span span({"between operations", "prompts"});
  return computed(feed_prompts(prompts, new_rows, chunk_rows, beside, shared));
}

Tensor GrowingForest::step(std::span<const int32_t> texts, std::span<const int32_t> tokens) {
  const Span span({"between operations", "decoding"});
  return computed(feed_step(texts, tokens));
}

Tensor GrowingForest::extend(int32_t text, std::span<const int32_t> tokens, int64_t chunk_rows) {
  const Span span({"between operations", "decoding"});
  return computed(feed_text(text, tokens, chunk_rows));
}

Feed GrowingForest::feed_prompts(const std::vector<std::vector<int32_t>>& prompts, int64_t new_rows,
                                 int64_t chunk_rows, int32_t beside, int64_t shared) {
  give_up_rows();
  std::vector<KeyRange> above;  // cache rows of what is shared with `beside`
  for (int64_t left = shared;
       const auto& range : beside < 0 ? std::vector<KeyRange>() : texts_[beside].path) {
    const auto some = static_cast<int32_t>(std::min<int64_t>(left, range.end - range.begin));
    if (some > 0) above.push_back({range.begin, range.begin + some});
    left -= some;
  }
  std::vector<std::vector<int32_t>> rest;
  for (const auto& prompt : prompts) rest.emplace_back(prompt.begin() + shared, prompt.end());
  const auto forest = prompt_forest(rest);
  const auto count = static_cast<int64_t>(prompts.size());
  const auto needed = forest.size() + count * new_rows;
  if (rows_ + needed > std::numeric_limits<int32_t>::max())
    throw std::logic_error("a KV cache has at most 2^31 rows");
  const auto offset = static_cast<int32_t>(rows_);
  const auto first = texts_.size();
  reserve(rows_ + needed);
  rows_ += needed;

  texts_.resize(first + prompts.size());
  std::vector<int32_t> last_row(prompts.size());
  for (const auto& target : forest.targets) last_row[target.sample] = target.row;
  auto free = offset + static_cast<int32_t>(forest.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    auto& text = texts_[first + i];
    text.path = path_to(forest, last_row[i]);
    for (auto& range : text.path) range = {range.begin + offset, range.end + offset};
    text.path.insert(text.path.begin(), above.begin(), above.end());
    text.shared = static_cast<int64_t>(prompts[i].size());
    text.begin = text.end = free;
    text.limit = free += static_cast<int32_t>(new_rows);
  }

  const auto blocks = attend_blocks(forest);
  Feed feed;
  feed.last.resize(prompts.size());
  for (int32_t from = 0; from < forest.size(); from += static_cast<int32_t>(chunk_rows)) {
    const auto to = static_cast<int32_t>(std::min<int64_t>(forest.size(), from + chunk_rows));
    auto pass = pass_over({forest.tokens.begin() + from, forest.tokens.begin() + to},
                          {forest.positions.begin() + from, forest.positions.begin() + to});
    pass.positions.add_(shared);
    pass.blocks = blocks_between(blocks, from, to, offset);
    for (auto& block : pass.blocks) block.keys.insert(block.keys.begin(), above.begin(), above.end());
    for (int32_t row = from; row < to; ++row) pass.cache_rows.push_back(offset + row);
    pass.cache = &cache_;
    std::vector<int32_t> asked;
    for (const auto row : last_row)
      if (row >= from && row < to) asked.push_back(row - from);
    std::sort(asked.begin(), asked.end());
    asked.erase(std::unique(asked.begin(), asked.end()), asked.end());  // equal prompts end in one row
    const bool some = ask_for(pass, asked);
    for (size_t i = 0; i < prompts.size(); ++i) {
      if (last_row[i] < from || last_row[i] >= to) continue;
      const auto row = last_row[i] - from;
      feed.last[i] = {feed.passes.size(),
                      some ? std::lower_bound(asked.begin(), asked.end(), row) - asked.begin() : row};
    }
    feed.passes.push_back(std::move(pass));
  }
  return feed;
}

Feed GrowingForest::feed_step(std::span<const int32_t> texts, std::span<const int32_t> tokens) {
  Feed feed;
  std::vector<int32_t> positions;
  std::vector<AttendBlock> blocks;
  std::vector<int32_t> cache_rows;
  for (size_t i = 0; i < texts.size(); ++i) {
    auto& text = texts_[texts[i]];
    if (text.end >= text.limit) throw std::logic_error("a text outgrew its cache rows");
    positions.push_back(static_cast<int32_t>(length(texts[i])));
    cache_rows.push_back(text.end++);
    blocks.push_back({static_cast<int32_t>(i), static_cast<int32_t>(i) + 1, keys_of(text, text.end)});
    feed.last.push_back({0, static_cast<int64_t>(i)});
  }
  auto pass = pass_over({tokens.begin(), tokens.end()}, std::move(positions));
  pass.blocks = std::move(blocks);
  pass.cache_rows = std::move(cache_rows);
  pass.cache = &cache_;
  feed.passes.push_back(std::move(pass));
  return feed;
}

Feed GrowingForest::feed_text(int32_t index, std::span<const int32_t> tokens, int64_t chunk_rows) {
  auto& text = texts_[index];
  if (tokens.empty()) throw std::logic_error("nothing to append");
  const auto missing = text.end + static_cast<int64_t>(tokens.size()) - text.limit;
  if (missing > 0) {  // the text at the end of the cache may grow beyond what it was given
    if (text.limit != rows_) throw std::logic_error("a text outgrew its cache rows");
    reserve(rows_ + missing);
    rows_ += missing;
    text.limit = static_cast<int32_t>(rows_);
  }
  Feed feed;
  for (size_t from = 0; from < tokens.size(); from += static_cast<size_t>(chunk_rows)) {
    const auto part = tokens.subspan(from, std::min(tokens.size() - from, static_cast<size_t>(chunk_rows)));
    std::vector<int32_t> positions, cache_rows;
    for (size_t i = 0; i < part.size(); ++i) {
      positions.push_back(static_cast<int32_t>(length(index)));
      cache_rows.push_back(text.end++);
    }
    auto pass = pass_over({part.begin(), part.end()}, std::move(positions));
    pass.blocks = {{0, static_cast<int32_t>(part.size()), keys_of(text, text.end)}};
    pass.cache_rows = std::move(cache_rows);
    pass.cache = &cache_;
    const bool last = from + part.size() == tokens.size();
    const auto end = static_cast<int32_t>(part.size()) - 1;
    const bool some = ask_for(pass, last ? std::vector<int32_t>{end} : std::vector<int32_t>());
    if (last) feed.last.push_back({feed.passes.size(), some ? 0 : end});
    feed.passes.push_back(std::move(pass));
  }
  return feed;
}

void GrowingForest::cut(int32_t index, int64_t new_length) {
  auto& text = texts_[index];
  if (new_length < text.shared || new_length > length(index))
    throw std::logic_error("only tokens of a text's own can be forgotten");
  text.end = text.begin + static_cast<int32_t>(new_length - text.shared);
}

}  // namespace retort
