#include "eval/common_prefix.h"

#include <algorithm>
#include <numeric>

#include "base/stop.h"

namespace retort {

int64_t common_rows(const std::vector<Sample>& samples) {
  if (samples.empty()) return 0;
  const auto& first = samples[0].tokens;
  auto rows = static_cast<int64_t>(first.size()) - 1;
  for (const auto& sample : samples) {
    const auto most = std::min(rows, static_cast<int64_t>(sample.tokens.size()) - 1);
    rows = std::mismatch(sample.tokens.begin(), sample.tokens.begin() + std::max<int64_t>(0, most),
                         first.begin())
               .first -
           sample.tokens.begin();
    for (int64_t i = 1; i <= rows; ++i)  // row i - 1 predicts token i
      if (sample.weights[static_cast<size_t>(i)] != 0) rows = i - 1;
  }
  return rows;
}

std::vector<Sample> without_first(const std::vector<Sample>& samples, int64_t rows) {
  std::vector<Sample> rest;
  for (const auto& [tokens, weights, id] : samples)
    rest.push_back({{tokens.begin() + rows, tokens.end()}, {weights.begin() + rows, weights.end()}, id});
  return rest;
}

CommonPrefix::CommonPrefix(const Subject& subject, std::span<const int32_t> tokens, int64_t most_rows)
    : subject_(subject), rows_(static_cast<int64_t>(tokens.size())), capacity_(rows_ + most_rows) {
  if (rows_ == 0) return;
  const at::NoGradGuard no_graph;
  prefix_ = copy({}, 0);
  for (int64_t from = 0; from < rows_; from += subject.row_tokens) {
    leave_if_stopped("evaluating");
    Forest part;
    part.add_segment({tokens.begin() + from, tokens.begin() + std::min(rows_, from + subject.row_tokens)});
    auto pass = make_pass(part, subject.compute, subject.model.device());
    ask_for(pass, {});  // keys and values are all
    run(pass, prefix_, from);
  }
}

KvCache CommonPrefix::copy(const KvCache& from, int64_t rows) const {
  return larger_cache(
      from, rows, capacity_,
      {cache_shape(subject_.model.config), kv_type(subject_.kv), subject_.compute, subject_.model.device()});
}

// The pass's texts continue the rows of the cache before `first_row`, from where on their own rows go.
Tensor CommonPrefix::run(Pass& pass, KvCache& cache, int64_t first_row) const {
  const auto offset = static_cast<int32_t>(first_row);
  pass.positions = pass.positions + first_row;
  for (auto& block : pass.blocks) {
    for (auto& range : block.keys) range = {range.begin + offset, range.end + offset};
    if (offset == 0) continue;
    if (block.keys[0].begin == offset) block.keys[0].begin = 0;
    else block.keys.insert(block.keys.begin(), {0, offset});
  }
  pass.cache_rows.resize(static_cast<size_t>(pass.size()));
  std::iota(pass.cache_rows.begin(), pass.cache_rows.end(), offset);
  pass.cache = &cache;
  return subject_.model.hidden(pass);
}

CommonPrefix::Continued CommonPrefix::hidden(const Forest& forest, const std::vector<int32_t>& rows) {
  auto pass = make_pass(forest, subject_.compute, subject_.model.device());
  ask_for(pass, rows);
  if (rows_ == 0) {
    auto states = subject_.model.hidden(pass);
    return {std::move(states), std::move(pass)};
  }
  KvCache cache;
  {
    const std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      cache = std::move(free_.back());
      free_.pop_back();
    }
  }
  if (cache.keys.empty()) cache = copy(prefix_, rows_);
  auto states = run(pass, cache, rows_);
  pass.cache = nullptr;
  const std::lock_guard lock(mutex_);
  free_.push_back(std::move(cache));
  return {std::move(states), std::move(pass)};
}

}  // namespace retort
