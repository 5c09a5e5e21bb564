#include "data/record_plan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/random.h"
#include "data/dataset.h"
#include "data/near_duplicates.h"
#include "data/personal_data.h"
#include "data/record_list.h"

namespace retort {
namespace {

struct Facts {
  int64_t row = 0;
  ContentKey key = {};
  uint64_t group = 0;  // what the split goes by
  int32_t source = 0;
  bool personal = false;
};

Facts facts_of(const DataSpec& spec, int64_t row, const Record& record) {
  Facts facts{row, record_key(record), 0, record.source,
              spec.personal_data == "leave_out" && personal_data(record) != 0};
  facts.group = facts.key.high;
  if (!record.group.empty()) {
    Sha256 hash;
    facts.group = content_key(hash.add("group:").add(record.group)).high;
  }
  return facts;
}

// The rejecting sources, and what came of their records.
class Judges {
 public:
  Judges(const DataSpec& spec, std::vector<RejectionCounts>& counts)
      : spec_(spec), counts_(counts), judges_(spec.sources.size()) {
    for (size_t s = 0; s < spec.sources.size(); ++s)
      if (spec.sources[s].reject) judges_[s].emplace(*spec.sources[s].reject, where(s));
  }

  bool reads(int32_t source) const { return spec_.sources[static_cast<size_t>(source)].reject.has_value(); }

  bool passes(const Record& record) {
    const auto s = static_cast<size_t>(record.source);
    begin(s);
    auto& counts = counts_.back();
    ++counts.records;
    const auto why = judges_[s]->judge(record);
    if (why) ++counts.rejected[static_cast<size_t>(*why)];
    return !why;
  }

  // Sources come one after another: one that is over must have left something.
  void begin(size_t source) {
    if (source == current_) return;
    end();
    current_ = source;
    if (source < judges_.size() && judges_[source]) counts_.push_back({spec_.sources[source].path});
  }

