// Answers as classes: what each of them is recognised by, and what a model that always gave the same one
// would score.
#pragma once
#include <map>

#include "eval/result.h"

namespace retort {

// The classes are the answers that are expected, white space at both ends aside; a given answer that is none
// of them is a wrong one of no class. As scikit-learn's f1_score(labels=<expected ones>, zero_division=0).
class Classes {
 public:
  void add(const std::string& expected, const std::string& given);  // trimmed

  double macro_f1() const;     // the mean over the classes
  double weighted_f1() const;  // weighted by how often each is expected
  double majority()
      const;  // the share of the most frequent one: right answers of a model that knows no other
  double accuracy() const;
  // The classes, the most frequent first (equal ones by name), with the confusion between them; empty where
  // answers do not repeat: fewer than two classes, or fewer than two samples for each of them.
  std::vector<ClassCount> table() const;

  // Seeded bootstrap over the samples.
  Interval macro_f1_interval() const;

 private:
  double macro_f1_of(const std::vector<size_t>& samples) const;
  size_t number_of(const std::string& name);
  std::vector<std::string> names_;                  // expected ones, then others
  std::vector<std::pair<size_t, size_t>> samples_;  // expected, given
  std::map<std::string, size_t> by_name_;
};

// 2 right / (expected + given), 0 where nothing is right.
double f1(int64_t expected, int64_t given, int64_t right);

}  // namespace retort
