// What a model would need, from its shape alone: before its weights are bought, downloaded or fit anywhere.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "adapters/adapter_spec.h"
#include "models/model.h"
#include "plan/rank_plan.h"

namespace retort {

struct ModelShape {
  double parameters = 0, active = 0;  // of the whole model, and those that a token meets
  double layer_bytes = 0;             // as they are stored
  double largest_layer = 0;
  double outside_bytes = 0;  // embedding, head, norms and routers: these stay in memory
  double linear_flop = 0;    // of a token, forward, the head's included
  double flop_a_key = 0;     // of a token, for each token that it attends to
  // Of a token, forward, in layers with experts: what stands in front of those, which backward computes
  // twice.
  double before_experts_flop = 0;
  // Of a token, forward: the products that layers end with, which nobody computes again; the others of layers
  // with experts, which are computed again wherever activations are kept.
  double last_flop = 0, sparse_flop = 0;
  // Where an indexer leaves tokens out: how many it leaves; of a token, for each that it attends to then, and
  // for each that the indexer looks at.
  double chosen = 0, flop_a_chosen_key = 0, flop_an_index_key = 0;
  double trained_numbers = 0;  // of the adapter
};
// Of a token of a text of so many, on the average.
double attention_flop(const ModelShape& shape, double length);
// `stored`: of the layers' matrices, where a row allows it (fitting_type()); embedding and head are BF16.
ModelShape shape_of(Model& model, WeightType stored, const AdapterSpec& adapter);

// Of the products that the machine's registers allow: the share that whole passes by layers reach on two Zen
// 4 cores that read from disk beside, by tools/bench/large on 14.5 GB of V3.2's layout in 3 GiB with its page
// cache. To measure one anew, multiply it by the seconds planned and divide by those measured.
// Reading, as teaching and scoring do: 8 texts of 1,024 tokens in 96 s (planned: 93), before experts went
// side by side; the one run since took 66 s, on another machine.
inline constexpr double kReadingReached = 0.55;
// A LoRA step over 4 texts of 1,024 tokens, waiting in a scratch file: 176 s (planned: 153), before experts
// went side by side; not measured since.
inline constexpr double kTrainingReached = 0.55;

struct PlanMachine {
  double memory = 0;               // bytes for weights and texts between two layers (model.memory)
  double scratch = 0;              // bytes of disk where texts wait instead (model.scratch); 0: in memory
  bool keeps_activations = false;  // there (model.scratch_holds: activations)
  double disk = 0;                 // bytes a second
  double products = 0;             // multiply-adds count two; a second, of all threads
  int64_t threads = 1;             // each has a text at work
  std::optional<double> hourly;    // price
};
struct PlanText {
  double tokens = 0, length = 0;  // in all, and of one text
};

// One use of a model, layer by layer from its file.
struct PlanRow {
  std::string use;
  double memory = 0;         // resident bytes
  double tokens_a_pass = 0;  // that go through the model together
  double scratch = 0;        // bytes of disk that they wait in
  double bytes_read = 0, flop = 0;
  double disk_seconds = 0, product_seconds = 0;
  double seconds() const {
    return std::max(disk_seconds, product_seconds);
  }  // one reads while the other works
};
// Teaching or scoring, and a pass of LoRA training, over all tokens.
std::vector<PlanRow> plan_rows(const Model& model, const ModelShape& shape, const PlanMachine& machine,
                               const PlanText& text, const AdapterSpec& adapter);

// LoRA training with the model in memory, as ranks do it: one that is alone takes a step of `text.tokens`,
// each text a forest of its own, at `machine.products` of its `machine.threads`.
LoneStep lone_step(const ModelShape& shape, const PlanMachine& machine, const PlanText& text);
// Matrices are pages of the file (model.weights: keep).
BytesOfRank bytes_of_rank(const Model& model, const ModelShape& shape, const PlanMachine& machine,
                          const PlanText& text, const AdapterSpec& adapter);

}  // namespace retort
