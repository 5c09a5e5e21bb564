// What the families share: attention, the gated feed-forward layer, and a stack of equal layers.
// N tokens of a forest, E hidden, H query heads, K key/value heads, D head width, F intermediate.
#pragma once
#include <memory>
#include <optional>

#include "models/model.h"
#include "models/rotary.h"
#include "models/tensor_names.h"
#include "ops/attend.h"
#include "ops/gated.h"
#include "ops/keep_rows.h"
#include "ops/norm.h"

namespace retort {

// Where a family takes its weights from, by their place in the model; every shape is checked against what the
// config asks for.
class Parts {
 public:
  Parts(const ModelConfig& model_config, const std::function<Linear(const TensorPlace& place)>& take_linear,
        const std::function<Tensor(const TensorPlace& place)>& take_vector,
        const std::function<Weight(const TensorPlace& place)>& take_matrix)
      : config(model_config),
        take_linear_(take_linear),
        take_vector_(take_vector),
        take_matrix_(take_matrix) {}
  // Of no file: matrices of the configuration's shapes without numbers, vectors of zeros.
  explicit Parts(const ModelConfig& model_config);

  Linear linear(const TensorPlace& place, int64_t out, int64_t in, bool bias = false) const;
  Linear router(int64_t layer) const;  // fp32 in every file and precision
  Norm norm(const TensorPlace& place, int64_t width, double offset = 0) const;
  Tensor vector(const TensorPlace& place, int64_t width) const;  // fp32
  Linear embedding() const;

  const ModelConfig& config;

 private:
  const std::function<Linear(const TensorPlace&)>& take_linear_;
  const std::function<Tensor(const TensorPlace&)>& take_vector_;
  const std::function<Weight(const TensorPlace&)>& take_matrix_;
};

std::shared_ptr<const Rotary> make_rotary(const ModelConfig& config);
AttendRule attend_rule(const ModelConfig& config, int64_t layer);  // with the window where this layer has one

Tensor split_heads(const Tensor& x, int64_t heads);  // [N,H*D] -> [N,H,D]

// Queries that grow along a text (RopeConfig::query_beta).
struct QueryGrowth {
  double beta = 0;
  int64_t places = 0;  // by each so many

  explicit QueryGrowth(const RopeConfig& rope)
      : beta(rope.query_beta.value_or(0)), places(rope.original_context) {}
  Tensor grown(const Tensor& q, const Tensor& positions) const;  // q [N,H,D]
};

struct Attention {
  Linear q_proj, k_proj, v_proj, o_proj;
  std::optional<Norm> q_norm, k_norm;    // before the rotation: over D (Qwen 3, Gemma 3), or over all heads
  bool norms_span_heads = false;         // at once (Olmo 2 and 3)
  std::shared_ptr<const Rotary> rotary;  // nullptr: this layer rotates none
  RotatedPart rotated;
  AttendRule rule;
  int64_t heads = 0, kv_heads = 0;
  QueryGrowth growth;

  Attention(const Parts& parts, int64_t layer, std::shared_ptr<const Rotary> layer_rotary);
  Tensor forward(const Tensor& x, const Pass& pass) const;  // [N,E] -> [N,E]
  template <class Visit> void linears(Visit&& visit) {
    visit(q_proj), visit(k_proj), visit(v_proj), visit(o_proj);
  }
};

// Gate and up as rows of one matrix.
struct FusedMlp {
  Linear gate_up_proj, down_proj;

  FusedMlp(const Parts& parts, int64_t layer);
  Tensor forward(const Tensor& x, const Pass& pass, Wanted wanted = Wanted::value) const;  // [N,E] -> [N,E]
  template <class Visit> void linears(Visit&& visit) { visit(gate_up_proj), visit(down_proj); }
};

// Which of a layer's feed-forward parts.
struct GatedRoles {
  Role gate = Role::gate, up = Role::up, down = Role::down;
};

struct GatedMlp {
  Linear gate_proj, up_proj, down_proj;
  Activation activation;

  GatedMlp(const Parts& parts, int64_t layer, Activation how)
      : GatedMlp(parts, layer, how, parts.config.intermediate, {}) {}
  GatedMlp(const Parts& parts, int64_t layer, Activation how, int64_t width, const GatedRoles& roles);
  Tensor forward(const Tensor& x, const Pass& pass, Wanted wanted = Wanted::value) const;  // [N,E] -> [N,E]
  template <class Visit> void linears(Visit&& visit) { visit(gate_proj), visit(up_proj), visit(down_proj); }
};

// A model whose layers are all of one kind, made by `make(index)`. `Layer` has forward(x, pass),
// linears(visit) and norms(visit); a layer with experts also has router(), which is none of its linears, and
// one with further vectors has vectors(visit), which hears (place, tensor).
template <class Layer> class Stack : public Model {
 public:
  template <class Make> Stack(const Parts& parts, double norm_offset, Make&& make) : Model(parts.config) {
    embedding = parts.embedding();
    norm = parts.norm({.role = Role::final_norm}, config.hidden, norm_offset);
    head.soft_cap = config.final_soft_cap;
    if (config.tied_head) {
      head.linear.place = {.role = Role::head};
      head.linear.name = module_name(config, head.linear.place);
      head.linear.weight = embedding.weight;
    } else {
      head.linear = parts.linear({.role = Role::head}, config.vocabulary, config.hidden);
    }
    for (int64_t i = 0; i < config.layers; ++i) layers.push_back(make(i));
    for (auto& each : layers) {
      each.norms([&](Norm& part) { list(part); });
      if constexpr (requires { each.router(); }) list_router(each.router());
      if constexpr (requires { each.vectors([](const TensorPlace&, Tensor&) {}); })
        each.vectors([&](const TensorPlace& place, Tensor& vector) { list(place, vector); });
      each.linears([&](Linear& linear) { list(linear); });
    }
    list(norm);
  }
  Tensor layer(int64_t index, const Tensor& x, const Pass& pass) const override {
    return layers.at(static_cast<size_t>(index)).forward(x, pass);
  }
  const SparseMlp* experts_of(int64_t index) const override {
    if constexpr (kSparse) return layers.at(static_cast<size_t>(index)).experts();
    else return Model::experts_of(index);
  }
  IndexLearned* index_learned(int64_t index) const override {
    const auto& layer = layers.at(static_cast<size_t>(index));
    if constexpr (requires { layer.indexer(); })
      return layer.indexer() ? layer.indexer()->learned.get() : nullptr;
    else return nullptr;
  }
  Halfway before_experts(int64_t index, const Tensor& x, const Pass& pass) const override {
    if constexpr (kSparse) return layers.at(static_cast<size_t>(index)).attend(x, pass);
    else return Model::before_experts(index, x, pass);
  }
  // A head is linear, so that what divides its results may as well divide what enters it.
  Tensor finish(const Tensor& x, const Pass&) const override {
    const auto normed = rms_norm(x, norm);
    return config.logit_divisor == 1 ? normed : normed / config.logit_divisor;
  }

  std::vector<Layer> layers;
  Norm norm;

 private:
  static constexpr bool kSparse = requires(const Layer& layer) { layer.experts(); };
};

// A stack of layers made from (parts, index, the rotation that they share).
template <class Layer> std::unique_ptr<Model> stack_of(const Parts& parts, double norm_offset) {
  return std::make_unique<Stack<Layer>>(
      parts, norm_offset,
      [&, rotary = make_rotary(parts.config)](int64_t index) { return Layer(parts, index, rotary); });
}

}  // namespace retort
