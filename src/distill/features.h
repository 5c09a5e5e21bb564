// Losses between what layers of student and teacher make of the same forest, added to the divergence of their
// outputs. Rows that are supervised count, each with its targets' weight:
//   hidden     |P s - t|^2 / |t|^2, s and t what leaves the layers, P [E of t, E of s] learned (the identity
//   where it fits at first) attention  KL(mean over heads of the teacher's attention || the student's) of the
//   row's query over the keys it sees
#pragma once
#include <map>
#include <vector>

#include "distill/feature_spec.h"
#include "models/model.h"

namespace retort {

// The rows that targets name, each once, with the targets that share it.
struct SupervisedRows {
  std::vector<int32_t> rows;
  std::vector<std::vector<const Target*>> targets;
  std::vector<double> weight;  // summed over the targets
  double total = 0;
};
SupervisedRows supervised_rows(const std::vector<Target>& targets);

// What a pass said of the layers that were listened to.
struct Heard {
  struct Attention {
    Tensor q, k;
    double scale = 0, soft_cap = 0;
    int64_t window = 0;
  };
  std::map<int64_t, Tensor> hidden;
  std::map<int64_t, Attention> attention;
};

class Features {
 public:
  // RecipeError for layers that a model does not have.
  Features(std::vector<FeatureSpec> specs, const ModelConfig& student, const ModelConfig& teacher,
           uint64_t seed);

  enum class Side { student, teacher };
  void listen(Pass& pass, Side side, Heard& heard) const;  // `heard` must outlive the pass's use
  // Sum in nats, or shares of the teacher's squares, weighted by specs and rows; a graph to the student and
  // the projections.
  Tensor loss(const Heard& student, const Heard& teacher, const SupervisedRows& rows, const Pass& pass) const;
  // The projections, trained with the student and needed by nobody afterwards.
  std::vector<NamedTensor> leaves();

 private:
  std::vector<FeatureSpec> specs_;
  std::vector<Tensor> projections_;  // one a spec, undefined for attention
};

}  // namespace retort