 private:
  static std::string where(size_t source) { return fmt::format("data.sources[{}]", source); }
  void end() {
    if (current_ >= judges_.size() || !judges_[current_]) return;
    const auto& counts = counts_.back();
    if (counts.total() == counts.records)
      throw RecipeError(fmt::format("{}.reject: nothing is left: {}", where(current_), describe(counts)));
    judges_[current_].reset();  // what it remembers of the answers
  }
  const DataSpec& spec_;
  std::vector<RejectionCounts>& counts_;
  std::vector<std::optional<Judge>> judges_;
  size_t current_ = std::numeric_limits<size_t>::max();
};

// A source of nothing but bad records is a mistake in how it is read.
void require_some(const DataSpec& spec, size_t source, const std::vector<Facts>& all, const BadRecords& bad) {
  if (spec.sources[source].reject) return;  // the judges say it
  for (const auto& facts : all)
    if (facts.source == static_cast<int32_t>(source)) return;
  throw RecipeError(fmt::format("data.sources[{}]: no record is left: {}", source, describe(bad)));
}

// Facts of what no judge rejects, in the order of the rows; `rows` becomes how many rows there are.
std::vector<Facts> gather(const DataSpec& spec, const RecordSource& source,
                          std::vector<RejectionCounts>& rejections, std::vector<BadRecords>& bad,
                          int64_t& rows) {
  std::vector<Facts> all;
  Judges judges(spec, rejections);
  std::vector<BadRecords> by_source(spec.sources.size());
  source.pass(
      nullptr,
      [&](int64_t row, Record record) -> RecordSource::Later {
        const auto facts = facts_of(spec, row, record);
        const bool judged = judges.reads(record.source);
        const auto kept = judged ? std::make_shared<const Record>(std::move(record)) : nullptr;
        return [&, facts, kept] {
          rows = facts.row + 1;
          if (!kept) judges.begin(static_cast<size_t>(facts.source));
          if (!kept || judges.passes(*kept)) all.push_back(facts);
        };
      },
      [&](int32_t of, const std::string& problem, bool empty) {
        by_source[static_cast<size_t>(of)].add(problem, empty);
      });
  for (size_t s = 0; s < by_source.size(); ++s) {
    if (by_source[s].count + by_source[s].empty == 0) continue;
    by_source[s].path = spec.sources[s].path;
    bad.push_back(by_source[s]);
    require_some(spec, s, all, bad.back());
  }
  judges.begin(spec.sources.size());
  return all;
}

void leave_out_forgotten(const DataSpec& spec, std::vector<Facts>& all, RecordPlan& plan) {
  if (spec.forget.empty()) return;
  const auto hashes = read_forget_list(spec.forget);
  plan.forgotten = static_cast<int64_t>(
      std::erase_if(all, [&](const Facts& facts) { return hashes.contains(record_hash(facts.key)); }));
}

void leave_out_personal(std::vector<Facts>& all, RecordPlan& plan) {
  const auto end = std::remove_if(all.begin(), all.end(), [](const Facts& facts) { return facts.personal; });
  plan.personal = all.end() - end;
  all.erase(end, all.end());
}

void leave_out_near_duplicates(const DataSpec& spec, const RecordSource& source, std::vector<Facts>& all,
                               RecordPlan& plan) {
  if (!spec.near_duplicates.remove) return;
  const auto of_row = [&](int64_t row) {  // rows are in order
    return std::lower_bound(all.begin(), all.end(), row,
                            [](const Facts& facts, int64_t wanted) { return facts.row < wanted; });
  };
  const auto is_kept = [&](int64_t row) {
    return spec.sources[static_cast<size_t>(of_row(row)->source)].use == "held_out";
  };
  const auto found = find_near_duplicates(
      source, spec.near_duplicates.similarity,
      [&](int64_t row) {
        const auto at = of_row(row);
        return at != all.end() && at->row == row;
      },
      is_kept);
  std::vector<int64_t> gone;
  for (const auto& [row, earlier] : found.pairs)
    if (!is_kept(row)) gone.push_back(row);
  plan.near_duplicates = static_cast<int64_t>(gone.size());
  std::erase_if(all,
                [&](const Facts& facts) { return std::binary_search(gone.begin(), gone.end(), facts.row); });
}

// Keeps `limit` of each source's records, chosen by hash.
void keep_some(const DataSpec& spec, std::vector<Facts>& all) {
  const Draws draws(static_cast<uint64_t>(spec.seed), "limit");
  std::vector<Facts> kept;
  for (size_t begin = 0; begin < all.size();) {
    size_t end = begin;
    while (end < all.size() && all[end].source == all[begin].source) ++end;
    const auto limit = spec.sources.at(static_cast<size_t>(all[begin].source)).limit;
    if (limit <= 0 || static_cast<size_t>(limit) >= end - begin) {
      kept.insert(kept.end(), all.begin() + static_cast<std::ptrdiff_t>(begin),
                  all.begin() + static_cast<std::ptrdiff_t>(end));
    } else {
      std::vector<std::pair<uint64_t, size_t>> order;
      for (size_t i = begin; i < end; ++i) order.emplace_back(draws.bits(all[i].key.high), i);
      std::nth_element(order.begin(), order.begin() + limit, order.end());
      order.resize(static_cast<size_t>(limit));
      std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
      for (const auto& [draw, i] : order) kept.push_back(all[i]);
    }
    begin = end;
  }
  all = std::move(kept);
}

std::vector<bool> held_out_of(const DataSpec& spec, const std::vector<Facts>& all) {
  const Draws draws(static_cast<uint64_t>(spec.seed), "held_out");
  std::vector<bool> held(all.size(), false);
  std::vector<std::pair<uint64_t, size_t>> order;
  for (size_t i = 0; i < all.size(); ++i) {
    const auto& use = spec.sources.at(static_cast<size_t>(all[i].source)).use;
    if (use == "held_out") held[i] = true;
    if (use != "both") continue;
    if (spec.held_out.count == 0) held[i] = draws.uniform(all[i].group) < spec.held_out.fraction;
    else order.emplace_back(draws.bits(all[i].group), i);
  }
  if (spec.held_out.count > 0) {
    // Equal draws are equal samples or one group: they go together, so the count may be exceeded by the last
    // group.
    std::sort(order.begin(), order.end());
    for (size_t i = 0; i < order.size(); ++i) {
      const bool with_previous = i > 0 && order[i].first == order[i - 1].first && held[order[i - 1].second];
      if (i < static_cast<size_t>(spec.held_out.count) || with_previous) held[order[i].second] = true;
    }
  }
  return held;
}

int64_t count_duplicates(const std::vector<Facts>& all) {
  std::vector<ContentKey> keys;
  keys.reserve(all.size());
  for (const auto& facts : all) keys.push_back(facts.key);
  std::sort(keys.begin(), keys.end());
  return static_cast<int64_t>(keys.end() - std::unique(keys.begin(), keys.end()));
}

// How often a training sample is used in an epoch: the whole part of the weight, and once more with its
// fraction.
int64_t uses(double weight, uint64_t key, const Draws& draws) {
  const double whole = std::floor(weight);
  return static_cast<int64_t>(whole) + (draws.uniform(key) < weight - whole ? 1 : 0);
}

void count_groups(const std::vector<Facts>& all, const std::vector<bool>& held, RecordPlan& plan) {
  std::vector<std::pair<uint64_t, bool>> groups;
  groups.reserve(all.size());
  for (size_t i = 0; i < all.size(); ++i) groups.emplace_back(all[i].group, held[i]);
  std::sort(groups.begin(), groups.end());
  for (size_t i = 0; i < groups.size(); ++i) {
    const bool last = i + 1 == groups.size() || groups[i + 1].first != groups[i].first;
    plan.groups += last;
    plan.held_out_groups += last && groups[i].second;
  }
}

void plan_rows(const DataSpec& spec, const std::vector<Facts>& all, int64_t rows, RecordPlan& plan) {
  plan.rows.resize(static_cast<size_t>(rows));
  plan.records = static_cast<int64_t>(all.size());
  plan.duplicates = count_duplicates(all);
  plan.sources.resize(spec.sources.size());
  const auto held = held_out_of(spec, all);
  const Draws draws(static_cast<uint64_t>(spec.seed), "weight");
  for (size_t i = 0; i < all.size(); ++i) {
    auto& row = plan.rows[static_cast<size_t>(all[i].row)];
    row = {held[i] ? Side::held_out : Side::train, 1};
    auto& use = plan.sources.at(static_cast<size_t>(all[i].source));
    ++use.records;
    ++(held[i] ? use.held_out : use.train);
    if (held[i]) continue;
    row.copies = uses(spec.sources.at(static_cast<size_t>(all[i].source)).weight, all[i].key.high, draws);
    use.samples += row.copies;
    if (row.copies == 0) ++plan.left_out;
    else plan.repeats += row.copies - 1;
  }
  count_groups(all, held, plan);
}

}  // namespace

void BadRecords::add(const std::string& problem, bool without_text) {
  ++(without_text ? empty : count);
  if (!without_text && first.size() < kShown) first.push_back(problem);
}

std::string describe(const BadRecords& bad) {
  std::string text = printable(bad.path) + ":";
  const auto records = [](int64_t count) { return count == 1 ? "record" : "records"; };
  if (bad.count > 0)
    text += fmt::format(" {} bad {} left out (on_bad_record: skip)", bad.count, records(bad.count));
  if (bad.empty > 0)
    text += fmt::format("{} {} {} without a text left out (skip_empty)", bad.count > 0 ? "," : "", bad.empty,
                        records(bad.empty));
  for (const auto& problem : bad.first) text += "\n  " + problem;
  if (static_cast<size_t>(bad.count) > bad.first.size())
    text += fmt::format("\n  and {} more", static_cast<size_t>(bad.count) - bad.first.size());
  return text;
}

std::vector<std::string> left_out_lines(const RecordPlan& plan) {
  std::vector<std::string> lines;
  const auto add = [&](int64_t count, const char* what) {
    if (count > 0)
      lines.push_back(fmt::format("{} record{} left out that {}", count, count == 1 ? "" : "s", what));
  };
  add(plan.forgotten, "are to be forgotten (data.forget)");
  add(plan.personal, "hold personal data (data.personal_data: leave_out)");
  add(plan.near_duplicates, "are nearly the same as another (data.near_duplicates.remove)");
  return lines;
}

RecordPlan plan_records(const DataSpec& spec, const RecordSource& source) {
  std::vector<RejectionCounts> rejections;
  std::vector<BadRecords> bad;
  int64_t rows = 0;
  auto all = gather(spec, source, rejections, bad, rows);
  RecordPlan plan;
  leave_out_forgotten(spec, all, plan);
  leave_out_personal(all, plan);
  leave_out_near_duplicates(spec, source, all, plan);
  keep_some(spec, all);
  plan_rows(spec, all, rows, plan);
  plan.bad = std::move(bad);
  plan.rejections = std::move(rejections);
  return plan;
}

RecordPlan plan_chosen(const DataSpec& spec, const RecordSource& source) {
  auto chosen = spec;
  for (auto& one : chosen.sources) one.reject.reset(), one.limit = 0;
  chosen.near_duplicates.remove = false;
  chosen.personal_data = "report";
  return plan_records(chosen, source);
}

}  // namespace retort
