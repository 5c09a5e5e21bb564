// Which experts of each layer a student keeps, and what its matrices are.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "models/experts.h"
#include "student/prune.h"

namespace retort {

using LinearsByPlace = std::map<TensorPlace, const Linear*>;

// RecipeError when the spec asks for more experts than there are, or a width of a model that has any.
void check_experts(const PruneSpec& spec, const ModelConfig& config);

class ExpertCut {
 public:
  // `layers`: those that are kept, by number in the source. `importance` and `linears` (of the source) must
  // outlive this.
  ExpertCut(const PruneSpec& spec, const ModelConfig& config, const Importance& importance,
            const std::vector<int64_t>& layers, const LinearsByPlace& linears);

  const std::vector<int64_t>& kept(int64_t layer) const { return layers_.at(layer).kept; }
  std::vector<std::vector<int64_t>> kept() const;  // of every kept layer
  Weight matrix(int64_t layer,
                const TensorPlace& student);  // of the student's expert, cut from this layer of the source

  std::vector<std::string> lines;  // what and why

 private:
  struct Layer {
    std::vector<int64_t> kept;
    std::vector<std::vector<int64_t>> merged;  // into each kept one, rising
  };
  std::string choose(const PruneSpec& spec, const Importance::Experts& measured, Layer& layer) const;
  std::string assign_dropped(const Importance::Experts& measured, Layer& layer) const;
  ExpertMatrices matrices(int64_t layer, int64_t expert) const;

  int64_t experts_ = 0;
  const Importance& importance_;
  const LinearsByPlace& linears_;
  std::map<int64_t, Layer> layers_;
  // Layer and expert whose matrices `merged_` holds: the three of an expert are asked for in turn.
  std::optional<std::pair<int64_t, int64_t>> merged_for_;
  ExpertMatrices merged_;
};

// The `count` largest, in their old order; all when count is 0.
std::vector<int64_t> best(const std::vector<double>& scores, int64_t count);

}  // namespace retort
