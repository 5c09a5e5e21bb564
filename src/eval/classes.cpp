#include "eval/classes.h"

#include <algorithm>
#include <numeric>

#include "eval/significance.h"

namespace retort {
namespace {

// Of every class that is expected: expected, given, right.
struct Counts {
  explicit Counts(size_t names) : expected(names), given(names), right(names) {}
  void add(size_t wanted, size_t answer) {
    ++expected[wanted];
    ++given[answer];
    right[wanted] += wanted == answer;
  }
  std::vector<int64_t> expected, given, right;
};

}  // namespace

double f1(int64_t expected, int64_t given, int64_t right) {
  return right == 0 ? 0 : 2 * static_cast<double>(right) / static_cast<double>(expected + given);
}

void Classes::add(const std::string& expected, const std::string& given) {
  const auto wanted = number_of(expected);
  samples_.emplace_back(wanted, number_of(given));
}

size_t Classes::number_of(const std::string& name) {
  const auto [at, fresh] = by_name_.emplace(name, names_.size());
  if (fresh) names_.push_back(name);
  return at->second;
}

double Classes::accuracy() const {
  const auto right = std::count_if(samples_.begin(), samples_.end(),
                                   [](const auto& sample) { return sample.first == sample.second; });
  return static_cast<double>(right) / static_cast<double>(samples_.size());
}

double Classes::macro_f1_of(const std::vector<size_t>& samples) const {
  Counts counts(names_.size());
  for (const auto i : samples) counts.add(samples_[i].first, samples_[i].second);
  double sum = 0;
  int64_t classes = 0;
  for (size_t c = 0; c < names_.size(); ++c) {
    if (counts.expected[c] == 0) continue;
    sum += f1(counts.expected[c], counts.given[c], counts.right[c]);
    ++classes;
  }
  return sum / static_cast<double>(classes);
}

double Classes::macro_f1() const {
  std::vector<size_t> all(samples_.size());
  std::iota(all.begin(), all.end(), size_t{0});
  return macro_f1_of(all);
}

Interval Classes::macro_f1_interval() const {
  return bootstrap_interval(samples_.size(),
                            [&](const std::vector<size_t>& drawn) { return macro_f1_of(drawn); });
}

double Classes::weighted_f1() const {
  Counts counts(names_.size());
  for (const auto& [wanted, answer] : samples_) counts.add(wanted, answer);
  double sum = 0;
  for (size_t c = 0; c < names_.size(); ++c)
    sum += static_cast<double>(counts.expected[c]) * f1(counts.expected[c], counts.given[c], counts.right[c]);
  return sum / static_cast<double>(samples_.size());
}

double Classes::majority() const {
  std::vector<int64_t> expected(names_.size());
  for (const auto& sample : samples_) ++expected[sample.first];
  return static_cast<double>(*std::max_element(expected.begin(), expected.end())) /
         static_cast<double>(samples_.size());
}

std::vector<ClassCount> Classes::table() const {
  Counts counts(names_.size());
  for (const auto& [wanted, answer] : samples_) counts.add(wanted, answer);
  std::vector<size_t> order;
  for (size_t c = 0; c < names_.size(); ++c)
    if (counts.expected[c] > 0) order.push_back(c);
  if (order.size() < 2 || order.size() * 2 > samples_.size()) return {};
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return counts.expected[a] != counts.expected[b] ? counts.expected[a] > counts.expected[b]
                                                    : names_[a] < names_[b];
  });
  std::vector<size_t> column(names_.size(), order.size());  // what is no class comes last
  for (size_t i = 0; i < order.size(); ++i) column[order[i]] = i;
  std::vector<ClassCount> table;
  for (const auto c : order)
    table.push_back({names_[c], counts.expected[c], counts.given[c], counts.right[c],
                     std::vector<int64_t>(order.size() + 1)});
  for (const auto& [wanted, answer] : samples_) ++table[column[wanted]].answers[column[answer]];
  return table;
}

}  // namespace retort
